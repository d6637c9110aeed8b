"""What is kept: found by digest, read where it lies, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

from mnpo.common.digests import bytes_digest
from mnpo.llm.data.schema import RESPONSE
from mnpo.llm.storage.store import Store, as_digests

COUNT = 500
DIGESTS = [bytes_digest(str(i).encode()) for i in range(COUNT)]
SAMPLES = [{"ids": list(range(i % 7)), "text": "é" * (i % 5), "ended": i % 2 == 0} for i in range(COUNT)]


def filled(folder: Path, value: pa.DataType, entries: list[object]) -> Store:
    store = Store(folder, {"a": 1}, value)
    for half in (range(COUNT // 2), range(COUNT // 2, COUNT)):  # as two processes write
        with store.writer() as writer:
            for start in range(half.start, half.stop, 8):
                some = range(start, min(start + 8, half.stop))
                writer.append([DIGESTS[i] for i in some], [entries[i] for i in some])
    return store


def test_entries_are_found_in_any_order(tmp_path: Path) -> None:
    wanted = np.random.default_rng(0).permutation(COUNT)[:300]
    asked = as_digests([DIGESTS[i] for i in wanted])
    samples = filled(tmp_path / "samples", RESPONSE, list(SAMPLES)).kept()
    assert samples.of(asked).to_pylist() == [SAMPLES[i] for i in wanted]
    numbers = filled(tmp_path / "numbers", pa.float64(), [float(i) for i in range(COUNT)]).kept()
    assert numbers.numbers(asked).tolist() == wanted.tolist()
    strange = as_digests([bytes_digest(b"strange"), DIGESTS[3]])
    assert numbers.has(strange).tolist() == [False, True]
    with pytest.raises(KeyError):
        numbers.of(strange)


def test_the_last_of_equal_entries_counts(tmp_path: Path) -> None:
    store = filled(tmp_path, pa.float64(), [float(i) for i in range(COUNT)])
    with store.writer() as writer:
        writer.append([DIGESTS[7]], [-1.0])
    assert store.kept().numbers(as_digests([DIGESTS[7], DIGESTS[8]])).tolist() == [-1.0, 8.0]


def test_what_is_cut_off_or_damaged_is_not_kept(tmp_path: Path) -> None:
    """Any byte of a file may be wrong: entries are right or missing."""
    store = filled(tmp_path, RESPONSE, list(SAMPLES))
    file = sorted(store.folder.glob("*.blocks"))[0]
    whole = file.read_bytes()
    known = dict(zip(DIGESTS, SAMPLES, strict=True))
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole), size=100):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(damaged) if place % 2 else whole[:place])
        found = store.load()
        assert all(known[digest] == entry for digest, entry in found.items())
        assert len(found) >= (
            COUNT - 8 if place % 2 else COUNT - COUNT // 2
        )  # all but a block, or the other file's
