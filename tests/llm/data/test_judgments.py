"""Judgments in the formats that people publish: how many rows, which ranges, what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnpo.llm.config import ATTRIBUTES
from mnpo.llm.data import made
from mnpo.llm.data.formats import Malformed
from mnpo.llm.data.judgments import Judgment, read_judgments

RATED = {"prompt": "p", "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 0}


def write(tmp_path: Path, *rows: dict[str, Any]) -> str:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def read(tmp_path: Path, *rows: dict[str, Any]) -> list[Judgment | tuple[int, Malformed]]:
    name = write(tmp_path, *rows)
    return list(read_judgments(name, attributes=ATTRIBUTES, bounded=ATTRIBUTES))


def good(tmp_path: Path, *rows: dict[str, Any]) -> list[Judgment]:
    found = [one for one in read(tmp_path, *rows) if isinstance(one, Judgment)]
    assert len(found) >= len(rows)
    return found


def test_helpsteer2_has_ratings_with_masks(tmp_path: Path) -> None:
    rows = [{**RATED, "response": "a"}, {**RATED, "response": "b", "complexity": None, "helpfulness": 0}]
    first, second = good(tmp_path, *rows)
    assert first.ratings == ((3, 4, 4, 1, 0),)
    assert second.ratings == ((0, 4, 4, None, 0),)
    assert first.responses == ("a",)
    assert not first.is_pair
    assert first.prompt == [{"role": "user", "content": "p"}]


@pytest.mark.parametrize(
    ("strength", "preference", "size"), [(-3, 1.0, 3), (-1, 1.0, 1), (0, 0.5, 0), (2, 0.0, 2)]
)
def test_helpsteer2s_preferences(tmp_path: Path, strength: int, preference: float, size: int) -> None:
    row = {"prompt": "p", "response_1": "a", "response_2": "b", "preference_strength": strength}
    (found,) = good(tmp_path, row)
    # The preferred one comes first, unless it is a tie.
    assert found.preference == (0.5 if preference == 0.5 else 1.0)
    assert found.responses[0] == ("a" if preference else "b")
    assert found.strength == size


def test_helpsteer3_has_several_annotators_of_a_pair(tmp_path: Path) -> None:
    individual = [{"score": -2, "reasoning": "x"}, {"score": 1}, {"score": 0}]
    row = {"context": [{"role": "user", "content": "p"}], "response1": "a", "response2": "b",
           "overall_preference": -1, "individual_preference": individual}  # fmt: skip
    found = good(tmp_path, row)
    assert [(one.annotator, one.preference, one.strength) for one in found] == [
        ("1", 1.0, 2.0), ("2", 0.0, 1.0), ("3", 0.5, 0.0),
    ]  # fmt: skip
    row["individual_preference"] = None
    (alone,) = good(tmp_path, row)
    assert (alone.annotator, alone.preference, alone.strength) == (None, 1.0, 1.0)


def test_lists_with_scores_are_rankings_with_ties(tmp_path: Path) -> None:
    completions = [
        {"response": text, "overall_score": score}
        for text, score in zip("abcd", (2, 9, 2, None), strict=True)
    ]
    ultra, own, ranking = good(
        tmp_path,
        {"instruction": "p", "completions": completions},
        {
            "prompt": "p",
            "responses": ["x", "y", "z"],
            "scores": [0.5, 1.5, 0.5],
            "annotator": "ann",
            "weight": 2,
        },
        {"prompt": "p", "responses": ["x", "y", "z"], "ranking": [2, 0, 1]},
    )
    assert (ultra.responses, ultra.ranks) == (("a", "b", "c"), (1, 0, 1))
    assert (own.ranks, own.annotator, own.weight) == ((1, 0, 1), "ann", 2)
    assert ranking.ranks == (2, 0, 1)
    scored = {"prompt": "p", "all_generated_responses": ["x", "y", "z"], "all_rm_scores": [1, 2, 3]}
    assert good(tmp_path, scored)[0].ranks == (2, 1, 0)


def test_both_reward_benches(tmp_path: Path) -> None:
    first, second = good(
        tmp_path,
        {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "hep-cpp", "chosen_model": "m"},
        {"prompt": "p", "chosen": ["a", "c"], "rejected": ["b"], "subset": "Ties", "num_correct": 2},
    )
    assert (first.responses, first.subset, first.preference) == (("a", "b"), "hep-cpp", 1.0)
    assert (second.responses, second.ranks, second.subset) == (("a", "c", "b"), (0, 0, 1), "Ties")


def test_preflibs_alternatives_are_responses(tmp_path: Path) -> None:
    file = tmp_path / "votes.soi"
    file.write_text(
        "# FILE NAME: votes.soi\n# TITLE: What is good?\n# DATA TYPE: soi\n# NUMBER ALTERNATIVES: 3\n"
        "# NUMBER VOTERS: 5\n# NUMBER UNIQUE ORDERS: 2\n# ALTERNATIVE NAME 1: bread\n"
        "# ALTERNATIVE NAME 2: honey\n# ALTERNATIVE NAME 3: tea\n3: 2,1,3\n2: 3,1\n"
    )
    whole, part = [one for one in read_judgments(str(file)) if isinstance(one, Judgment)]
    assert (whole.prompt[0]["content"], whole.responses) == ("What is good?", ("honey", "bread", "tea"))
    assert (whole.ranks, whole.weight) == ((0, 1, 2), 3)
    assert (part.responses, part.ranks, part.weight) == (("tea", "bread"), (0, 1), 2)


def test_made_judgments_are_those_of_a_cycle() -> None:
    rows = list(made.judgments(4000))
    assert {row["annotator"] for row in rows} == set(made.ANNOTATORS)
    share = sum(row["annotator"] == "ann" for row in rows) / len(rows)
    assert abs(share - 4 / 11) < 0.03
    wins = dict.fromkeys([("plain", "formal"), ("formal", "playful"), ("playful", "plain")], 0)
    for row in rows:
        pair = tuple(made.style_of(row[side][0]["content"]) for side in ("chosen", "rejected"))
        wins = {turn: wins[turn] + (pair == turn) - (pair == turn[::-1]) for turn in wins}
    # ann and eve, ann and bob, bob and eve: two thirds or so are for each turn.
    # Two of the three annotators are for each turn.
    assert min(wins.values()) > 0


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({**RATED, "response": "a", "helpfulness": 5}, "the rating helpfulness is not between 0 and 4: 5"),
        ({**RATED, "response": "a", "verbosity": "much"}, "the rating verbosity is no finite number: 'much'"),
        ({"prompt": "p", "response_1": "a", "response_2": "b", "preference_strength": 4}, "from -3 to 3: '4'"),
        ({"context": "p", "response1": "a", "response2": "b", "overall_preference": 0,
          "individual_preference": [{"score": 9}]}, "from -3 to 3: '9'"),
        ({"prompt": "p", "responses": ["x"], "scores": [1]}, "a pool needs at least two responses; it has 1"),
        ({"prompt": "p", "responses": ["x", "y"], "scores": [1]}, "not lists of the same length"),
        ({"prompt": "p", "responses": ["x", 3], "ranking": [0, 1]}, "a response is no text"),
        ({"prompt": "p", "chosen": ["x"], "rejected": "y"}, "'rejected' is none"),
        ({"prompt": "p", "chosen": "x", "rejected": "y", "margin": -1}, "'margin' is below 0: -1"),
        ({"prompt": "p", "chosen": "x"}, "no 'rejected'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="has no judgment") as error:
        read(tmp_path, row)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    found = read(tmp_path, row, {"prompt": "p", "chosen": "x", "rejected": "y"})
    assert [isinstance(one, Judgment) for one in found] == [False, True]
