"""Putting questions to oracles: what is kept is found, what is not is asked, each question once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mnpo.common.digests import bytes_digest
from mnpo.llm.data.formats import Text
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.base import Question, TextOracle, check_answers
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.oracles.panel import Panel
from mnpo.llm.runtime.memory import release
from mnpo.llm.storage.store import Store
from mnpo.numerics import Array


class Asking(NamedTuple):
    """What putting questions to one oracle took: how many were asked and found, and seconds."""

    oracle: TextOracle
    asked: int
    reused: int
    seconds: float


def judge(
    job: Job,
    panel: Panel,
    texts: Sequence[tuple[Text, Sequence[str]]],
    own: int,
    wanted: Sequence[tuple[int, int]],
) -> tuple[list[list[Judged]], list[Asking]]:
    """Return what each member of a panel says of each prompt's responses, and what that took.

    Args:
        job: the stage at work; each process asks its share.
        panel: who judges.
        texts: prompts and their N responses.
        own: K: the first so many responses are the rows of win matrices.
        wanted: pairs of places, of which an oracle of pairs is asked; equal texts are not asked about.

    Raises:
        ValueError: an oracle that does not answer; its answers so far are kept.
    """
    judged: list[list[Judged]] = [[] for _ in texts]
    taken = []
    for oracle, weight in panel.members:
        rewarding = oracle.kind == "reward"
        questions: list[Question] = []
        for prompt, answers in texts:
            if rewarding:
                questions += [Question(prompt, answer) for answer in answers]
            else:
                questions += _of_pairs(oracle, prompt, answers, wanted)
        answered, asking = ask(job, oracle, questions)
        taken.append(asking)
        for place, (prompt, answers) in enumerate(texts):
            if rewarding:
                found = np.array([answered[question_digest(Question(prompt, answer))] for answer in answers])
                judged[place].append(Judged(weight, rewards=found / oracle.scale))
            else:
                wins = _matrix(oracle, prompt, answers, own, wanted, answered)
                judged[place].append(Judged(weight, wins=wins))
    return judged, taken


def ask(job: Job, oracle: TextOracle, questions: Sequence[Question]) -> tuple[dict[bytes, float], Asking]:
    """Put the questions that the store has no answers to; return all answers by digest, and what that took.

    Raises:
        ValueError: an oracle that does not answer; says how many questions are left.
    """
    start = time.monotonic()
    processes = job.processes
    store = Store(job.folders.store("answers"), oracle.key(), pa.float64())
    unique = {question_digest(question): question for question in questions}

    def unknown() -> list[bytes]:
        known = store.load()
        return [key for key in unique if key not in known]

    left = processes.agree(unknown)
    mine = left[processes.rank :: processes.world] if oracle.local else left if processes.first else []
    done, report = 0, job.part(f"annotate: {oracle.name}")
    put = [unique[key] for key in mine]
    if put:
        try:
            with store.writer() as writer:
                for answers in oracle.answer(put, processes.device):
                    check_answers(oracle, put, answers)
                    writer.append([mine[place] for place, _ in answers], [answer for _, answer in answers])
                    done += len(answers)
                    if report is not None:
                        report(done, len(mine))
        except ValueError as error:
            raise ValueError(
                f"{error} ({len(mine) - done} of {len(mine)} questions are left; what was answered is kept, "
                "and the same command goes on)"
            ) from None
        release()
    processes.wait()
    return store.load(), Asking(oracle, len(left), len(unique) - len(left), time.monotonic() - start)


def question_digest(question: Question) -> bytes:
    """Return what the store keeps a question's answer under."""
    return bytes_digest(json.dumps(question).encode())


def _of_pairs(
    oracle: TextOracle, prompt: Text, answers: Sequence[str], wanted: Sequence[tuple[int, int]]
) -> list[Question]:
    found = []
    for first, second in wanted:
        if answers[first] != answers[second]:
            found.append(Question(prompt, answers[first], answers[second]))
            if oracle.both_orders:
                found.append(Question(prompt, answers[second], answers[first]))
    return found


def _matrix(
    oracle: TextOracle,
    prompt: Text,
    answers: Sequence[str],
    own: int,
    wanted: Sequence[tuple[int, int]],
    answered: Mapping[bytes, float],
) -> Array:
    """Return P(row ≻ column), (K, N): ½ for equal texts, NaN for what was not asked."""
    wins = np.full((own, len(answers)), np.nan)
    for first, second in wanted:
        if answers[first] == answers[second]:
            chance = 0.5
        else:
            chance = answered[question_digest(Question(prompt, answers[first], answers[second]))]
            if oracle.both_orders:
                back = answered[question_digest(Question(prompt, answers[second], answers[first]))]
                chance = (chance + 1 - back) / 2
        wins[first, second] = chance
        if second < own:
            wins[second, first] = 1 - chance
    wins[range(own), range(own)] = 0.5
    return wins
