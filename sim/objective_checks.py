"""One objective on labelled pairs on one algorithmic unit test."""

from __future__ import annotations

from collections import deque

import numpy as np

from mnpo.games import Game
from mnpo.gaps import nash_conv
from mnpo.minimisers import iterate, minimiser
from mnpo.numerics import Array
from mnpo.objectives import OBJECTIVES
from mnpo.oracles import Pairwise
from mnpo.presets import make_rule
from mnpo.rules import UpdateRule
from mnpo.sim.unit_tests import UnitTest, Verdict, default_step, largest_frequency, motion
from mnpo.steps import Blend


def check_objective(name: str, test: UnitTest) -> Verdict:
    """Minimise one objective exactly on one test, again and again if it is an iterated one.

    Pairs are drawn from the test's start. An objective anchored on the reference has its β or τ set to the
    test's τ, and is measured in the game of that τ; those that only know π_t, in the game without regularisation.
    """
    chosen = OBJECTIVES[name]
    matrix = test.oracle.pairwise_matrix()[0]
    size = matrix.shape[0]
    reference = np.full(size, 1 / size) if test.reference is None else test.reference
    start = reference if test.start is None else test.start
    if not chosen.iterated:
        strength = {key: test.tau for key in ("beta", "tau") if key in chosen.parameters}
        parameters = strength if chosen.anchor == "reference" else {}
        found = minimiser(name, matrix, start, reference=reference, **parameters)
        gap = float(nash_conv(test.game(), found.policy))
        verdict = "equilibrium" if gap <= test.tolerance else "elsewhere" if found.bounded else "diverges"
        return Verdict(name, "objective", test.name, verdict, gap, None)
    eta, steps = default_step(test), 300
    regularised = chosen.anchor == "rule" or "tau" in chosen.parameters
    if chosen.anchor == "rule":
        policies = _iterate_rule(name, matrix, reference, start, test.tau, eta)
    else:
        if name == "onpo":  # optimism is fastest at about half its largest stable step
            eta = min(5.0, 0.4 / max(0.05, largest_frequency(test)))
        given = {"eta": eta, "tau": test.tau, "beta": 1.0}
        options = {key: value for key, value in given.items() if key in chosen.parameters}
        policies = iterate(name, matrix, reference, steps, start=start, **options)
    game = test.game(test.tau if regularised else 0.0)
    gaps = np.array([float(nash_conv(game, policy)) for policy in policies])
    tail = max(2, len(policies) // 10)
    settled = gaps[-tail:].max() <= max(test.tolerance, 1e-4)
    verdict = "equilibrium" if settled else motion(gaps, policies[-tail:])
    return Verdict(name, "objective", test.name, verdict, float(gaps[-1]), eta)


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
