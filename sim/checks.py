"""Algorithmic unit tests: small games that a method which claims to find Nash policies must solve.

After the idea of testing algorithms by what they do on games with known answers (2310.17867). Every rule and
every objective is run on every game; the verdict is where it ends: at the equilibrium, elsewhere (it stands
still but somebody gains by deviating), in cycles, or diverging.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnpo.choices import choose
from mnpo.dynamics import Blend, Rule, run
from mnpo.games import Game
from mnpo.gaps import nash_conv
from mnpo.minimisers import iterate, minimiser
from mnpo.numerics import Array
from mnpo.objectives import OBJECTIVES
from mnpo.oracles import Heterogeneous, Oracle, Pairwise, Population
from mnpo.presets import RULES, make_rule
from mnpo.rates import frequencies
from mnpo.rules import UpdateRule

#: KL strength of the regularised tests.
TAU = 0.05
VERDICTS = ("equilibrium", "elsewhere", "cycles", "diverges")


@dataclass(frozen=True, eq=False)
class Case:
    """One test game.

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
        verdict: one of equilibrium, elsewhere, cycles, diverges.
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


def _cases() -> dict[str, Case]:
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
    cases = [
        Case("condorcet", "a Condorcet winner above a cycle is played as tau tends to 0", Pairwise(condorcet),
             tau=0.005, measured_tau=0.0, tolerance=0.02, start=np.array([0.1, 0.4, 0.3, 0.2])),
        Case("rps", "symmetric rock-paper-scissors: uniform", Pairwise(rps), start=tilted),
        Case("biased-rps", "biased rock-paper-scissors: the known mixture", Pairwise(biased), start=tilted),
        Case("dominated-clone", "mass leaves a dominated clone, copies share and do not gain", Pairwise(clones),
             start=np.array([0.1, 0.2, 0.2, 0.1, 0.4])),
        Case("duplicate", "a duplicated response shares what it had alone", Pairwise(twice),
             start=np.array([0.4, 0.3, 0.2, 0.1])),
        Case("rare-best", "the best response has a mass of 1e-6 under the reference", Pairwise(transitive),
             reference=rare),
        Case("transitive", "Bradley-Terry: as tau tends to 0 the best response is played", Pairwise(transitive),
             tau=0.005, measured_tau=0.0, tolerance=0.02),
        Case("minority-2", "a minority of 30%, two players", Population(orders, [0.7, 0.3]), start=even),
        Case("minority-10", "a minority of 30%, ten players", Population(orders, [0.7, 0.3]), players=10,
             start=even, pairwise=False),
        Case("conflict", "three players with oracles of their own", conflict, players=3, pairwise=False),
    ]  # fmt: skip
    return {case.name: case for case in cases}


CASES = _cases()


def check(
    methods: Sequence[str] = (),
    tests: Sequence[str] = (),
    *,
    steps: int = 5_000,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Verdict]:
    """Run methods on the test games.

    Args:
        methods: names of rules and objectives; all unless given. A name that is both stands for both.
        tests: names of `CASES`; all unless given.
        steps: updates of a rule.
        progress: called with what is done, and how many of how many.

    Raises:
        ValueError: an unknown method or test, with the nearest name.
    """
    known = {**RULES, **OBJECTIVES}
    for name in methods:
        choose(name, known, "rule or objective")
    cases = [choose(name, CASES, "test") for name in dict.fromkeys(tests)] or list(CASES.values())
    if steps < 100:
        raise ValueError(f"steps must be at least 100 for a verdict; found {steps}")
    wanted = list(dict.fromkeys(methods or known))
    todo = [("rule", name, case) for name in wanted if name in RULES for case in cases]
    todo += [
        ("objective", name, case) for name in wanted if name in OBJECTIVES for case in cases if case.pairwise
    ]
    if not todo:
        raise ValueError(
            "objectives are asked of two players with one oracle only; none of these tests is such"
        )
    verdicts = []
    for number, (kind, name, case) in enumerate(todo):
        if progress:
            progress(f"{name} on {case.name}", number, len(todo))
        verdicts.append(check_rule(name, case, steps) if kind == "rule" else check_objective(name, case))
    return verdicts


def check_rule(name: str, case: Case, steps: int = 5_000) -> Verdict:
    """Run one rule on one test, with a step that is stable if the rule has one."""
    preset = RULES[name]
    tau = 0.0 if preset.unregularised else case.tau
    measured = case.game(tau)
    eta = default_step(case)
    options: dict[str, Any] = {"eta": eta, "tau": case.tau, "players": max(4, case.players)}
    if name == "ht-mnpo":
        options["anchor"] = "own"
    externals = [np.full(case.oracle.responses, 1 / case.oracle.responses)] if name == "eo-mnpo" else []
    if name == "eo-mnpo":
        options["external_tau"] = [case.tau]
    if name != "nash-md":
        return judge(name, make_rule(name, **options), case, measured, steps, externals)
    # Nash-MD's stationary point is off by O(ητ), so its guarantee is for falling steps: run it in stages.
    start, verdict = case.start, None
    for stage in range(5):
        options["eta"] = eta / 2**stage
        length = int(min(2 * steps, 12 / (options["eta"] * case.tau)))
        rule = make_rule(name, **options)
        verdict = judge(name, rule, case, measured, length, (), start)
        start = run(Game(case.oracle, case.players, case.tau, case.reference), rule, length, start=start,
                    every=length).policies  # fmt: skip
        start = np.maximum(start, 1e-300)
        start = start / start.sum(-1, keepdims=True)
    assert verdict is not None
    return verdict


def judge(
    name: str,
    rule: Rule,
    case: Case,
    measured: Game,
    steps: int,
    externals: Sequence[Array] = (),
    start: Array | None = None,
) -> Verdict:
    """Run a rule from the case's start and say where its last iterates are.

    Args:
        name: what to call the method.
        rule: the rule.
        case: the test.
        measured: the game in which the gap is measured.
        steps: updates.
        externals: the rule's external policies.
        start: π^0, the case's unless given.
    """
    begin = case.start if start is None else start
    game = Game(case.oracle, case.players, measured.tau, case.reference)
    for _ in range(4):
        found = run(
            game,
            rule,
            steps,
            start=begin,
            externals=externals,
            every=max(1, steps // 200),
            keep_policies=True,
        )
        gaps = found.gap
        tail = max(2, len(gaps) // 10)
        # While the gap still falls clearly from one tenth of the run to the next, nothing is decided.
        falling = np.median(gaps[-tail:]) < 0.9 * np.median(gaps[-2 * tail : -tail])
        if not falling or gaps[-1] <= case.tolerance:
            break
        steps *= 2
    assert found.recorded_policies is not None
    eta = getattr(rule, "eta", None)
    if not np.isfinite(gaps).all():
        return Verdict(name, "rule", case.name, "diverges", None, eta)
    last, ends = gaps[-tail:], found.recorded_policies[-tail:]
    moves = float(np.abs(ends - ends[-1]).max())
    if gaps[-1] <= case.tolerance and last.max() <= 2 * case.tolerance:
        verdict = "equilibrium"
    elif moves < 1e-4:
        verdict = "elsewhere"
    else:
        verdict = "diverges" if last.min() > gaps[0] else "cycles"
    gap = float(gaps[-1]) if verdict in ("equilibrium", "elsewhere") else float(last.min())
    return Verdict(name, "rule", case.name, verdict, gap, eta)


def check_objective(name: str, case: Case) -> Verdict:
    """Minimise one objective exactly on one test, again and again if it is an iterated one.

    Pairs are drawn from the case's start. An objective anchored on the reference has its β or τ set to the
    test's τ, and is measured in the game of that τ; those that only know π_t, in the game without regularisation.
    """
    chosen = OBJECTIVES[name]
    matrix = case.oracle.pairwise_matrix()[0]
    size = matrix.shape[0]
    reference = np.full(size, 1 / size) if case.reference is None else case.reference
    start = reference if case.start is None else case.start
    if not chosen.iterated:
        strength = {key: case.tau for key in ("beta", "tau") if key in chosen.parameters}
        parameters = strength if chosen.anchor == "reference" else {}
        found = minimiser(name, matrix, start, reference=reference, **parameters)
        gap = float(nash_conv(case.game(), found.policy))
        verdict = "equilibrium" if gap <= case.tolerance else "elsewhere" if found.bounded else "diverges"
        return Verdict(name, "objective", case.name, verdict, gap, None)
    eta, steps = default_step(case), 300
    regularised = chosen.anchor == "rule" or "tau" in chosen.parameters
    if chosen.anchor == "rule":
        policies = _iterate_rule(name, matrix, reference, start, case.tau, eta)
    else:
        if name == "onpo":  # optimism is fastest at about half its largest stable step
            eta = min(5.0, 0.4 / max(0.05, _frequency(case)))
        given = {"eta": eta, "tau": case.tau, "beta": 1.0}
        options = {key: value for key, value in given.items() if key in chosen.parameters}
        policies = iterate(name, matrix, reference, steps, start=start, **options)
    game = case.game(case.tau if regularised else 0.0)
    gaps = np.array([float(nash_conv(game, policy)) for policy in policies])
    tail = max(2, len(policies) // 10)
    moves = float(np.abs(np.stack(policies[-tail:]) - policies[-1]).max())
    if gaps[-tail:].max() <= max(case.tolerance, 1e-4):
        verdict = "equilibrium"
    elif moves < 1e-4:
        verdict = "elsewhere"
    else:
        verdict = "diverges" if gaps[-tail:].min() > gaps[0] else "cycles"
    return Verdict(name, "objective", case.name, verdict, float(gaps[-1]), eta)


def _iterate_rule(
    name: str, matrix: Array, reference: Array, start: Array, tau: float, eta: float, steps: int = 150
) -> list[Array]:
    """INPO's rule carried out by an MNPO loss: its anchors, and its advantage as win-rate targets."""
    rule = make_rule("inpo", eta=eta, tau=tau)
    assert isinstance(rule, UpdateRule)
    blend = Blend(Game(Pairwise(matrix), 2, tau, reference), rule.anchors, [])
    policies = [start]
    for _ in range(steps):
        now = policies[-1]
        wins = matrix @ now
        anchor = blend.logits(deque([np.log(now)[None, None]]))[0, 0]
        target = eta * (wins[:, None] - wins)
        found = minimiser(name, matrix, now, reference=reference, anchor=anchor, target=target).policy
        found = np.maximum(found, 1e-300)
        policies.append(found / found.sum())
    return policies


def _frequency(case: Case) -> float:
    try:
        game = Game(case.oracle, case.players, case.tau, case.reference)
        return float(frequencies(game).max(initial=0.0))
    except ValueError:
        return 0.25


def default_step(case: Case) -> float:
    """A step that every mirror-descent rule with a stable one finds stable: a third of INPO's limit.

    INPO is stable below 2τ/(τ² + ω²), ω the largest frequency of the game.
    """
    return min(1.0, 2 * case.tau / (case.tau**2 + _frequency(case) ** 2) / 3)
