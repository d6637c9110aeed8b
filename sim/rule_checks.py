"""One update rule on one algorithmic unit test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mnpo.dynamics import run
from mnpo.games import Game
from mnpo.numerics import Array
from mnpo.presets import RULES, make_rule
from mnpo.rules import Rule
from mnpo.sim.unit_tests import UnitTest, Verdict, default_step, motion


def check_rule(name: str, test: UnitTest, steps: int = 5_000) -> Verdict:
    """Run one rule on one test, with a step that is stable if the rule has one."""
    preset = RULES[name]
    tau = 0.0 if preset.unregularised else test.tau
    measured = test.game(tau)
    eta = default_step(test)
    given: dict[str, Any] = {"ht-mnpo": {"anchor": "own"}, "eo-mnpo": {"external_tau": [test.tau]}}
    options = {"eta": eta, "tau": test.tau, "players": max(4, test.players), **given.get(name, {})}
    if name != "nash-md":
        chosen = make_rule(name, **options)
        uniform = np.full(test.oracle.responses, 1 / test.oracle.responses)
        return verdict_on(name, chosen, test, measured, steps, [uniform] * chosen.externals)
    # Nash-MD's stationary point is off by O(ητ), so its guarantee is for falling steps: run it in stages.
    start, verdict = test.start, None
    for stage in range(5):
        options["eta"] = eta / 2**stage
        length = int(min(2 * steps, 12 / (options["eta"] * test.tau)))
        rule = make_rule(name, **options)
        verdict = verdict_on(name, rule, test, measured, length, (), start)
        start = run(Game(test.oracle, test.players, test.tau, test.reference), rule, length, start=start,
                    every=length).policies  # fmt: skip
        start = np.maximum(start, 1e-300)
        start = start / start.sum(-1, keepdims=True)
    assert verdict is not None
    return verdict


def verdict_on(
    name: str,
    rule: Rule,
    test: UnitTest,
    measured: Game,
    steps: int,
    externals: Sequence[Array] = (),
    start: Array | None = None,
) -> Verdict:
    """Run a rule from the test's start and say where its last iterates are.

    Args:
        name: what to call the method.
        rule: the rule.
        test: the test.
        measured: the game in which the gap is measured.
        steps: updates.
        externals: the rule's external policies.
        start: π^0, the test's unless given.
    """
    begin = test.start if start is None else start
    game = Game(test.oracle, test.players, measured.tau, test.reference)
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
        if not falling or gaps[-1] <= test.tolerance:
            break
        steps *= 2
    assert found.recorded_policies is not None
    eta = getattr(rule, "eta", None)
    if not np.isfinite(gaps).all():
        return Verdict(name, "rule", test.name, "diverges", None, eta)
    last = gaps[-tail:]
    settled = gaps[-1] <= test.tolerance and last.max() <= 2 * test.tolerance
    verdict = "equilibrium" if settled else motion(gaps, list(found.recorded_policies[-tail:]))
    gap = float(gaps[-1]) if verdict in ("equilibrium", "elsewhere") else float(last.min())
    return Verdict(name, "rule", test.name, verdict, gap, eta)
