"""Arena-Hard: hard questions against a baseline in both orders, with strong and weak verdicts (2406.11939).

Versions 0.1 and 2; the second takes style into account. `mnpo.arena_hard` has the statistics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnpo.arena_hard import VERDICTS, Games, style_controlled, style_gaps, win_rates
from mnpo.llm.benchmarks.judge_prompts import JudgePrompts
from mnpo.llm.benchmarks.questions import Question, answer_of, answers_in
from mnpo.llm.data.formats import first_line
from mnpo.llm.data.sources import raw_rows
from mnpo.llm.endpoints.chat import Reply, Request

PROTOCOL = "Arena-Hard: win rate over the baseline, both orders, strong verdicts thrice, questions resampled"
STYLE = "; style control by a logistic regression on length (in characters) and the density of Markdown"
MAX_TOKENS = 4096
#: A mark, as version 0.1 has it: all the marks of a verdict must agree.
_MARK = re.compile(r"\[\[([AB<>=]+)\]\]")
_CODE = re.compile(r"```.*?```", re.DOTALL)
_HEADER, _LIST = (
    re.compile(r"^#{1,6}\s", re.MULTILINE),
    re.compile(r"^[^\S\n]*(?:\d+\.|[-*+])\s", re.MULTILINE),
)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


class Game(NamedTuple):
    """A question's two verdicts, the baseline first and the model first; None for one that could not be read."""

    question: str
    baseline_first: str | None
    model_first: str | None
    style: tuple[Sequence[float], Sequence[float]] | None = None


def requests(prompts: JudgePrompts, suite: str, question: Question, answer: str) -> list[Request]:
    """Return what the judge is asked: the baseline first, then the model first."""
    assert question.baseline is not None
    asked = {"question": question.turns[0]}
    template = prompts[suite]
    return [
        template.request({**asked, "first": question.baseline, "second": answer}),
        template.request({**asked, "first": answer, "second": question.baseline}),
    ]


def verdict(reply: Reply, *, first: bool = False) -> str | None:
    """Read a verdict, a key of `VERDICTS`.

    Args:
        reply: the judge's.
        first: the first mark counts, as EvalScope has it; else all marks must agree.
    """
    if reply.refused:
        return None
    marks = _MARK.findall(reply.text.rpartition("</think>")[2])
    if not marks or (not first and len(set(marks)) > 1):
        return None
    return marks[0] if marks[0] in VERDICTS else None


def style_of(text: str) -> list[float]:
    """Return what tells a style: characters, and outside code the headers, items of lists and bold words."""
    plain = _CODE.sub("", text)
    return [float(len(text)), *(float(len(mark.findall(plain))) for mark in (_HEADER, _LIST, _BOLD))]


def statistics(games: Mapping[str, Sequence[Game]], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return the win rates in percent of each model, and where styles are known those with style taken out.

    Raises:
        ValueError: a model without a verdict.
    """
    names = list(games)
    places = {
        name: k
        for k, name in enumerate(dict.fromkeys(one.question for rows in games.values() for one in rows))
    }
    rows: list[tuple[int, int, float, float]] = []
    styles: list[tuple[Sequence[float], Sequence[float]] | None] = []
    for number, name in enumerate(names):
        before = len(rows)
        for one in games[name]:
            for said, own in ((one.baseline_first, False), (one.model_first, True)):
                if said is not None:
                    share, weight = VERDICTS[said]
                    rows.append((number, places[one.question], share if own else 1 - share, float(weight)))
                    styles.append(one.style)
        if len(rows) == before:
            raise ValueError(f"the judge gave no verdict on {name}")
    model, question = ([row[k] for row in rows] for k in (0, 1))
    known = [one for one in styles if one is not None]
    gaps = None
    if len(known) == len(styles):
        gaps = style_gaps(*(np.array([one[side] for one in known]) for side in (0, 1)))
    columns = np.array(rows, dtype=float)
    table = Games(np.array(model), np.array(question), columns[:, 2], columns[:, 3], gaps)
    raw = win_rates(table, seed=seed)
    found: dict[str, dict[str, Any]] = {
        name: {
            "win_rate": 100 * float(raw.mean[k]), "low": 100 * float(raw.low[k]), "high": 100 * float(raw.high[k]),
            "questions": len(games[name]), "judged": model.count(k),
            "unparsed": 2 * len(games[name]) - model.count(k),
            "contradicted": sum(map(_contradicts, games[name])),
        }
        for k, name in enumerate(names)
    }  # fmt: skip
    if gaps is not None:
        try:
            fair = style_controlled(table, seed=seed)
        except ValueError as error:
            for row in found.values():
                row["style_controlled"] = None
                row["note"] = f"no style control: {error}"
        else:
            for k, name in enumerate(names):
                low, high = (
                    None if np.isnan(side[k]) else 100 * float(side[k]) for side in (fair.low, fair.high)
                )
                found[name] |= {
                    "style_controlled": 100 * float(fair.mean[k]),
                    "style_low": low,
                    "style_high": high,
                }
    return found


def _contradicts(game: Game) -> bool:
    """Tell whether a judge prefers what comes first, or what comes second, in both orders."""
    if game.baseline_first is None or game.model_first is None:
        return False
    return (VERDICTS[game.baseline_first][0] - 0.5) * (VERDICTS[game.model_first][0] - 0.5) > 0


def existing(judgments: Path, answers: Path | None = None, baseline: Path | None = None) -> dict[str, Any]:
    """Return the statistics of all models of a file of arena-hard-auto's judgments: one question a line.

    Args:
        judgments: rows of question_id or uid, model, and games: two, each with a score such as A>B; the baseline is
            A in the first and B in the second.
        answers, baseline: the models' and the baseline's answers, for style control: rows of question_id or uid,
            model, and the answer.

    Raises:
        ValueError: a line of another format.
    """
    styles = {} if answers is None or baseline is None else _styles(answers, baseline)
    found: dict[str, list[Game]] = {}
    for number, row in raw_rows(str(judgments)):
        try:
            if not isinstance(row, Mapping):
                raise TypeError(str(row))
            name, asked = str(row["model"]), str(row.get("uid") or row["question_id"])
            scores = [None if game is None else game["score"] for game in row["games"]]
            if len(scores) != 2:
                raise ValueError(f"{len(scores)} games, where there must be two")
            first, second = scores
            strange = next((score for score in scores if score is not None and score not in VERDICTS), None)
            if strange is not None:
                raise ValueError(f"unknown score {strange!r}")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{judgments}, row {number}: {what}") from None
        found.setdefault(name, []).append(Game(asked, first, second, styles.get((name, asked))))
    if not found:
        raise ValueError(f"{judgments} has no judgments")
    protocol = PROTOCOL + (STYLE if styles else "")
    try:
        return {"protocol": protocol, "models": statistics(found), "notes": []}
    except ValueError as error:
        raise ValueError(f"{judgments}: {error}") from None


def _styles(answers: Path, baseline: Path) -> dict[tuple[str, str], tuple[Sequence[float], Sequence[float]]]:
    known = {name: style_of(said[0]) for name, said in answers_in(str(baseline)).items()}
    found: dict[tuple[str, str], tuple[Sequence[float], Sequence[float]]] = {}
    for number, row in raw_rows(str(answers)):
        try:
            if not isinstance(row, Mapping):
                raise TypeError(str(row))
            model, asked = str(row["model"]), str(row.get("uid") or row["question_id"])
            if asked in known:
                found[model, asked] = (style_of(answer_of(row)[0]), known[asked])
        except (LookupError, TypeError) as error:
            raise ValueError(f"{answers}, row {number}: lacks {first_line(error)}") from None
    return found


def as_lines(model: str, games: Iterable[Game]) -> str:
    """Return games as arena-hard-auto keeps them."""
    return "".join(
        json.dumps({"uid": one.question, "model": model,
                    "games": [{"score": one.baseline_first}, {"score": one.model_first}]}) + "\n"
        for one in games
    )  # fmt: skip
