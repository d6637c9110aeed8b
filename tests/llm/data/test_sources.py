"""Files, folders and saved data sets give the same rows; what cannot be read is refused in one line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict
from preference_rows import told

from mnpo.llm.data.formats import Row, as_row
from mnpo.llm.data.sources import read

ROWS = [told(f"Question {i}?", f"yes {i}", "no", margin=float(i)) for i in range(4)]


def saved_json_lines(folder: Path) -> Path:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return folder / "a.jsonl"


def saved_gzip(folder: Path) -> Path:
    with gzip.open(folder / "a.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, ROWS)))
    return folder / "a.jsonl.gz"


def saved_array(folder: Path) -> Path:
    (folder / "a.json").write_text("\n" + json.dumps(ROWS, indent=1))
    return folder / "a.json"


def saved_parquet(folder: Path) -> Path:
    Dataset.from_list(ROWS).to_parquet(str(folder / "a.parquet"))
    return folder / "a.parquet"


def saved_as_on_the_hub(folder: Path) -> Path:
    (folder / "data").mkdir()
    Dataset.from_list(ROWS).to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    Dataset.from_list(ROWS[:1]).to_parquet(str(folder / "data" / "test-00000-of-00001.parquet"))
    return folder


def saved_data_set(folder: Path) -> Path:
    Dataset.from_list(ROWS).save_to_disk(str(folder / "set"))
    return folder / "set"


def saved_splits(folder: Path) -> Path:
    splits = {"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}
    DatasetDict(splits).save_to_disk(str(folder / "sets"))
    return folder / "sets"


FILES = (saved_json_lines, saved_gzip, saved_array, saved_parquet)
SPLITS = (saved_as_on_the_hub, saved_splits)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("save", [*FILES, saved_data_set, *SPLITS])
@pytest.mark.usefixtures("cached")
def test_every_source_gives_the_same_rows(save: Callable[[Path], Path], tmp_path: Path) -> None:
    expected = [as_row(number, row) for number, row in enumerate(ROWS, start=1)]
    name = str(save(tmp_path))
    assert list(read(name)) == list(read(name, split="train")) == expected
    assert list(read(name, limit=2)) == expected[:2]
    if save in SPLITS:
        assert list(read(name, split="test")) == expected[:1]
    with pytest.raises(ValueError, match=r"split .*nowhere") as error:
        list(read(name, split="nowhere"))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_of_json_lines_are_numbered_by_line(tmp_path: Path) -> None:
    lines = ["", json.dumps(ROWS[0]), "", "{", "[1]", json.dumps(ROWS[1]), json.dumps({"chosen": "a"})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = [
        (row.number, "") if isinstance(row, Row) else (row[0], str(row[1]))
        for row in read(str(tmp_path / "a.jsonl"))
    ]
    assert found == [(2, ""), (4, "not JSON"), (5, "not a JSON object"), (6, ""), (7, "no 'rejected'")]


def test_columns_are_renamed(tmp_path: Path) -> None:
    raw = {"question": "a", "yes": " b", "no": " c", "chosen": 3, "margin": "wide", "score_chosen": 1.0}
    (tmp_path / "a.jsonl").write_text(json.dumps(raw))
    names = {"prompt": "question", "chosen": "yes", "rejected": "no", "margin": "score_chosen"}
    (row,) = read(str(tmp_path / "a.jsonl"), columns=names)
    assert row == Row(1, "a", " b", " c", {"margin": 1.0})


BAD: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "no file": ("./nowhere.jsonl", b"", {}, "no such file"),
    "another kind": ("a.csv", b"a,b", {}, r"unknown kind of file; known are \.jsonl"),
    "empty": ("a.jsonl", b"\n", {}, "has no rows"),
    "all malformed": ("a.jsonl", b"{\n[]", {}, "no preference pair .row 1: not JSON; row 2: not a JSON"),
    "not compressed": ("a.jsonl.gz", b"{}", {}, "Not a gzipped file"),
    "cut off": ("a.jsonl.gz", gzip.compress(b"{}" * 99)[:20], {}, "ended before"),
    "array cut off": ("a.json", b"[{", {}, "line 1 column 3"),
    "not Parquet": ("a.parquet", b"{}", {}, "Parquet"),
    "missing columns": (
        "a.jsonl",
        b'{"question": "a", "chosen": "b"}',
        {},
        "lacks the column rejected; it has",
    ),
    "columns that are not there": (
        "a.jsonl",
        b'{"prompt": "a", "chosen": "b", "rejected": "c"}',
        {"columns": {"prompt": "question", "margin": "gap"}},
        "lacks the columns gap, question; it has chosen, prompt, rejected",
    ),
    "unknown column": ("a.jsonl", b"{}", {"columns": {"choosen": "a"}}, "'choosen'; did you mean 'chosen'"),
    "made on the spot": ("tiny:pears:3", b"", {}, "tiny:pairs:<count>"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, content, options, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    if content:
        Path(file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(read(file, **options))
    assert "\n" not in str(error.value)


def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r"^dataset some/pairs: no such file .* Hub .*: no route$"):
        list(read("some/pairs"))
