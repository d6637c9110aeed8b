"""Steps and weights by their local rate: which are stable, and which converge fastest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from mnpo.equilibria import solve
from mnpo.games import Game
from mnpo.logit import ConvergenceError
from mnpo.numerics import Array
from mnpo.rates import Rate, frequencies, local_rate
from mnpo.rules import UpdateRule

Builder = Callable[[float], UpdateRule]


def stable_steps(
    build: Builder, game: Game, *, largest: float | None = None, equilibrium: npt.ArrayLike | None = None
) -> list[tuple[float, float]]:
    """Return the intervals of steps η at which a rule is locally stable, to a relative 1e-6.

    Args:
        build: η -> rule, for instance `lambda eta: td_mnpo(eta, tau, players=4)`.
        game: as for `local_rate`.
        largest: the end of the search; where the rule cannot be built (ητ above 1) it ends anyway. Unless
            given, 100 over the largest frequency of the game.
        equilibrium: the game's, if it is at hand.

    Returns:
        [(low, high), ..]; empty if no step is stable. A low end of 0 means that all small steps are stable.
    """
    exact = solve(game).policies if equilibrium is None else equilibrium
    grid, radius = _scan(build, game, largest, exact)
    ends: list[tuple[float, float]] = []
    inside = [r < 1 for r in radius]
    low = 0.0 if inside and inside[0] else None
    for place in range(1, len(grid)):
        if inside[place] == inside[place - 1]:
            continue
        edge = _edge(build, game, grid[place - 1], grid[place], inside[place - 1], exact)
        if inside[place]:
            low = edge
        else:
            assert low is not None
            ends.append((low, edge))
            low = None
    if low is not None:
        ends.append((low, float(grid[-1])))
    return ends


@dataclass(frozen=True, eq=False)
class Tuned:
    """The best step, and the best weights if they were asked for.

    Attributes:
        rule: the rule with the best rate.
        eta: its step.
        weights: its history weights, or None.
        rate: its local rate.
    """

    rule: UpdateRule
    eta: float
    weights: tuple[float, ...] | None
    rate: Rate


def tune(
    build: Callable[..., UpdateRule],
    game: Game,
    *,
    history: int | None = None,
    largest: float | None = None,
    equilibrium: npt.ArrayLike | None = None,
) -> Tuned:
    """Choose the step, and optionally the history weights, with the best local rate.

    Args:
        build: η -> rule; with `history`, (η, weights=w) -> rule.
        game: as for `local_rate`.
        history: how many weights w to choose, on the simplex; None chooses no weights.
        largest: the end of the search for the step.
        equilibrium: the game's, if it is at hand.

    Raises:
        ConvergenceError: no step is stable.
    """
    exact = solve(game).policies if equilibrium is None else equilibrium

    def best_step(make: Builder) -> tuple[float, float]:
        grid, radius = _scan(make, game, largest, exact)
        place = int(np.argmin(radius))
        low, high = grid[max(0, place - 1)], grid[min(len(grid) - 1, place + 1)]
        if low == high:
            return float(grid[place]), radius[place]
        found = minimize_scalar(
            lambda log_eta: _radius(make, game, float(np.exp(log_eta)), exact),
            bounds=(np.log(low), np.log(high)),
            method="bounded",
            options={"xatol": 1e-7},
        )
        better = found.fun < radius[place]
        return (float(np.exp(found.x)), float(found.fun)) if better else (float(grid[place]), radius[place])

    weights: tuple[float, ...] | None = None
    if history is None:
        eta, _ = best_step(build)
        rule = build(eta)
    else:

        def shares(x: Array) -> list[float]:
            raw = np.append(np.asarray(x) ** 2, 1.0)
            return [float(share) for share in raw / raw.sum()]

        def objective(x: Array) -> float:
            return best_step(lambda eta: build(eta, weights=shares(x)))[1]

        starts = [np.ones(history - 1), np.linspace(2.0, 1.0, history)[:-1]] if history > 1 else [np.empty(0)]
        candidates = [
            minimize(
                objective, start, method="Nelder-Mead", options={"maxfev": 60 * history, "xatol": 1e-3}
            ).x
            if history > 1
            else start
            for start in starts
        ]
        weights = tuple(shares(min(candidates, key=objective)))
        eta, _ = best_step(lambda eta: build(eta, weights=list(weights or ())))
        rule = build(eta, weights=list(weights))
    rate = local_rate(rule, game, exact)
    if not rate.stable:
        raise ConvergenceError("the rule is stable at no step on this game")
    return Tuned(rule, eta, weights, rate)


def _scan(
    build: Builder, game: Game, largest: float | None, exact: npt.ArrayLike
) -> tuple[list[float], list[float]]:
    """Rates on a logarithmic grid of steps, as far as the rule can be built."""
    frequency = max(1e-3, frequencies(game, exact).max(initial=0.0))
    end = largest if largest is not None else 100.0 / frequency
    grid, radius = [], []
    limit = _limit(build, end)
    for eta in np.geomspace(1e-3 / frequency, limit, 61):
        grid.append(float(eta))
        radius.append(_radius(build, game, float(eta), exact))
    return grid, radius


def _limit(build: Builder, end: float) -> float:
    """The largest step up to `end` with which the rule can be built (anchor weights at least 0)."""
    try:
        build(end)
    except ValueError:
        low, high = 0.0, end
        for _ in range(60):
            middle = (low + high) / 2
            try:
                build(middle)
                low = middle
            except ValueError:
                high = middle
        return low
    return end


def _radius(build: Builder, game: Game, eta: float, equilibrium: npt.ArrayLike) -> float:
    try:
        return local_rate(build(eta), game, equilibrium).radius
    except ConvergenceError:
        return float("inf")


def _edge(
    build: Builder, game: Game, low: float, high: float, low_inside: bool, exact: npt.ArrayLike
) -> float:
    """The step between two, of which one is stable, at which stability ends, by bisection."""
    while high / low - 1 > 1e-7:
        middle = float(np.sqrt(low * high))
        if (_radius(build, game, middle, exact) < 1) == low_inside:
            low = middle
        else:
            high = middle
    return float(np.sqrt(low * high))
