"""Judges of one's own, as a file holds them, and how tests build and ask them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mnpo.llm.oracles.base import Question, TextOracle
from mnpo.llm.oracles.panel import build

QUESTIONS = [Question("Rain?", "Yes, rain.", "No."), Question("Tea?", "Tea is fine.", "Tea, and lots of it.")]
CPU: Any = None  # no oracle here computes on a device

FILE = """
import math
from mnpo.llm.oracles.base import TextOracle

def judge(prompt, response):
    return len(response)

def shorter(prompt, first, second, *, slope=1.0):
    return 1 / (1 + math.exp(slope * (len(first) - len(second))))

def together(prompts, responses):
    return [len(response) + 100 * len(responses) for response in responses]

together.batch_size = 8

def weighted(weight):
    return lambda prompt, response: weight * len(response)

class Words(TextOracle):
    kind = "reward"

    def __init__(self, *, bonus: float = 0.0):
        self.bonus = bonus

    def answer(self, questions, device):
        for place, question in enumerate(questions):
            yield [(place, len(question.first.split()) + self.bonus)]

class Keyed(Words):
    def key(self):
        return {"mine": 1, "bonus": self.bonus}

BUILT = Keyed(bonus=5)
"""


def write(folder: Path, text: str, name: str = "own.py") -> str:
    (folder / name).write_text(dedent(text))
    return str(folder / name)


def only(spec: Any) -> TextOracle:
    (member,) = build(spec).members
    return member.oracle


def answers(oracle: TextOracle, questions: list[Question] = QUESTIONS) -> list[float]:
    found = dict(answer for batch in oracle.answer(questions, CPU) for answer in batch)
    return [found[place] for place in range(len(questions))]


def refusal(spec: Any) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        build(spec)
    assert "\n" not in str(error.value)
    return str(error.value)
