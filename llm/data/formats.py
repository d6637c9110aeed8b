"""Preference data as people publish it, read into one kind of row.

Known are the formats of the Hub as TRL documents them (standard and conversational, with and without a prompt of
its own), `all_generated_responses` with `all_rm_scores` (princeton-nlp), the dialogues of Anthropic's hh-rlhf, and
the strengths of HelpSteer2-Preference and HelpSteer3.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]
Text = str | list[Message]

#: Optional numbers of a row and the names that data sets have for them; the first is ours.
NUMBERS: dict[str, tuple[str, ...]] = {
    "preference": ("preference", "preference_probability", "chosen_probability"),
    "win_chosen": ("win_chosen", "chosen_win_rate"),
    "win_rejected": ("win_rejected", "rejected_win_rate"),
    "reward_chosen": ("reward_chosen", "score_chosen", "chosen_score", "chosen_reward"),
    "reward_rejected": ("reward_rejected", "score_rejected", "rejected_score", "rejected_reward"),
    "gamma_chosen": ("gamma_chosen", "uncertainty_chosen"),
    "gamma_rejected": ("gamma_rejected", "uncertainty_rejected"),
    "margin": ("margin",),
    "weight": ("weight",),
}
#: Responses with scores: of these the best and the worst are a pair.
SCORED = ("all_generated_responses", "all_rm_scores")
#: Two responses with a preference from −3 (the first is much better) over 0 (a tie) to 3 (the second is): how
#: HelpSteer2-Preference and HelpSteer3 call the prompt, both responses and this strength.
STRENGTHS = (
    ("prompt", "response_1", "response_2", "preference_strength"),
    ("context", "response1", "response2", "overall_preference"),
)
STRONGEST = 3
#: All columns that are read.
COLUMNS = (
    "prompt",
    "chosen",
    "rejected",
    *SCORED,
    *NUMBERS,
    *dict.fromkeys(c for row in STRENGTHS for c in row[1:]),
)
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


class Malformed(ValueError):
    """A row that is no preference pair; says why."""


@dataclass(frozen=True)
class Row:
    """A preference pair as text.

    Attributes:
        number: its place in the source, counted from 1; a line number for JSONL.
        prompt: a text, or the messages of a conversation.
        chosen, rejected: a text, or messages that follow the prompt.
        numbers: those of `NUMBERS` that the row has.
    """

    number: int
    prompt: Text
    chosen: Text
    rejected: Text
    numbers: Mapping[str, float] = field(default_factory=dict)


def as_row(number: int, raw: Mapping[str, Any]) -> Row:
    """Read one row of any known format.

    Raises:
        Malformed: what is wrong with it.
    """
    numbers = numbers_of(raw)
    if all(raw.get(name) is not None for name in SCORED):
        return _best_and_worst(number, raw, numbers)
    for names in STRENGTHS:
        if raw.get("chosen") is None and names[-1] in raw:
            return _stronger(number, [raw.get(name) for name in names], numbers)
    for name in ("chosen", "rejected"):
        if raw.get(name) is None:
            raise Malformed(f"no {name!r}")
    prompt, chosen, rejected = raw.get("prompt"), raw["chosen"], raw["rejected"]
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise Malformed("'chosen' and 'rejected' are of different kinds")
    if isinstance(chosen, str):
        if prompt is None and _HH_TURN.match(chosen) and _HH_TURN.match(rejected):
            return _split_messages(number, _hh_messages(chosen), _hh_messages(rejected), numbers)
        if prompt is None:
            return _split_text(number, chosen, rejected, numbers)
        if isinstance(prompt, str):
            return Row(number, prompt, chosen, rejected, numbers)
        return Row(number, _messages(prompt, "prompt"), _answer(chosen), _answer(rejected), numbers)
    chosen, rejected = _messages(chosen, "chosen"), _messages(rejected, "rejected")
    if prompt is None:
        return _split_messages(number, chosen, rejected, numbers)
    start = asked(prompt)
    # Some data sets repeat the prompt in both conversations; its text is then that of the first user turn.
    if chosen[: len(start)] == start and rejected[: len(start)] == start:
        chosen, rejected = chosen[len(start) :], rejected[len(start) :]
    elif any(side and side[0]["role"] != "assistant" for side in (chosen, rejected)):
        return _split_messages(number, chosen, rejected, numbers)
    return _checked(Row(number, start, chosen, rejected, numbers))


# --- formats --------------------------------------------------------------------------------------------------


def _best_and_worst(number: int, raw: Mapping[str, Any], numbers: dict[str, float]) -> Row:
    """The responses with the highest and the lowest score; their scores are the rewards."""
    responses, scores = raw[SCORED[0]], raw[SCORED[1]]
    if not (isinstance(responses, list) and isinstance(scores, list)) or len(responses) != len(scores):
        raise Malformed(f"{SCORED[0]!r} and {SCORED[1]!r} are not lists of the same length")
    if len(scores) < 2 or not all(is_number(score) for score in scores):
        raise Malformed(f"{SCORED[1]!r} needs at least two finite numbers")
    if not all(isinstance(response, str) for response in responses):
        raise Malformed(f"{SCORED[0]!r} are not texts")
    prompt = raw.get("prompt")
    if prompt is None:
        raise Malformed("no 'prompt'")
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    start = asked(prompt)
    rewards = {"reward_chosen": float(scores[best]), "reward_rejected": float(scores[worst])}
    return Row(number, start, _answer(responses[best]), _answer(responses[worst]), {**numbers, **rewards})


def _stronger(number: int, values: Sequence[Any], numbers: dict[str, float]) -> Row:
    """The better of two responses, and by how much as the margin; of a tie the first, with even chances."""
    prompt, first, second, strength = values
    if not (isinstance(first, str) and isinstance(second, str)):
        raise Malformed("one of the two responses is no text")
    strength = strength_of(strength)
    if prompt is None:
        raise Malformed("no prompt")
    chosen, rejected = (second, first) if strength > 0 else (first, second)
    known = {**numbers, "margin": float(abs(strength))} | ({"preference": 0.5} if strength == 0 else {})
    return Row(number, asked(prompt), _answer(chosen), _answer(rejected), known)


def strength_of(value: Any) -> int:
    """Return by how much the second of two responses is preferred, from −3 to 3.

    Raises:
        Malformed: another value.
    """
    if not is_number(value) or not (abs(value) <= STRONGEST and float(value).is_integer()):
        raise Malformed(
            f"the strength of the preference is no integer from -{STRONGEST} to {STRONGEST}: {str(value)[:20]!r}"
        )
    return int(value)


def asked(prompt: Any) -> list[Message]:
    """Return a prompt as messages; a text is one user turn.

    Raises:
        Malformed: neither a text nor messages.
    """
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _messages(prompt, "prompt")


def _answer(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _hh_messages(text: str) -> list[Message]:
    parts = _HH_TURN.split(text)[1:]
    return [
        {"role": _HH_ROLES[role], "content": content.strip()}
        for role, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def _split_messages(
    number: int, chosen: list[Message], rejected: list[Message], numbers: dict[str, float]
) -> Row:
    """Take the turns that both conversations begin with as the prompt."""
    shared = _alike(chosen, rejected)
    if shared == len(chosen) == len(rejected):
        shared -= 1  # identical: both responses are the last turn
    if shared < 1:
        raise Malformed("the two conversations do not begin alike")
    return _checked(Row(number, chosen[:shared], chosen[shared:], rejected[shared:], numbers))


def _checked(row: Row) -> Row:
    for name, side in (("chosen", row.chosen), ("rejected", row.rejected)):
        roles = [turn["role"] for turn in side if isinstance(turn, dict)]
        if roles != ["assistant"]:
            found = ", ".join(roles) or "none"
            raise Malformed(f"after the prompt {name!r} must have one assistant turn; it has {found}")
    return row


def _split_text(number: int, chosen: str, rejected: str, numbers: dict[str, float]) -> Row:
    """Take the text that both begin with, up to its last space, as the prompt."""
    shared = _alike(chosen, rejected)
    cut = max(chosen.rfind(" ", 0, shared), chosen.rfind("\n", 0, shared))
    if cut < 1:
        raise Malformed("there is no 'prompt', and 'chosen' and 'rejected' do not begin alike")
    return Row(number, chosen[:cut], chosen[cut:], rejected[cut:], numbers)


def _alike(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return how many leading elements are the same."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


def _messages(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise Malformed(f"{name!r} is neither a text nor a list of messages")
    for turn in value:
        if not (isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)):
            raise Malformed(f"a message in {name!r} lacks a 'role' or a 'content' that is text")
    return [{"role": turn["role"], "content": turn["content"]} for turn in value]


def numbers_of(raw: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of `NUMBERS` that a row has.

    Raises:
        Malformed: one that is no finite number, or out of range.
    """
    found: dict[str, float] = {}
    for name, names in NUMBERS.items():
        given = next((other for other in names if raw.get(other) is not None), None)
        if given is None:
            continue
        value = raw[given]
        if not is_number(value):
            raise Malformed(f"{given!r} is not a finite number: {str(value)[:20]!r}")
        if name == "preference" and not 0 <= value <= 1:
            raise Malformed(f"{given!r} is not between 0 and 1: {value:g}")
        if name == "weight" and value < 0:
            raise Malformed(f"{given!r} is below 0: {value:g}")
        found[name] = float(value)
    return found


def is_number(value: Any) -> bool:
    """Tell a finite number."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
