"""MT-Bench: two turns, rated from 1 to 10 by a judge (Zheng et al., 2306.05685, as FastChat runs it)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnpo.llm.benchmarks.judge_prompts import JudgePrompts
from mnpo.llm.benchmarks.questions import Question
from mnpo.llm.data.sources import raw_rows
from mnpo.llm.endpoints.chat import Reply, Request

#: Temperatures of answers by category, and of all others.
TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0, "reasoning": 0.0,
    "stem": 0.1, "humanities": 0.1,
}  # fmt: skip
TEMPERATURE = 0.7
#: Categories whose answers are compared with a reference.
WITH_REFERENCE = ("math", "reasoning", "coding")
PROTOCOL = "MT-Bench: two turns, each answer rated from 1 to 10 by itself; the mean of all ratings"
MAX_TOKENS = 1024
LEVEL, DRAWS = 0.95, 1000
_MARKS = (re.compile(r"\[\[(\d+(?:\.\d*)?)\]\]"), re.compile(r"\[(\d+(?:\.\d*)?)\]"))


class Rating(NamedTuple):
    """One judgment; None for one that could not be read."""

    question: str
    category: str
    turn: int
    score: float | None


def requests(prompts: JudgePrompts, question: Question, answers: Sequence[str]) -> list[Request]:
    """Return what the judge is asked about each turn.

    Raises:
        ValueError: a question that needs a reference and has none.
    """
    known = question.category in WITH_REFERENCE
    if known and len(question.reference) < len(question.turns):
        raise ValueError(
            f"question {question.id} ({question.category}) needs a reference answer to each turn; give "
            "references=FILE"
        )
    name = "single-math-v1" if known else "single-v1"
    parts = {"question": question.turns[0], "first": answers[0]}
    if known:
        parts["reference"] = question.reference[0]
    found = [prompts[name].request(parts)]
    if len(question.turns) > 1:
        parts |= {"question_2": question.turns[1], "second": answers[1]}
        if known:
            parts["reference_2"] = question.reference[1]
        found.append(prompts[f"{name}-multi-turn"].request(parts))
    return found


def rating(reply: Reply) -> float | None:
    """Read a rating: the first [[n]], or else the first [n], if it is from 1 to 10."""
    if reply.refused:
        return None
    spoken = reply.text.rpartition("</think>")[2]
    for mark in _MARKS:
        found = mark.search(spoken)
        if found:
            value = float(found[1])
            return value if 1 <= value <= 10 else None
    return None


def statistics(ratings: Iterable[Rating], *, seed: int = 0) -> dict[str, Any]:
    """Return the mean rating, its interval by resampling questions, and means by turn and category.

    Raises:
        ValueError: no rating at all.
    """
    listed = list(ratings)
    read = [one for one in listed if one.score is not None]
    if not read:
        raise ValueError("the judge gave no rating")
    scores = np.array([one.score for one in read], dtype=float)
    of = np.unique([one.question for one in read], return_inverse=True)[1]
    total, count = np.bincount(of, scores), np.bincount(of)
    drawn = np.random.default_rng(seed).integers(len(count), size=(DRAWS, len(count)))
    low, high = np.quantile(total[drawn].sum(1) / count[drawn].sum(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {
        "score": float(scores.mean()),
        "low": float(low),
        "high": float(high),
        "turns": {str(turn): _mean(read, turn=turn) for turn in sorted({one.turn for one in read})},
        "categories": {
            name: _mean(read, category=name) for name in dict.fromkeys(one.category for one in read) if name
        },
        "questions": len(count),
        "judged": len(read),
        "unparsed": len(listed) - len(read),
    }


def _mean(ratings: Sequence[Rating], **wanted: Any) -> float:
    ((name, value),) = wanted.items()
    return float(
        np.mean([one.score for one in ratings if getattr(one, name) == value and one.score is not None])
    )


def existing(judgments: Path) -> dict[str, Any]:
    """Return the statistics of all models of FastChat's model_judgment file: one rating a line.

    Raises:
        ValueError: a line of another format.
    """
    found: dict[str, list[Rating]] = {}
    for number, row in raw_rows(str(judgments)):
        try:
            if not isinstance(row, Mapping):
                raise TypeError(str(row))
            score = float(row["score"])
            known = 1 <= score <= 10
            if not known and score != -1:
                raise ValueError(f"the score {score:g} is out of range")
            one = Rating(
                str(row["question_id"]),
                str(row.get("category") or ""),
                int(row["turn"]),
                score if known else None,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{judgments}, row {number}: {what}") from None
        found.setdefault(str(row.get("model") or row.get("model_id") or "model"), []).append(one)
    if not found:
        raise ValueError(f"{judgments} has no judgments")
    try:
        return {
            "protocol": PROTOCOL,
            "models": {name: statistics(rows) for name, rows in found.items()},
            "notes": [],
        }
    except ValueError as error:
        raise ValueError(f"{judgments}: {error}") from None


def as_lines(model: str, ratings: Iterable[Rating]) -> str:
    """Return ratings as FastChat keeps them; −1 for those that could not be read."""
    return "".join(
        json.dumps({"question_id": one.question, "category": one.category, "model": model, "turn": one.turn,
                    "score": -1 if one.score is None or not math.isfinite(one.score) else one.score}) + "\n"
        for one in ratings
    )  # fmt: skip
