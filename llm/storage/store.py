"""What was paid for is kept by content: scores, samples and answers, in append-only Arrow streams.

An entry belongs to a store's key (a model's content, the way it was computed) and to a digest of what was asked.
Whatever is not in a store under both is computed; nothing else is looked at, so that a store can be stale, foreign
or damaged without harm. Each batch is appended when it is done: a killed process loses the one at hand.

A process holds the digests (16 bytes an entry) and, of numbers, the values; all else stays in the mapped files.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnpo.common.digests import SIZE, bytes_digest
from mnpo.common.files import umask
from mnpo.llm.storage.content import Content
from mnpo.llm.storage.mapped import let_go, mapped

#: Digests, as numpy sorts and finds them: (N,).
Digests = npt.NDArray[np.bytes_]
Places = npt.NDArray[np.int64]
#: Bytes of a store's files that are checked between two times that their pages are given back.
_CHECKED = 64 << 20


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
        blocks: list[_Block] = []
        size = 0
        for file in sorted(self.folder.glob("*.arrows")):
            for block in _whole_blocks(file, self.key):
                batch = block.batch
                if batch is None or not len(batch):
                    continue
                digests.append(_digests_in(batch))
                if pa.types.is_float64(self.value):
                    values.append(np.array(batch.column(1)))
                else:
                    blocks.append(block.placed())
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
        place = len(list(self.folder.glob("*.arrows")))
        handle, _ = tempfile.mkstemp(dir=self.folder, prefix=f"{place:05d}-", suffix=".arrows")
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
        blocks: Sequence[_Block],
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
        parts = []
        for one in np.unique(block_of):
            mine = places[order[block_of[order] == one]] if len(places) > 1 else places
            parts.append(self._blocks[one].read().column(1).take(pa.array(mine - self._starts[one])))
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
        self._schema = pa.schema([("digest", pa.binary(SIZE)), ("value", value)])
        self._stream = pa.ipc.new_stream(sink, self._schema.with_metadata({"key": key}))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._sink.close()

    def append(self, digests: Sequence[bytes], values: Sequence[Any]) -> None:
        """Write one batch through to the file."""
        columns = [pa.array(digests, pa.binary(SIZE)), pa.array(values, self._schema.field("value").type)]
        batch = pa.record_batch(columns, schema=self._schema)
        self._stream.write_batch(batch, custom_metadata={"check": _check(batch, self._key)})
        self._sink.flush()


@dataclass(frozen=True)
class _Block:
    """A batch of a store's file: itself while it is checked, later the place where it is read again."""

    content: pa.Buffer
    start: int
    schema: pa.Schema
    batch: pa.RecordBatch | None

    def placed(self) -> _Block:
        """Return the place alone."""
        return replace(self, batch=None)

    def read(self) -> pa.RecordBatch:
        """Return the batch, whose values lie in the mapped file."""
        message = pa.ipc.read_message(pa.BufferReader(self.content.slice(self.start)))
        return pa.ipc.read_record_batch(message, self.schema)


def _whole_blocks(file: Path, key: str) -> Iterator[_Block]:
    try:
        content = mapped(file)
        source = pa.BufferReader(content)
        with pa.ipc.open_stream(source) as reader:
            if (reader.schema.metadata or {}).get(b"key") != key.encode():
                return
            while True:
                start = source.tell()
                found = reader.read_next_batch_with_custom_metadata()
                metadata = found.custom_metadata or {}
                found.batch.validate(full=True)
                if metadata.get(b"check") != _check(found.batch, key).encode():
                    return
                yield _Block(content, start, reader.schema, found.batch)
    except (StopIteration, pa.ArrowException, OSError, ValueError):
        return  # the file's end, or where a killed process left it


def _digests_in(batch: pa.RecordBatch) -> Digests:
    column = batch.column(0)
    start = column.offset * SIZE
    return np.frombuffer(column.buffers()[1], dtype=f"S{SIZE}", offset=start, count=len(column)).copy()


def _check(batch: pa.RecordBatch, key: str) -> str:
    """A digest of what a batch means; its bytes may hold more than that."""
    content = Content()
    content.update(batch)
    return bytes_digest(key.encode() + content.hexdigest().encode()).hex()
