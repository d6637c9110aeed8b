"""What AlpacaEval 2's judge is asked, and how its verdicts are weighed by log-probabilities."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable

from mnpo.llm.benchmarks.alpaca_eval import Row
from mnpo.llm.benchmarks.judge_prompts import JudgePrompts
from mnpo.llm.benchmarks.questions import Question
from mnpo.llm.endpoints.chat import Reply, Request

MAX_TOKENS = 2048
#: Asks for the alternatives to the first token, of which AlpacaEval weighs the two names.
LOGPROBS = {"logprobs": True, "top_logprobs": 5}
_NAME = re.compile(r"\s*([mM])\b")


def requests(
    prompts: JudgePrompts, question: Question, answer: str, *, logprobs: bool, both: bool
) -> list[Request]:
    """Return what the judge is asked: the baseline as m and the model as M, and with `both` the other way round."""
    assert question.baseline is not None
    asked, fields = {"question": question.turns[0]}, LOGPROBS if logprobs else {}
    template = prompts["alpaca-eval-2"]
    found = [template.request({**asked, "first": question.baseline, "second": answer}, fields)]
    return found + [template.request({**asked, "first": answer, "second": question.baseline}, fields)] * both


def preference(reply: Reply) -> float | None:
    """Return how far the judge prefers M, from 0 to 1; None for a verdict that cannot be read.

    By the log-probabilities of both names as the first token where the endpoint gave them, else 1 or 0.
    """
    if reply.refused:
        return None
    if reply.tokens:
        mass = {
            name: sum(math.exp(value) for token, value in reply.tokens.items() if token.strip() == name)
            for name in "mM"
        }
        if mass["m"] + mass["M"] > 0:
            return mass["M"] / (mass["m"] + mass["M"])
    found = _NAME.match(reply.text.rpartition("</think>")[2])
    return None if found is None else float(found[1] == "M")


def published_preference(reply: Reply) -> float:
    """Return what EvalScope 1.0.2 reads: the first m or M anywhere; 0, a loss, without one."""
    found = re.search("[mM]", "" if reply.refused else reply.text)
    return float(found is not None and found[0] == "M")


def as_table(model: str, rows: Iterable[Row]) -> str:
    """Return judgments as a table that `alpaca-eval-2 annotations=` reads, without its first line."""
    text = io.StringIO()
    csv.writer(text).writerows([model, *row] for row in rows)
    return text.getvalue()
