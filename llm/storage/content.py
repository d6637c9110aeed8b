"""Digests of Arrow data: of what columns hold, however they are cut into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from mnpo.common.digests import SIZE


class Content:
    """The digest of a table that is given piece by piece; the order of columns does not matter."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    def update(self, piece: pa.RecordBatch | pa.Table) -> None:
        """Take in the next rows."""
        for name, column in zip(piece.schema.names, piece.columns, strict=True):
            chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
            for chunk in chunks:
                for path, content in _leaves(name, chunk):
                    part = self._parts.setdefault(path, hashlib.blake2b(digest_size=SIZE))
                    part.update(content)

    def hexdigest(self) -> str:
        """Return the digest of all that was taken in."""
        whole = hashlib.blake2b(digest_size=SIZE)
        for path in sorted(self._parts):
            whole.update(f"{path}\0".encode() + self._parts[path].digest())
        return whole.hexdigest()


def digest_of(pieces: Iterable[pa.RecordBatch | pa.Table]) -> str:
    """Return the digest of a table that comes in pieces, in hexadecimal."""
    content = Content()
    for piece in pieces:
        content.update(piece)
    return content.hexdigest()


def _leaves(path: str, array: pa.Array) -> Iterator[tuple[str, bytes | memoryview]]:
    """Yield the bytes of an array's parts: types, validity, lengths and values, without what padding may hold."""
    kind = array.type
    yield f"{path}:{'valid' if not pa.types.is_null(kind) else 'null'}", _validity(array)
    if pa.types.is_list(kind):
        yield f"{path}:lengths", _lengths(array, array.offset)
        yield from _leaves(f"{path}/item", array.flatten())
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            yield from _leaves(f"{path}/{kind.field(place).name}", array.field(place).slice(0))
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        yield f"{path}:lengths", _lengths(array, array.offset)
        yield path, _text(array)
    elif pa.types.is_boolean(kind):
        yield path, array.fill_null(False).cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes()
    elif not pa.types.is_null(kind):
        filled = array.fill_null(0) if array.null_count and not pa.types.is_fixed_size_binary(kind) else array
        yield f"{path}:{kind}", _fixed(filled)


def _validity(array: pa.Array) -> bytes:
    """One byte an entry: whether it is there."""
    if not array.null_count:
        return b"\1" * len(array)
    valid: bytes = array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes()
    return valid


def _lengths(array: pa.Array, start: int) -> bytes:
    import numpy as np

    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32, count=start + len(array) + 1)[start:]
    return np.diff(offsets).tobytes()


def _text(array: pa.Array) -> memoryview:
    """The bytes of all texts after each other."""
    import numpy as np

    start, count = array.offset, len(array)
    _, places, values = array.buffers()
    if values is None or not count:
        return memoryview(b"")
    offsets = np.frombuffer(places, dtype=np.int32, count=start + count + 1)
    return memoryview(values)[int(offsets[start]) : int(offsets[start + count])]


def _fixed(array: pa.Array) -> memoryview:
    """The bytes of numbers, or of entries that are all equally long."""
    width = array.type.bit_width // 8
    values = array.buffers()[1]
    if values is None or not len(array):
        return memoryview(b"")
    return memoryview(values)[array.offset * width : (array.offset + len(array)) * width]
