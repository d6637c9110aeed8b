"""Algorithmic unit tests: small games that a method which claims to find Nash policies must solve.

After the idea of testing algorithms by what they do on games with known answers (2310.17867).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnpo.games import Game
from mnpo.numerics import Array
from mnpo.oracles import Heterogeneous, Oracle, Pairwise, Population
from mnpo.rates import frequencies

#: KL strength of the regularised tests.
TAU = 0.05
#: Policies that change by less than this stand still.
STILL = 1e-4


@dataclass(frozen=True, eq=False)
class UnitTest:
    """A game with a known answer, and when a method counts as having found it.

    Attributes:
        name: lower case with hyphens.
        asks: what the test is for.
        oracle: who wins.
        players: n.
        tau: KL strength that rules aim at.
        reference: π_ref, (A,).
        start: π^0, (A,), away from the equilibrium.
        measured_tau: the τ of the game in which the gap is measured, if not the rule's.
        tolerance: NashConv that counts as the equilibrium.
        pairwise: whether objectives on labelled pairs can be asked.
    """

    name: str
    asks: str
    oracle: Oracle
    players: int = 2
    tau: float = TAU
    reference: Array | None = None
    start: Array | None = None
    measured_tau: float | None = None
    tolerance: float = 1e-5
    pairwise: bool = True

    def game(self, tau: float | None = None) -> Game:
        """The game in which gaps are measured."""
        chosen = self.measured_tau if self.measured_tau is not None else self.tau if tau is None else tau
        return Game(self.oracle, self.players, chosen, self.reference)


@dataclass(frozen=True)
class Verdict:
    """How a method fared on a test.

    Attributes:
        method: rule or objective.
        kind: "rule" or "objective".
        test: the test's name.
        verdict: "equilibrium"; "elsewhere", where it stands still but somebody gains by deviating; "cycles",
            where it keeps moving; "diverges", where it keeps moving with a gap above the first.
        gap: NashConv where it ended (the best of the last tenth where it moves); None if not a number.
        eta: the step used, None for objectives without one.
    """

    method: str
    kind: str
    test: str
    verdict: str
    gap: float | None
    eta: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "method": self.method, "rule": self.method, "kind": self.kind, "test": self.test,
            "verdict": self.verdict, "gap": self.gap, "eta": self.eta,
        }  # fmt: skip


def motion(gaps: Array, ends: Sequence[Array]) -> str:
    """Return the verdict on a method that did not end at the equilibrium.

    Args:
        gaps: NashConv of the first iterate and of those after it.
        ends: the last policies, whose gaps are the last of `gaps`.
    """
    if float(np.abs(np.stack(ends) - ends[-1]).max()) < STILL:
        return "elsewhere"
    return "diverges" if gaps[-len(ends) :].min() > gaps[0] else "cycles"


def largest_frequency(test: UnitTest) -> float:
    """Return ω, the largest frequency of the game near its equilibrium; 1/4 where it is not known."""
    try:
        game = Game(test.oracle, test.players, test.tau, test.reference)
        return float(frequencies(game).max(initial=0.0))
    except ValueError:
        return 0.25


def default_step(test: UnitTest) -> float:
    """Return a step that every mirror-descent rule with a stable one finds stable: a third of INPO's limit.

    INPO is stable below 2τ/(τ² + ω²), ω the largest frequency of the game: equation (13) of docs/concepts.md.
    """
    return min(1.0, 2 * test.tau / (test.tau**2 + largest_frequency(test) ** 2) / 3)


def _unit_tests() -> dict[str, UnitTest]:
    rps = 0.5 + 0.3 * np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    biased = np.array([[0.5, 0.25, 0.95], [0.75, 0.5, 0.25], [0.05, 0.75, 0.5]])
    tilted = np.array([0.6, 0.25, 0.15])
    utility = np.array([1.5, 0.5, 0.0, -1.0])
    transitive = 1 / (1 + np.exp(utility - utility[:, None]))
    condorcet = np.array(
        [[0.5, 0.6, 0.6, 0.6], [0.4, 0.5, 0.8, 0.2], [0.4, 0.2, 0.5, 0.8], [0.4, 0.8, 0.2, 0.5]]
    )
    # Responses 3 and 4 are rock twice more, once a copy and once a copy that always does a little worse.
    index = [0, 1, 2, 0, 0]
    clones = biased[np.ix_(index, index)].copy()
    clones[4, :4] = np.clip(clones[4, :4] - 0.05, 0.0, 1.0)
    clones[:4, 4] = 1 - clones[4, :4]
    twice = biased[np.ix_(index[:4], index[:4])]
    rare = np.array([1e-6, 0.4, 0.3, 0.3 - 1e-6])
    orders = np.stack([np.arange(4), np.arange(4)[::-1]])
    rng = np.random.default_rng(0)
    tastes = rng.standard_normal((3, 4))
    conflict = Heterogeneous([Pairwise(1 / (1 + np.exp(t - t[:, None]))) for t in 2 * tastes])
    even = np.full(4, 0.25)
    tests = [
        UnitTest("condorcet", "a Condorcet winner above a cycle is played as tau tends to 0", Pairwise(condorcet),
             tau=0.005, measured_tau=0.0, tolerance=0.02, start=np.array([0.1, 0.4, 0.3, 0.2])),
        UnitTest("rps", "symmetric rock-paper-scissors: uniform", Pairwise(rps), start=tilted),
        UnitTest("biased-rps", "biased rock-paper-scissors: the known mixture", Pairwise(biased), start=tilted),
        UnitTest("dominated-clone", "mass leaves a dominated clone, copies share and do not gain", Pairwise(clones),
             start=np.array([0.1, 0.2, 0.2, 0.1, 0.4])),
        UnitTest("duplicate", "a duplicated response shares what it had alone", Pairwise(twice),
             start=np.array([0.4, 0.3, 0.2, 0.1])),
        UnitTest("rare-best", "the best response has a mass of 1e-6 under the reference", Pairwise(transitive),
             reference=rare),
        UnitTest("transitive", "Bradley-Terry: as tau tends to 0 the best response is played", Pairwise(transitive),
             tau=0.005, measured_tau=0.0, tolerance=0.02),
        UnitTest("minority-2", "a minority of 30%, two players", Population(orders, [0.7, 0.3]), start=even),
        UnitTest("minority-10", "a minority of 30%, ten players", Population(orders, [0.7, 0.3]), players=10,
             start=even, pairwise=False),
        UnitTest("conflict", "three players with oracles of their own", conflict, players=3, pairwise=False),
    ]  # fmt: skip
    return {test.name: test for test in tests}


UNIT_TESTS = _unit_tests()
