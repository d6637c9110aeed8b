"""Putting questions to oracles: what is kept is found, what is not is asked, each question once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnpo.common.digests import SIZE
from mnpo.llm.endpoints.asking import unfinished
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.base import TextOracle, check_answers
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.oracles.panel import Panel
from mnpo.llm.oracles.questions import AT_ONCE, Questions, Slot, Texts, digests_of, distinct, slots_of
from mnpo.llm.runtime.memory import release
from mnpo.llm.storage.store import Digests, Kept, Places, Store
from mnpo.numerics import Array

#: Numbers of a member's win matrices that are looked at together.
_NUMBERS = 2**21


class Asking(NamedTuple):
    """What putting questions to one oracle took: how many were asked and found, and seconds."""

    oracle: TextOracle
    asked: int
    reused: int
    seconds: float


def judge(
    job: Job, panel: Panel, texts: Texts, own: int, wanted: Sequence[tuple[int, int]]
) -> tuple[Judgments, list[Asking]]:
    """Let each member of a panel judge each prompt's responses; return what they say, and what that took.

    Args:
        job: the stage at work; each process asks its share.
        panel: who judges.
        texts: prompts and their N responses; read batch by batch, several times.
        own: K: the first so many responses are the rows of win matrices.
        wanted: pairs of places, the smaller first, of which an oracle of pairs is asked; equal texts are not asked
            about.

    Raises:
        ValueError: an oracle that does not answer; its answers so far are kept.
    """
    members, taken = [], []
    for oracle, weight in panel.members:
        store = Store(job.folders.store("answers"), oracle.key(), pa.float64())
        taken.append(ask(job, oracle, store, texts, wanted))
        members.append(_Member(oracle, weight, store, own, len(texts[0][1]), wanted))
    return Judgments(texts, members), taken


class Judgments:
    """What the members of a panel say of prompts' responses, read from the store for some prompts at a time.

    Attributes:
        at_once: prompts that a reader who keeps none of it may look at together.
    """

    def __init__(self, texts: Texts, members: Sequence[_Member]) -> None:
        self._texts, self._members = texts, members
        numbers = max((len(texts[0][1]) * member.own for member in members), default=1)
        self.at_once = max(1, min(AT_ONCE, _NUMBERS // numbers))

    def orders(self, start: int, stop: int) -> list[Array | None]:
        """Return what each member says of pairs in both orders, (prompts, pairs, 2); None for one asked in one."""
        texts = self._texts[start:stop]
        return [member.orders(texts) for member in self._members]

    def between(self, start: int, stop: int) -> list[list[Judged]]:
        """Return what each member says of prompts `start` to `stop`."""
        texts = self._texts[start:stop]
        by_member = [member.of(texts) for member in self._members]
        return [list(said) for said in zip(*by_member, strict=True)]


def ask(
    job: Job, oracle: TextOracle, store: Store, texts: Texts, wanted: Sequence[tuple[int, int]]
) -> Asking:
    """Put the questions that the store has no answers to, and keep the answers.

    Raises:
        ValueError: an oracle that does not answer; says how many questions are left.
    """
    start = time.monotonic()
    processes = job.processes
    slots = slots_of(oracle, len(texts[0][1]), wanted)

    def unknown() -> tuple[Digests, Places, int]:
        digests, places = distinct(texts, slots)
        new = ~store.kept().has(digests)
        return digests[new], places[new], len(digests)

    digests, places, total = processes.agree(unknown)
    asked = len(digests)
    if oracle.local:
        share = slice(processes.rank, None, processes.world)
    else:
        share = slice(None) if processes.first else slice(0)
    keys, put = digests[share].view(f"V{SIZE}"), Questions(texts, slots, places[share])
    done, report = 0, job.part(f"annotate: {oracle.name}")
    if len(put):
        try:
            with store.writer() as writer:
                for answers in oracle.answer(put, processes.device):
                    check_answers(oracle, put, answers)
                    writer.append(
                        [bytes(keys[place]) for place, _ in answers], [answer for _, answer in answers]
                    )
                    done += len(answers)
                    if report is not None:
                        report(done, len(put))
        except ValueError as error:
            raise unfinished(error, len(put) - done, len(put)) from None
        release()
    processes.wait()
    return Asking(oracle, asked, total - asked, time.monotonic() - start)


class _Member:
    """One of a panel: its answers as rewards or win matrices."""

    def __init__(
        self,
        oracle: TextOracle,
        weight: float,
        store: Store,
        own: int,
        responses: int,
        wanted: Sequence[tuple[int, int]],
    ) -> None:
        self._oracle, self._weight, self._store = oracle, weight, store
        self.own, self._responses = own, responses
        self._wanted: npt.NDArray[np.int64] = np.array(wanted, dtype=np.int64).reshape(-1, 2)
        self._slots: list[Slot] = slots_of(oracle, responses, wanted)

    @cached_property
    def _kept(self) -> Kept:
        return self._store.kept()

    def _answers(self, texts: Texts) -> Array:
        digests, places = digests_of(texts, self._slots)
        answers = np.full((len(texts), len(self._slots)), 0.5)  # of equal texts
        answers.flat[places] = self._kept.numbers(digests)
        return answers

    def orders(self, texts: Texts) -> Array | None:
        if not self._oracle.both_orders:
            return None
        return self._answers(texts).reshape(len(texts), -1, 2)

    def of(self, texts: Texts) -> list[Judged]:
        answers = self._answers(texts)
        if self._oracle.kind == "reward":
            return [Judged(self._weight, rewards=said) for said in answers / self._oracle.scale]
        return [Judged(self._weight, wins=said) for said in self._matrices(answers)]

    def _matrices(self, answers: Array) -> Array:
        """Return P(row ≻ column), (prompts, K, N): ½ for equal texts, NaN for what was not asked."""
        chances = answers
        if self._oracle.both_orders:
            chances = (answers[:, 0::2] + 1 - answers[:, 1::2]) / 2
        first, second = self._wanted.T
        wins = np.full((len(answers), self.own, self._responses), np.nan)
        wins[:, first, second] = chances
        back = second < self.own
        wins[:, second[back], first[back]] = 1 - chances[:, back]
        diagonal = np.arange(self.own)
        wins[:, diagonal, diagonal] = 0.5
        return wins
