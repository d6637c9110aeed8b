"""Every rule and every objective on every algorithmic unit test: where does each one end?"""

from __future__ import annotations

from collections.abc import Sequence

from mnpo.choices import choose
from mnpo.common.progress import Progress
from mnpo.objectives import OBJECTIVES
from mnpo.presets import RULES
from mnpo.sim.objective_checks import check_objective
from mnpo.sim.rule_checks import check_rule
from mnpo.sim.unit_tests import UNIT_TESTS, Verdict


def check(
    methods: Sequence[str] = (),
    tests: Sequence[str] = (),
    *,
    steps: int = 5_000,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Run methods on the test games.

    Args:
        methods: names of rules and objectives; all unless given. A name that is both stands for both.
        tests: names of `UNIT_TESTS`; all unless given.
        steps: updates of a rule.
        progress: called with what is done, and how many of how many.

    Raises:
        ValueError: an unknown method or test, with the nearest name.
    """
    known = {**RULES, **OBJECTIVES}
    for name in methods:
        choose(name, known, "rule or objective")
    chosen = [choose(name, UNIT_TESTS, "test") for name in dict.fromkeys(tests)] or list(UNIT_TESTS.values())
    if steps < 100:
        raise ValueError(f"steps must be at least 100 for a verdict; found {steps}")
    wanted = list(dict.fromkeys(methods or known))
    todo = [("rule", name, test) for name in wanted if name in RULES for test in chosen]
    todo += [
        ("objective", name, test) for name in wanted if name in OBJECTIVES for test in chosen if test.pairwise
    ]
    if not todo:
        raise ValueError(
            "objectives are asked of two players with one oracle only; none of these tests is such"
        )
    verdicts = []
    for number, (kind, name, test) in enumerate(todo):
        if progress:
            progress(f"{name} on {test.name}", number, len(todo))
        verdicts.append(check_rule(name, test, steps) if kind == "rule" else check_objective(name, test))
    return verdicts
