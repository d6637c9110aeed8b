"""What was paid for is kept by content: scores, samples and answers, in files that only grow.

An entry belongs to a store's key (a model's content, the way it was computed) and to a digest of what was asked.
Whatever is not in a store under both is computed; nothing else is looked at, so that a store can be stale, foreign
or damaged without harm. Each batch is appended when it is done, as an Arrow message behind its length and a digest;
a killed process loses the one at hand, and damage costs those that it is in.

A process holds the digests (16 bytes an entry) and, of numbers, the values; all else stays in the mapped files.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnpo.common.digests import SIZE, bytes_digest
from mnpo.common.files import umask
from mnpo.llm.storage.mapped import let_go, mapped

#: Digests, as numpy sorts and finds them: (N,).
Digests = npt.NDArray[np.bytes_]
Places = npt.NDArray[np.int64]
#: Bytes of a store's files that are checked between two times that their pages are given back.
_CHECKED = 64 << 20
#: What a block begins with; its length (8 bytes) and digest follow.
_MAGIC = b"mnpo-1\r\n"
_HEAD = len(_MAGIC) + 8 + SIZE
#: Blocks are multiples of so many bytes long, so that numbers lie where processors like them.
_ALIGNED = 8
#: Bytes that are searched at once for the next block after a damaged one.
_SEARCHED = 1 << 20
#: How a store's files end.
_ENDING = ".blocks"


def key_digest(key: Mapping[str, Any]) -> str:
    """Return a digest of a store's key, in hexadecimal."""
    return bytes_digest(json.dumps(key, sort_keys=True).encode()).hex()


def as_digests(found: Sequence[bytes]) -> Digests:
    """Return digests as one array, (N,)."""
    return np.frombuffer(b"".join(found), dtype=f"S{SIZE}")


class Store:
    """Entries under one key, in a folder.

    Args:
        folder: holds the stores of all keys.
        key: what entries depend on besides their digests: the model's fingerprint, the precision and so on.
        value: Arrow's type of an entry.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], value: pa.DataType) -> None:
        self.key = key_digest(key)
        self.folder = folder / self.key
        self.value = value

    def kept(self) -> Kept:
        """Return all entries that are whole and belong to this key, as they are now."""
        digests: list[Digests] = []
        values: list[npt.NDArray[np.float64]] = []
        blocks: list[pa.Buffer] = []
        schema = _schema(self.value)
        size = 0
        for file in sorted(self.folder.glob(f"*{_ENDING}")):
            for block in blocks_of(file, self.key):
                batch = pa.ipc.read_record_batch(block, schema)
                if not len(batch):
                    continue
                digests.append(_digests_in(batch))
                if pa.types.is_float64(self.value):
                    values.append(np.array(batch.column(1)))
                else:
                    blocks.append(block)
                size += batch.nbytes
                if size > _CHECKED:
                    size = 0
                    let_go()
        let_go()
        lengths = [len(part) for part in digests]
        everything = np.concatenate(digests) if digests else as_digests([])
        numbers = np.concatenate(values) if values else np.empty(0)
        return Kept(everything, self.value, numbers, blocks, np.cumsum([0, *lengths]))

    def load(self) -> dict[bytes, Any]:
        """Return all entries as Python objects."""
        found = self.kept()
        values = found.values(np.arange(len(found.digests))).to_pylist()
        width = f"V{SIZE}"
        return dict(zip((bytes(one) for one in found.digests.view(width)), values, strict=True))

    def writer(self) -> Writer:
        """Open a new file of this store to append to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place = len(list(self.folder.glob(f"*{_ENDING}")))
        handle, _ = tempfile.mkstemp(dir=self.folder, prefix=f"{place:05d}-", suffix=_ENDING)
        os.fchmod(handle, 0o666 & ~umask())  # others who share the store read it too
        return Writer(open(handle, "wb"), self.key, self.value)


class Kept:
    """The entries of a store: found by digest, read where they are wanted.

    Attributes:
        digests: (N,), in the order in which they were written; of equal ones the last counts.
    """

    def __init__(
        self,
        digests: Digests,
        value: pa.DataType,
        numbers: npt.NDArray[np.float64],
        blocks: Sequence[pa.Buffer],
        starts: Places,
    ) -> None:
        self.digests = digests
        self._value, self._numbers, self._blocks, self._starts = value, numbers, blocks, starts
        self._order = np.argsort(digests, kind="stable")
        self._sorted = digests[self._order]

    def __len__(self) -> int:
        return len(self.digests)

    def places(self, wanted: Digests) -> Places:
        """Return where the entries with some digests are, (N,); −1 for those that are not kept."""
        if not len(self._sorted):
            return np.full(len(wanted), -1)
        near = np.searchsorted(self._sorted, wanted, side="right") - 1
        return np.where((near >= 0) & (self._sorted[near] == wanted), self._order[near], -1)

    def has(self, wanted: Digests) -> npt.NDArray[np.bool_]:
        """Tell which digests are kept, (N,)."""
        return self.places(wanted) >= 0

    def numbers(self, wanted: Digests) -> npt.NDArray[np.float64]:
        """Return the entries of a store of numbers, (N,).

        Raises:
            KeyError: a digest that is not kept.
        """
        return self._numbers[self._known(wanted)]

    def of(self, wanted: Digests) -> pa.Array:
        """Return the entries with some digests; what is not numbers is read from the files.

        Raises:
            KeyError: a digest that is not kept.
        """
        return self.values(self._known(wanted))

    def values(self, places: Places) -> pa.Array:
        """Return the entries at some places."""
        if pa.types.is_float64(self._value):
            return pa.array(self._numbers[places])
        block_of = np.searchsorted(self._starts, places, side="right") - 1
        order = np.argsort(block_of, kind="stable")
        parts, schema = [], _schema(self._value)
        for one in np.unique(block_of):
            mine = places[order[block_of[order] == one]] if len(places) > 1 else places
            batch = pa.ipc.read_record_batch(self._blocks[one], schema)
            parts.append(batch.column(1).take(pa.array(mine - self._starts[one])))
        if not parts:
            return pa.array([], self._value)
        back = np.empty(len(places), dtype=np.int64)
        back[order] = np.arange(len(places))
        return pa.concat_arrays(parts).take(pa.array(back))

    def _known(self, wanted: Digests) -> Places:
        places = self.places(wanted)
        if (places < 0).any():
            raise KeyError("an entry that is not kept")
        return places


class Writer:
    """Appends batches of entries to one file; closed at the end of a `with` block."""

    def __init__(self, sink: Any, key: str, value: pa.DataType) -> None:
        self._sink = sink
        self._key = key
        self._schema = _schema(value)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()

    def append(self, digests: Sequence[bytes], values: Sequence[Any]) -> None:
        """Write one batch through to the file."""
        columns = [pa.array(digests, pa.binary(SIZE)), pa.array(values, self._schema.field("value").type)]
        content = pa.record_batch(columns, schema=self._schema).serialize()
        content = bytes(content) + bytes(-len(content) % _ALIGNED)
        length = struct.pack("<Q", len(content))
        self._sink.write(_MAGIC + length + _check(self._key, length, content) + content)
        self._sink.flush()


def blocks_of(file: Path, key: str) -> Iterator[pa.Buffer]:
    """Yield the Arrow messages in a store's file that are what was written, as they lie where it is mapped.

    Arrow trusts what it maps, and so it sees no other.

    Args:
        file: of the store.
        key: its key's digest.
    """
    try:
        content = mapped(file)
    except OSError:
        return
    everything, place = memoryview(content).cast("B"), 0
    while place + _HEAD <= len(everything):
        start = place + _HEAD
        length = everything[place + len(_MAGIC) : start - SIZE]
        end = start + int.from_bytes(length, "little")
        whole = everything[place : place + len(_MAGIC)] == _MAGIC and end <= len(everything)
        if whole and everything[start - SIZE : start] == _check(key, length, everything[start:end]):
            yield content.slice(start, end - start)
            place = end
        else:  # what is damaged, or was being written as the process was killed, costs no more than itself
            place = _next_mark(everything, place + 1)


def _next_mark(content: memoryview, start: int) -> int:
    """Return where the next block may begin."""
    while start < len(content):
        piece = bytes(content[start : start + _SEARCHED + len(_MAGIC) - 1])
        found = piece.find(_MAGIC)
        if found >= 0:
            return start + found
        start += _SEARCHED
    return len(content)


def _schema(value: pa.DataType) -> pa.Schema:
    return pa.schema([("digest", pa.binary(SIZE)), ("value", value)])


def _digests_in(batch: pa.RecordBatch) -> Digests:
    column = batch.column(0)
    start = column.offset * SIZE
    return np.frombuffer(column.buffers()[1], dtype=f"S{SIZE}", offset=start, count=len(column)).copy()


def _check(key: str, length: bytes | memoryview, content: bytes | memoryview) -> bytes:
    """A digest of a block and of the store that it belongs to."""
    found = hashlib.blake2b(key.encode(), digest_size=SIZE)
    found.update(length)
    found.update(content)
    return found.digest()
