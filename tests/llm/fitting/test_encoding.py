"""Judgments as token ids: what is shared, what becomes of pools, what is dropped, and what is held out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_fits import fit_oracle, write_rows

from mnpo.llm.data.formats import Malformed
from mnpo.llm.data.judgments import Judgment
from mnpo.llm.data.pairs import Report
from mnpo.llm.fitting.encoding import encode_blocks
from mnpo.llm.fitting.selecting import judgments_for
from mnpo.llm.oracles.base import Question


def letters(questions: Sequence[Question]) -> Iterable[list[int]]:
    """A letter is a token; both responses where two are read."""
    for question in questions:
        if "!" in question.first:
            raise ValueError("pairwise model x: question 3: the chat template refuses it: shouting")
        yield [ord(letter) for letter in f"{question.prompt}|{question.first}|{question.second or ''}"]


def encoded(
    judgments: Sequence[Judgment | tuple[int, Malformed]], **options: object
) -> tuple[Dataset, Report]:
    (block,) = list(encode_blocks(judgments, letters, bool(options.pop("pairwise", False)), **options))  # type: ignore[arg-type]
    return Dataset(block[0]), block[1]


def pair(number: int, first: str = "ab", second: str = "ac", prompt: str = "p", **more: object) -> Judgment:
    return Judgment(number, prompt, (first, second), **{"preference": 1.0, **more})  # type: ignore[arg-type]


def test_what_sequences_begin_with_is_known() -> None:
    rows, _ = encoded([pair(1), pair(2, "x", "xyz"), Judgment(3, "p", ("one",), ratings=((1.0,),))])
    assert rows["shared"] == [3, 3, 5]
    assert rows["tokens"] == [10, 10, 6]
    assert rows["longest"] == [5, 6, 6]
    for row in rows:
        heads = {tuple(ids[: row["shared"]]) for ids in row["sequences"]}
        assert len(heads) == 1
        assert all(len(ids) > row["shared"] for ids in row["sequences"])


def test_a_pool_is_its_pairs_where_both_are_read() -> None:
    pool = Judgment(7, "p", ("a", "b", "c"), ranks=(1, 0, 1), weight=3.0, annotator="ann")
    rows, report = encoded([pool, pair(8)], pairwise=True)
    assert [(row["responses"], row["preference"], row["weight"]) for row in rows] == [
        (["a", "b"], 0.0, 1.5), (["b", "c"], 1.0, 1.5), (["ab", "ac"], 1.0, 1.0),
    ]  # fmt: skip
    first = rows[0]["sequences"]
    assert ["".join(map(chr, ids)) for ids in first] == ["p|a|b", "p|b|a"]
    assert len(set(rows["judgment"])) == 3
    assert report.kept == 3


def test_what_cannot_be_used_is_counted() -> None:
    rows, report = encoded(
        [
            pair(1),
            (2, Malformed("not JSON")),
            pair(3, "same", " same "),
            pair(4, " ", "b"),
            pair(5, "loud!", "b"),
            pair(6, "a" * 40, "b"),
        ],
        longest=20,
    )
    assert rows["row"] == [1]
    assert dict(report.dropped) == {"malformed": 2, "identical": 1, "empty": 1, "too long": 1}
    assert report.malformed == [(2, "not JSON"), (5, "the chat template refuses it: shouting")]


def test_texts_that_are_cut_to_the_same_say_nothing(tmp_path: Path, untaught: Path) -> None:
    rows = [
        {"prompt": f"p{k}", "chosen": "a long text, good", "rejected": "a long text, bad"} for k in range(8)
    ]
    data = write_rows(tmp_path / "long.jsonl", [*rows, {"prompt": "p", "chosen": "yes", "rejected": "no"}])
    with pytest.raises(ValueError, match="identical when cut"):
        fit_oracle(tmp_path / "oracle", untaught, f"dataset_name={data}", "max_length=2", "eval_size=0")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=4, max_size=40), st.floats(0.05, 0.6), st.integers(0, 99))
def test_no_prompt_is_trained_on_and_held_out(prompts: list[int], share: float, seed: int) -> None:
    table, _ = encoded([pair(k, prompt=str(prompt)) for k, prompt in enumerate(prompts, 1)])
    judgments = judgments_for("bradley-terry", table, Report())
    wanted = round(share * len(prompts))
    if wanted < 1 or len(set(prompts)) == 1:
        with pytest.raises(ValueError, match="eval_size must leave judgments"):
            judgments.held_out(share, seed)
        return
    try:
        train, held = judgments.held_out(share, seed)
    except ValueError:  # what is held out comes in whole prompts, of which there may be too few
        return
    assert len(train) + len(held) == len(prompts)
    assert len(held) >= wanted
    assert not set(train.prompts) & set(held.prompts)
    assert sorted([*train.places, *held.places]) == list(range(len(prompts)))
    again = judgments.held_out(share, seed)
    assert np.array_equal(again[1].places, held.places)


@pytest.mark.parametrize(
    ("objective", "kept"),
    [
        ("bradley-terry", [0, 1, 3]),
        ("margin", [1]),
        ("scaled", [1]),
        ("top-one", [0, 1, 3]),
        ("regression", [2]),
    ],
)
def test_objectives_take_what_they_can_read(objective: str, kept: list[int]) -> None:
    table, _ = encoded(
        [
            pair(1),
            pair(2, strength=2.0),
            Judgment(3, "p", ("one",), ratings=((1.0, None),)),
            Judgment(4, "p", ("a", "b", "c"), ranks=(0, 1, 1)),
            Judgment(5, "p", ("a", "b", "c"), ranks=(1, 1, 1)),
            pair(6, weight=0.0),
        ]
    )
    report = Report()
    assert judgments_for(objective, table, report).places.tolist() == kept
    assert report.kept == len(kept)
    assert sum(report.dropped.values()) == 6 - len(kept)
    assert json.dumps(report.as_dict())
