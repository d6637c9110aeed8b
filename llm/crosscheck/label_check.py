"""Sampled feedback cross-checked: does the error of a step fall as m^{−1/2}, and towards the right point?

Contexts and players are independent repetitions, so that both statements come with standard errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mnpo.gaps import nash_conv
from mnpo.llm.crosscheck.estimators import ESTIMATORS, Labels, TooMany, limit
from mnpo.llm.crosscheck.executor import Exact, Part
from mnpo.llm.crosscheck.positions import Place, Positions, distance, distances, outside, policies
from mnpo.numerics import Array

#: Responses to a prompt for which the bias of the sample game is told.
SIZES = (4, 8, 16, 32)
#: Repetitions without which nothing is said.
_FEWEST = 8
#: How many standard errors a right answer may be off: once in thousands by chance.
_ERRORS = 4.0
#: What the fits themselves may add to the share of the way.
_SLACK = 0.01


def label_steps(
    positions: Positions, place: Place, labels: Sequence[int], seed: int, tell: Callable[[int, int], None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Take one step by every estimator that the rule can be taught by, with every number of labels.

    Args:
        positions: whose networks are trained.
        place: where they are.
        labels: the numbers m, rising.
        seed: of the labels.
        tell: called with how many fits are done, and of how many.

    Returns:
        Rows, one for each estimator and m, and for each estimator what became of its error: `tv_limit` by m (mean
        total variation to what infinitely many labels teach), `slope` of its logarithm in log m (mean over contexts
        and players) with `slope_error`; `progress`, how far the step with most labels went along the way to the
        limit, 1 in expectation, with `progress_error`; `bias`, the distance of the limit to the rule's own step;
        of the sample game `bias_by_responses`, the same by K.
    """
    executor, rule = positions.executor, place.case.rule
    parts = executor.parts(place.game, rule, place.position, Exact())
    start, exact = policies(place.position.history[0]), place.table_step()
    limits: dict[str, Array] = {}
    for name in usable(place, len(parts)):
        try:
            taught = [limit(name, place.game, i, own, parts) for i, own in enumerate(start)]
        except TooMany:
            continue
        limits[name] = place.table_step(np.stack(taught))
    rows: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for name, aim in limits.items():
        found, on_table, number = [], [], list(ESTIMATORS).index(name)
        for count in labels:
            tell(len(rows), len(limits) * len(labels))
            begun = time.monotonic()
            rng = np.random.default_rng([seed, number, count])
            lesson = Labels(name, count, rng)
            profile = executor.update(place.game, rule, place.position, lesson, place.case.spec)
            step = policies(profile)
            found.append(step)
            kind = ESTIMATORS[name].table
            if kind is not None:
                on_table.append(distances(aim, place.table_step_by_labels(kind, count, rng)))
            rows.append(
                {
                    "steps": 1, "estimator": name, "labels": count, "tv": distance(exact, step),
                    "tv_limit": distance(aim, step), "moved": distance(start, exact),
                    "gap_table": float(nash_conv(place.aim, exact)),
                    "gap_network": float(nash_conv(place.aim, step)),
                    "outside": outside(profile), "agrees": None, "seconds": time.monotonic() - begun,
                }
            )  # fmt: skip
        slope, slope_error = _slope(labels, np.stack([distances(aim, step) for step in found]))
        progress, progress_error = _progress(start, aim, found[-1])
        agrees = None
        if distances(start, aim).size >= _FEWEST:
            agrees = bool(
                abs(slope + 0.5) <= _ERRORS * slope_error
                and abs(progress - 1) <= _ERRORS * progress_error + _SLACK
            )
        rows[-1]["agrees"] = agrees
        bias, moved = distance(exact, aim), distance(start, exact)
        by_size = None
        if name == "sample-game":
            by_size = {str(size): _bias(place, parts, start, exact, size) for size in SIZES}
        errors.append(
            {
                "estimator": name, "labels": list(labels), "bias": bias, "unbiased": bias < 0.01 * moved,
                "bias_by_responses": by_size,
                "tv_limit": [distance(aim, step) for step in found], "slope": slope, "slope_error": slope_error,
                "tv_limit_table": [float(values.mean()) for values in on_table] or None,
                "slope_table": _slope(labels, np.stack(on_table))[0] if on_table else None,
                "progress": progress, "progress_error": progress_error, "agrees": agrees,
            }
        )  # fmt: skip
    return rows, errors


def usable(place: Place, parts: int) -> list[str]:
    """Return the estimators that a rule with so many parts of its advantage can be taught by."""
    if place.case.rule.implicit is not None:
        return ["sample-game"] if place.case.slots == 1 else []
    names = [name for name in ESTIMATORS if name != "sample-game" and (name != "third" or parts == 1)]
    return [name for name in names if place.case.credits_current or ESTIMATORS[name].target == "win-rate"]


def _bias(place: Place, parts: Sequence[Part], start: Array, exact: Array, size: int) -> float:
    """How far the limit of a sample game with so many responses is from the rule's own step."""
    taught = [limit("sample-game", place.game, i, own, parts, size) for i, own in enumerate(start)]
    return distance(exact, place.table_step(np.stack(taught)))


def _slope(labels: Sequence[int], errors: Array) -> tuple[float, float]:
    """The slope of log error in log m, of every context and player by itself, and its standard error: (M, p, X)."""
    logs = np.log(np.maximum(errors.reshape(len(labels), -1), 1e-300))
    slopes = np.polyfit(np.log(labels), logs, 1)[0]
    return _mean(slopes)


def _progress(start: Array, aim: Array, end: Array) -> tuple[float, float]:
    """How far along the way from the start to the aim a step went; contexts count by how long their way is."""
    way, went = aim - start, end - start
    length, along = (way * way).sum(-1).ravel(), (way * went).sum(-1).ravel()
    share = along.sum() / length.sum()
    _, error = _mean((along - share * length) / length.mean())
    return float(share), error


def _mean(values: Array) -> tuple[float, float]:
    """The mean and its standard error, infinite for a single value."""
    if values.size < 2:
        return float(values.mean()), float("inf")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))
