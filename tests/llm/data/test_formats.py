"""Every published format of preference data is read as the same pair, or refused with what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from preference_rows import FORMATS, SKY, assistant, told, user

from mnpo.llm.data.formats import Malformed, as_row


@pytest.mark.parametrize("name", FORMATS)
def test_every_published_format_is_the_same_pair(name: str) -> None:
    raw, (prompt, chosen, rejected, numbers) = FORMATS[name]
    row = as_row(5, raw)
    sides = [s if isinstance(s, str) else s[0]["content"] for s in (row.chosen, row.rejected)]
    assert (row.number, row.prompt, *sides, row.numbers) == (5, prompt, chosen, rejected, numbers)
    assert isinstance(row.chosen, str) == isinstance(row.prompt, str)


MALFORMED: dict[str, tuple[Mapping[str, Any], str]] = {
    "null": ({"prompt": "a", "chosen": "b", "rejected": None}, "no 'rejected'"),
    "mixed": ({"prompt": "a", "chosen": "b", "rejected": [assistant("c")]}, "different kinds"),
    "number for a text": ({"prompt": "a", "chosen": 1, "rejected": 2}, "'chosen' is neither a text"),
    "number for a prompt": ({"prompt": 1, "chosen": "a", "rejected": "b"}, "'prompt' is neither a text"),
    "other messages": ({"chosen": [{"from": "human", "value": "a"}], "rejected": []}, "lacks a 'role'"),
    "two turns": (
        {"prompt": SKY, "chosen": [assistant("a"), user("b")], "rejected": [assistant("c")]},
        "'chosen' must have one assistant turn; it has assistant, user",
    ),
    "dialogues part early": (
        {"chosen": [*SKY, assistant("a")], "rejected": [user("Hi"), assistant("b")]},
        "do not begin alike",
    ),
    "no prompt": ({"chosen": "yes", "rejected": "no"}, "no 'prompt'"),
    "strength beyond 3": (
        {"prompt": "a", "response_1": "b", "response_2": "c", "preference_strength": 4},
        "no integer from -3 to 3: '4'",
    ),
    "strength is a fraction": (
        {"context": SKY, "response1": "b", "response2": "c", "overall_preference": 1.5},
        "no integer from -3 to 3: '1.5'",
    ),
    "no strength": (
        {"prompt": "a", "response_1": "b", "response_2": "c", "preference_strength": None},
        "no integer from -3 to 3: 'None'",
    ),
    "one response": (
        {"prompt": "a", "response_1": "b", "preference_strength": 1},
        "one of the two responses is no text",
    ),
    "score is NaN": (told("a", "b", "c", score_chosen=float("nan")), "'score_chosen' is not a finite number"),
    "number too large": (told("a", "b", "c", margin=10**400), "'margin' is not a finite number: '1000"),
    "number as text": (told("a", "b", "c") | {"margin": "2"}, "'margin' is not a finite number: '2'"),
    "no probability": (told("a", "b", "c", preference=1.5), "'preference' is not between 0 and 1: 1.5"),
    "scores of fewer": (
        {"prompt": "a", "all_generated_responses": ["b", "c"], "all_rm_scores": [1]},
        "not lists of the same length",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_row_says_what_is_wrong(name: str) -> None:
    raw, reason = MALFORMED[name]
    with pytest.raises(Malformed, match=reason):
        as_row(1, raw)
