"""Tables on disk: written piece by piece, read mapped, told by what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("datasets")

from datasets import Dataset, load_from_disk

from mnpo.llm.data.schema import PAIRS
from mnpo.llm.data.tables import TableWriter, batches, content_digest, open_table
from mnpo.llm.storage.content import digest_of


def row(i: int) -> dict[str, Any]:
    texts = {"prompt": "p" * (i % 9), "chosen": "é" * (i % 3), "rejected": "b"}
    ids = {"prompt_ids": list(range(i % 4)), "chosen_ids": [i], "rejected_ids": []}
    return {"row": i, **texts, "chosen_cut": i % 2 == 0, "rejected_cut": False, **ids}


def test_a_table_reads_as_datasets_reads_it(tmp_path: Path) -> None:
    rows = [row(i) | ({"margin": 0.5} if i > 150 else {}) for i in range(200)]
    with TableWriter(tmp_path / "pairs", PAIRS) as writer:
        for start in range(0, 200, 30):
            writer.append(rows[start : start + 30])
    theirs, ours = load_from_disk(str(tmp_path / "pairs")), open_table(tmp_path / "pairs")
    assert ours.features == theirs.features
    assert ours.column_names == ["row", *list(row(0))[1:], "margin"]  # other optional columns are left out
    assert list(ours) == list(theirs) == [{"margin": None} | one for one in rows]
    assert content_digest(ours) == content_digest(theirs) == writer.digest


def test_a_digest_does_not_depend_on_how_rows_are_cut() -> None:
    table = pa.Table.from_pylist([row(i) | {"margin": None if i % 5 else 1.0} for i in range(100)])
    pieces = [table.slice(start, 7) for start in range(0, 100, 7)]
    assert digest_of([table]) == digest_of(pieces) == digest_of(table.to_batches(13))
    chosen = Dataset(table).select([3, 99, 50])
    assert digest_of(batches(chosen, size=2)) == digest_of([table.take([3, 99, 50])])
    others = [
        table.slice(1),
        table.take([1, 0, *range(2, 100)]),
        table.drop_columns(["margin"]),
        table.set_column(0, "row", table["row"].cast(pa.int32())),
        pa.Table.from_pylist([row(i) | {"margin": None if i % 5 else 0.0} for i in range(100)]),
        pa.Table.from_pylist([row(i) | {"margin": 0.0 if i % 5 else 1.0} for i in range(100)]),
    ]
    assert len({digest_of([other]) for other in (table, *others)}) == 7
