"""Questions are told apart in bulk and made one by one: the same as if each stood for itself."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import numpy as np
import pytest

from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.functions import FunctionOracle
from mnpo.llm.oracles.questions import Questions, digests_of, distinct, slots_of
from mnpo.llm.storage.store import as_digests

TALK = [{"role": "user", "content": 'a "quoted" é'}, {"role": "assistant", "content": "b"}]
TEXTS: list[tuple[Any, list[str]]] = [
    ("one\n", ["x", "y", "x", "\ud800"]),
    (TALK, ["x", "x", "x", "x"]),
    ("one\n", ["y", "x", "z", "\u2028"]),
]


def reward(prompt: str, response: str) -> float:
    return 1.0


def pairwise(prompt: str, first: str, second: str) -> float:
    return 0.5


def question_digest(question: Question) -> bytes:
    return hashlib.blake2b(json.dumps(question).encode(), digest_size=16).digest()


def expected(oracle: FunctionOracle, wanted: list[tuple[int, int]]) -> list[Question]:
    found = []
    for prompt, answers in TEXTS:
        if oracle.kind == "reward":
            found += [Question(prompt, answer) for answer in answers]
            continue
        for first, second in wanted:
            if answers[first] != answers[second]:
                found.append(Question(prompt, answers[first], answers[second]))
                if oracle.both_orders:
                    found.append(Question(prompt, answers[second], answers[first]))
    return found


@pytest.mark.parametrize("judge", [reward, pairwise, "both"])
def test_digests_and_questions_are_those_of_one_by_one(judge: Any) -> None:
    oracle = FunctionOracle(pairwise, both_orders=True) if judge == "both" else FunctionOracle(judge)
    wanted = list(itertools.combinations(range(4), 2))
    slots = slots_of(oracle, 4, wanted)
    digests, places = digests_of(TEXTS, slots)
    one_by_one = expected(oracle, wanted)
    assert digests.tolist() == as_digests([question_digest(one) for one in one_by_one]).tolist()
    assert list(Questions(TEXTS, slots, places)) == one_by_one
    later = [digests_of(TEXTS[start : start + 1], slots, start) for start in range(3)]
    assert np.concatenate([part[1] for part in later]).tolist() == places.tolist()
    once, first = distinct(TEXTS, slots)
    questions = Questions(TEXTS, slots, first)
    assert list(map(repr, questions)) == list(dict.fromkeys(map(repr, one_by_one)))
    assert once.tolist() == as_digests([question_digest(one) for one in questions]).tolist()
    assert list(questions[1::2]) == list(questions)[1::2]
    assert questions[-1] == list(questions)[-1]
