"""Pairs and prompts are encoded once, by all processes together, and found again by what they were made of."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from preference_rows import told, user
from prompt_files import configured, written
from small_tokenizers import tokenizer_of

from mnpo.llm.config import Data
from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.kept import Encodings, Table
from mnpo.llm.data.pairs import encode_rows
from mnpo.llm.data.prompts import read_prompts
from mnpo.llm.data.sources import read
from mnpo.llm.stages.splits import encoded_pairs

COUNT = 1100


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """More rows than are encoded at once, some of which cannot be used, and some with numbers."""
    rows: list[Any] = [
        told([user(f"Question {n % 40}?")], f"yes {n}", "no " * (n % 90)) for n in range(COUNT)
    ]
    rows[5] = {"chosen": "a"}
    rows[700] |= {"margin": 2.0}
    file = tmp_path / "pairs.jsonl"
    file.write_text("not json\n" + "".join(json.dumps(row) + "\n" for row in rows))
    return Data(dataset_name=str(file), max_length=80, max_prompt_length=40)


def encoded(folder: Path, data: Data, tokenizer: Any, processes: Any = None) -> Table:
    assert data.dataset_name is not None
    return encoded_pairs(Encodings(folder, processes), data, data.dataset_name, None, tokenizer)


class Threads:
    """Processes that are threads."""

    def __init__(self, rank: int, barrier: threading.Barrier, said: list[Any]) -> None:
        self.rank, self.world, self.first = rank, barrier.parties, rank == 0
        self._barrier, self._said = barrier, said

    def wait(self) -> None:
        self._barrier.wait()

    def agree(self, decide: Callable[[], Any]) -> Any:
        if self.first:
            self._said[:] = [decide()]
        self.wait()
        said = self._said[0]
        self.wait()
        return said


@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_encode_what_one_does(
    world: int, data: Data, tokenizer: Any, tmp_path: Path
) -> None:
    """The same table and the same report as in memory, to the last bit; nothing else is left."""
    alone = encoded(tmp_path / "alone", data, tokenizer)
    plain, report = encode_rows(read(str(data.dataset_name)), tokenizer, max_length=80, max_prompt_length=40)
    assert list(alone.rows) == list(plain)
    assert alone.report == report
    assert report.read == COUNT + 1
    assert set(report.truncated) == {"rejected"}
    barrier, said, found = threading.Barrier(world), list[Any](), dict[int, Table]()
    together = tmp_path / "together"
    (left,) = (tmp_path / "alone").iterdir()
    killed = together / f".{left.name}.abc.partial"
    killed.mkdir(parents=True)  # of a process that was killed long ago
    os.utime(killed, (0, 0))

    def work(rank: int) -> None:
        found[rank] = encoded(together, data, tokenizer, Threads(rank, barrier, said))

    workers = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [one.digest for one in found.values()] == [alone.digest] * world
    assert [one.report for one in found.values()] == [report] * world
    assert [path.name for path in together.iterdir()] == [left.name]
    for file in left.iterdir():
        assert (together / left.name / file.name).read_bytes() == file.read_bytes()


def test_what_is_kept_is_not_tokenised_again(
    data: Data, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But what is read, cut or tokenised otherwise is."""
    calls: list[int] = []
    plainly = Encoder.tokens
    monkeypatch.setattr(Encoder, "tokens", lambda self, some: calls.append(len(some)) or plainly(self, some))
    first = encoded(tmp_path, data, tokenizer)
    assert sum(calls) > 1000
    calls.clear()
    again = encoded(tmp_path, data, tokenizer)
    assert list(again.rows) == list(first.rows)
    assert not calls
    for other in (
        {"max_length": 79},
        {"overlong": "drop"},
        {"max_samples": 90},
        {"columns": {"chosen": "rejected", "rejected": "chosen"}},
    ):
        encoded(tmp_path, Data(**(data.as_dict() | other)), tokenizer)
        assert calls, other
        calls.clear()
    encoded(tmp_path, data, tokenizer_of("<bos> $A"))
    assert calls
    file = Path(str(data.dataset_name))
    file.write_text(file.read_text() + json.dumps(told([user("One more?")], "a", "b")) + "\n")
    assert len(encoded(tmp_path, data, tokenizer).rows) == len(first.rows) + 1


def test_an_interrupted_encoding_leaves_nothing(
    data: Data, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encoded(tmp_path / "whole", data, tokenizer)
    plainly, blocks = Encoder.tokens, list[int]()

    def stops(self: Encoder, some: Any) -> Any:
        blocks.append(len(some))
        if len(blocks) == 3:
            raise KeyboardInterrupt
        return plainly(self, some)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "tokens", stops)
        with pytest.raises(KeyboardInterrupt):
            encoded(tmp_path / "kept", data, tokenizer)
    assert not list((tmp_path / "kept").iterdir())
    assert encoded(tmp_path / "kept", data, tokenizer).digest == whole.digest


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "no record", "no state"])
def test_what_is_damaged_is_encoded_again(damage: str, data: Data, tokenizer: Any, tmp_path: Path) -> None:
    """A file that ends between two batches too, which Arrow takes for a whole one."""
    whole = encoded(tmp_path / "kept", data, tokenizer)
    (target,) = (tmp_path / "kept").iterdir()
    (file,) = target.glob("*.arrow")
    if damage == "cut":
        with (
            pa.ipc.open_stream(pa.OSFile(str(file))) as reader,
            pa.OSFile(str(tmp_path / "cut"), "wb") as sink,
            pa.ipc.new_stream(sink, reader.schema) as stream,
        ):
            stream.write_batch(reader.read_next_batch())
        file.write_bytes((tmp_path / "cut").read_bytes())
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "no record":
        (target / "report.json").write_text("")
    else:
        (file if damage == "gone" else target / "state.json").unlink()
    assert encoded(tmp_path / "kept", data, tokenizer).digest == whole.digest
    assert len(encoded(tmp_path / "kept", data, tokenizer).rows) == len(whole.rows)


def test_two_runs_may_encode_the_same_at_once(
    data: Data, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one keeps what the faster one left."""
    plainly, others = Encoder.tokens, list[Table]()

    def meets(self: Encoder, some: Any) -> Any:
        if not others:
            others.append(None)
            others[0] = encoded(tmp_path / "kept", data, tokenizer)
        return plainly(self, some)

    monkeypatch.setattr(Encoder, "tokens", meets)
    found = encoded(tmp_path / "kept", data, tokenizer)
    assert found.digest == others[0].digest
    assert list(found.rows) == list(others[0].rows)
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_prompts_are_kept_as_they_are_read(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same prompts in the same order, looked at one by one, in slices or in turn."""
    rows: list[Any] = [{"prompt": f"Question {n % 400}?"} for n in range(900)] + [{"prompt": " "}, "no"]
    config = configured(tmp_path, written(tmp_path, rows), "eval_prompts=0.25", "prompt_part=[2,3]")
    given = (config.data, config.prompts, tokenizer, config.compute.seed)
    plain, reports = read_prompts(*given)
    kept, again = (read_prompts(*given, Encodings(tmp_path / "kept")) for _ in range(2))
    assert kept[1] == again[1] == reports
    assert reports["train"].dropped == {"repeated": 500, "empty": 1, "malformed": 1}
    for part, count in (("train", 100), ("eval", 100)):
        assert list(kept[0][part]) == list(again[0][part]) == list(plain[part])
        assert len(plain[part]) == count
        assert [kept[0][part][place] for place in range(count)] == list(plain[part])
        assert list(kept[0][part][10:20]) == list(plain[part])[10:20]
        assert kept[0][part][-1] == list(plain[part])[-1]
    monkeypatch.setattr(Encoder, "tokens", None)
    assert list(read_prompts(*given, Encodings(tmp_path / "kept"))[0]["eval"]) == list(plain["eval"])
