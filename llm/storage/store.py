"""What was paid for is kept by content: scores, samples and answers, in append-only Arrow streams.

An entry belongs to a store's key (a model's content, the way it was computed) and to a digest of what was asked.
Whatever is not in a store under both is computed; nothing else is looked at, so that a store can be stale, foreign
or damaged without harm. Each batch is appended when it is done: a killed process loses the one at hand.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mnpo.common.digests import bytes_digest
from mnpo.common.files import umask


def key_digest(key: Mapping[str, Any]) -> str:
    """Return a digest of a store's key, in hexadecimal."""
    return bytes_digest(json.dumps(key, sort_keys=True).encode()).hex()


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

    def load(self) -> dict[bytes, Any]:
        """Return all entries that are whole and belong to this key."""
        found: dict[bytes, Any] = {}
        for file in sorted(self.folder.glob("*.arrows")):
            for batch in _whole_batches(file, self.key):
                found |= zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
        return found

    def writer(self) -> Writer:
        """Open a new file of this store to append to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place = len(list(self.folder.glob("*.arrows")))
        handle, _ = tempfile.mkstemp(dir=self.folder, prefix=f"{place:05d}-", suffix=".arrows")
        os.fchmod(handle, 0o666 & ~umask())  # others who share the store read it too
        return Writer(open(handle, "wb"), self.key, self.value)


class Writer:
    """Appends batches of entries to one file; closed at the end of a `with` block."""

    def __init__(self, sink: Any, key: str, value: pa.DataType) -> None:
        self._sink = sink
        self._key = key
        self._schema = pa.schema([("digest", pa.binary(16)), ("value", value)])
        self._stream = pa.ipc.new_stream(sink, self._schema.with_metadata({"key": key}))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._sink.close()

    def append(self, digests: Sequence[bytes], values: Sequence[Any]) -> None:
        """Write one batch through to the file."""
        columns = [pa.array(digests, pa.binary(16)), pa.array(values, self._schema.field("value").type)]
        batch = pa.record_batch(columns, schema=self._schema)
        self._stream.write_batch(batch, custom_metadata={"check": _check(batch, self._key)})
        self._sink.flush()


def _whole_batches(file: Path, key: str) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    try:
        with pa.ipc.open_stream(file) as reader:
            if (reader.schema.metadata or {}).get(b"key") != key.encode():
                return []
            while True:
                found = reader.read_next_batch_with_custom_metadata()
                batch, metadata = found.batch, found.custom_metadata or {}
                if metadata.get(b"check") != _check(batch, key).encode():
                    break
                batches.append(batch)
    except (StopIteration, pa.ArrowInvalid, OSError):
        pass  # the file's end, or where a killed process left it
    return batches


def _check(batch: pa.RecordBatch, key: str) -> str:
    """A digest of what a batch means; its bytes may hold more than that."""
    content = json.dumps([entry.hex() for entry in batch.column(0).to_pylist()])
    content += json.dumps(batch.column(1).to_pylist(), sort_keys=True)
    return bytes_digest(key.encode() + content.encode()).hex()
