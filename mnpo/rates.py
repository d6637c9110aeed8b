"""Local convergence: a rule linearised at its stationary point; stable steps, and the best step and weights.

Near a stationary point a rule acts on the last `depth` log-policies, modulo constants, as a linear map. The
largest modulus of its eigenvalues is the factor by which the distance shrinks in one update; the gap, which is
quadratic in the distance, shrinks by its square.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from mnpo.dynamics import Blend, Step, target_game
from mnpo.equilibria import profile_gradient, solve
from mnpo.games import Game
from mnpo.logit import ConvergenceError
from mnpo.numerics import Array, as_policies, normalise_log, safe_log
from mnpo.rules import Ahead, Anchors, Mixture, Number, Opponents, Own, UpdateRule, WinRate, WinRateAt

Complex = npt.NDArray[np.complex128]
Builder = Callable[[float], UpdateRule]


@dataclass(frozen=True, eq=False)
class Rate:
    """How fast a rule converges near its stationary point.

    Attributes:
        radius: largest |z|; below 1 the point is stable and the distance shrinks by this factor an update.
        modes: all z of all contexts, largest first.
        policies: (p, X, A), the stationary point.
    """

    radius: float
    modes: Complex
    policies: Array

    @property
    def stable(self) -> bool:
        """Whether small deviations die out."""
        return self.radius < 1.0

    def updates(self, shrink: float) -> float:
        """Return how many updates multiply the gap, which is quadratic, by `shrink`; infinite if not stable."""
        if not self.stable:
            return float("inf")
        return max(1.0, float(np.log(shrink) / (2 * np.log(self.radius)))) if self.radius > 0 else 1.0


def local_rate(
    rule: UpdateRule,
    game: Game,
    equilibrium: npt.ArrayLike | None = None,
    *,
    externals: Sequence[npt.ArrayLike] = (),
) -> Rate:
    """Return the rule's local rate (spectral radius and modes) at its stationary point.

    Args:
        rule: a rule with plain numbers (no batch). One that refreshes its reference is taken between two
            refreshments.
        game: a single game with every τ above 0, or whose equilibrium is given.
        equilibrium: (p, X, A), where to linearise (identical players alike); otherwise the game is solved.
            If the rule does not stand still there (Nash-MD, HT-MNPO anchored on its opponents) the stationary
            point next to it is found by Newton's method.
        externals: as for `mnpo.dynamics.run`.

    Raises:
        ValueError: a batch, or an equilibrium that does not fit the game.
        ConvergenceError: no stationary point near the equilibrium.
    """
    if game.batch_shape:
        raise ValueError("local_rate takes one game at a time; found a batch")
    aim = target_game(game, rule, externals)
    if equilibrium is None:
        equilibrium = solve(aim).policies[: game.slots]
    profile = game.profile(equilibrium)
    if game.symmetric:
        profile = profile[:1]
    elif profile.shape[0] == 1:
        profile = np.array(game.everyone(profile))
    if any(number.ndim and number.shape[-1] > 1 for number in rule.numbers()) and game.symmetric:
        raise ValueError("rates of players with numbers of their own need a game whose players differ")
    linear = _Linearisation(game, rule, externals)
    profile = linear.settle(profile)
    modes = np.concatenate([linear.modes(profile, x) for x in range(game.contexts)])
    modes = modes[np.argsort(-np.abs(modes))]
    return Rate(float(np.abs(modes[0])) if modes.size else 0.0, modes, profile)


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
    grid, radius = _scan(build, game, largest, equilibrium)
    ends: list[tuple[float, float]] = []
    inside = [r < 1 for r in radius]
    low = 0.0 if inside and inside[0] else None
    for place in range(1, len(grid)):
        if inside[place] == inside[place - 1]:
            continue
        edge = _edge(build, game, grid[place - 1], grid[place], inside[place - 1], equilibrium)
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
        history: how many weights w to choose, on the simplex; None leaves weights alone.
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
    build: Builder, game: Game, largest: float | None, equilibrium: npt.ArrayLike | None
) -> tuple[list[float], list[float]]:
    """Rates on a logarithmic grid of steps, as far as the rule can be built."""
    exact = solve(game).policies if equilibrium is None else equilibrium
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
    build: Builder, game: Game, low: float, high: float, low_inside: bool, equilibrium: npt.ArrayLike | None
) -> float:
    exact = solve(game).policies if equilibrium is None else equilibrium
    while high / low - 1 > 1e-7:
        middle = float(np.sqrt(low * high))
        if (_radius(build, game, middle, exact) < 1) == low_inside:
            low = middle
        else:
            high = middle
    return float(np.sqrt(low * high))


def frequencies(game: Game, equilibrium: npt.ArrayLike | None = None) -> Array:
    """Return ω ≥ 0, the moduli of the imaginary eigenvalues of the advantage's Jacobian, largest first.

    Args:
        game: a symmetric game.
        equilibrium: (1, X, A), if it is at hand.
    """
    profile = game.profile(solve(game).policies if equilibrium is None else equilibrium)
    found = [np.linalg.eigvals(wins_slope(game, profile[: game.slots], x)).imag for x in range(game.contexts)]
    return np.sort(np.abs(np.concatenate(found)))[::-1]


class _Linearisation:
    """What ∂x^{t+1}/∂x^{t−lag} is for a rule at a stationary point, x the log-policies modulo constants."""

    def __init__(self, game: Game, rule: UpdateRule, externals: Sequence[npt.ArrayLike]) -> None:
        self._game, self._rule = game, rule
        self._outside = [np.log(game.profile(as_policies(e, "externals", positive=True))) for e in externals]

    def settle(self, profile: Array) -> Array:
        """Find the rule's stationary point next to a profile by Newton's method."""
        game, log_policies, error = self._game, safe_log(profile), np.inf
        step = Step(game, self._rule, self._outside, None)
        for _ in range(40):
            policies = np.exp(log_policies)
            moved = step(*self._standing(log_policies))[0] - log_policies
            previous, error = error, float(np.abs(moved[policies > 1e-12]).max())
            if error < 1e-13 or (error < 1e-9 and error > 0.5 * previous):
                return policies
            change = np.empty_like(moved)
            for x in range(game.contexts):
                blocks = self._step_blocks(self._rule, log_policies, _Matrices(game, x))
                matrix = np.eye(moved[:, x].size) - sum(blocks)
                change[:, x] = np.linalg.solve(matrix, moved[:, x].ravel()).reshape(moved[:, x].shape)
            change *= min(1.0, 3.0 / max(1e-300, float(np.abs(change[policies > 1e-12]).max())))
            log_policies = normalise_log(log_policies + change)[0]
        raise ConvergenceError(f"no stationary point of {self._rule.name} was found near the equilibrium")

    def modes(self, profile: Array, context: int) -> Complex:
        """Eigenvalues of the companion matrix of one context, the constants' left out."""
        log_policies = safe_log(profile)
        algebra: _Matrices | _Modes = _Matrices(self._game, context)
        if profile.shape[0] == 1 and self._evaluates_only_at(self._rule, log_policies):
            # Identical players: everything is a polynomial in one matrix, so its eigenvalues do.
            eigenvalues = np.linalg.eigvals(algebra.wins(log_policies))
            algebra = _Modes(np.delete(eigenvalues, np.abs(eigenvalues).argmin()))
        blocks = self._step_blocks(self._rule, log_policies, algebra)
        depth, size = len(blocks), blocks[0].shape[-1]
        companion = np.zeros((*blocks[0].shape[:-2], depth * size, depth * size), dtype=blocks[0].dtype)
        for lag, block in enumerate(blocks):
            companion[..., :size, lag * size : (lag + 1) * size] = block
        lower = np.arange(size, depth * size)
        companion[..., lower, lower - size] = 1.0
        return np.asarray(np.linalg.eigvals(companion), dtype=np.complex128).ravel()

    def _standing(self, log_policies: Array) -> tuple[deque[Array], deque[Array]]:
        """A past in which nothing ever moved."""
        depth = self._rule.depth
        wins = self._game.win_probabilities(np.exp(log_policies))
        return deque([log_policies] * depth), deque([wins] * depth)

    def _at(self, point: Mixture | Ahead, log_policies: Array) -> Array:
        """The point's log-policies when nothing moves."""
        where: Blend | Step = (
            Blend(self._game, point.anchors, self._outside)
            if isinstance(point, Mixture)
            else Step(self._game, point.rule, self._outside, None)
        )
        return where(*self._standing(log_policies))[0]

    def _evaluates_only_at(self, rule: UpdateRule, log_policies: Array) -> bool:
        policies = np.exp(log_policies)
        points = [credit.point for credit, _ in rule.advantage if isinstance(credit, WinRateAt)]
        return all(
            np.abs(np.exp(self._at(point, log_policies)) - policies).max() < 1e-9
            and (isinstance(point, Mixture) or self._evaluates_only_at(point.rule, log_policies))
            for point in points
        )

    def _step_blocks(self, rule: UpdateRule, log_policies: Array, algebra: _Matrices | _Modes) -> list[Any]:
        """The blocks of one step of a rule, its result's constants removed."""
        blocks = self._blend_blocks(rule.anchors, algebra)
        eta = _per_player(rule.eta)
        for credit, weight in rule.advantage:
            factor = algebra.scale(eta * _per_player(weight))
            if isinstance(credit, WinRate):
                blocks[credit.lag] = blocks[credit.lag] + factor @ algebra.wins(log_policies)
                continue
            there = self._at(credit.point, log_policies)
            inner = (
                algebra.project(self._blend_blocks(credit.point.anchors, algebra), there)
                if isinstance(credit.point, Mixture)
                else self._step_blocks(credit.point.rule, log_policies, algebra)
            )
            slope = factor @ algebra.wins(there)
            blocks = [block + slope @ part for block, part in zip(blocks, inner, strict=True)]
        return algebra.project(blocks, log_policies)

    def _blend_blocks(self, anchors: Anchors, algebra: _Matrices | _Modes) -> list[Any]:
        blocks: list[Any] = [0.0 * algebra.identity for _ in range(self._rule.depth)]
        for anchor, weight in anchors:
            factor = algebra.scale(_per_player(weight))
            if isinstance(anchor, Own):
                blocks[anchor.lag] = blocks[anchor.lag] + factor
            elif isinstance(anchor, Opponents):
                blocks[anchor.lag] = blocks[anchor.lag] + factor @ algebra.others
        return blocks


class _Matrices:
    """The linear maps of one context as (p·A, p·A) matrices."""

    def __init__(self, game: Game, context: int) -> None:
        self._game, self._context = game, context
        slots, size = game.slots, game.actions
        self._slots = slots
        self.identity: Any = np.eye(slots * size)
        mean = (np.ones((slots, slots)) - np.eye(slots)) / (slots - 1) if slots > 1 else np.eye(1)
        self.others: Any = np.kron(mean, np.eye(size))

    def scale(self, numbers: Array) -> Any:
        """Multiply each player's part by its number."""
        return np.diag(np.repeat(np.broadcast_to(numbers, (self._slots,)), self._game.actions))

    def wins(self, log_policies: Array) -> Any:
        """∂q/∂log π at a profile."""
        return wins_slope(self._game, np.exp(log_policies), self._context)

    def project(self, blocks: list[Any], log_policies: Array) -> list[Any]:
        """Subtract from each player's part its mean under the policy: log-policies stay normalised."""
        policies = np.exp(log_policies[:, self._context])
        slots, size = policies.shape
        shift = np.zeros((slots, size, slots, size))
        for i in range(slots):
            shift[i, :, i] = policies[i]
        projection = np.eye(slots * size) - shift.reshape(slots * size, slots * size)
        return [projection @ block for block in blocks]


class _Modes:
    """The linear maps of identical players in the eigenbasis of ∂q/∂log π: one number a mode, (A − 1, 1, 1)."""

    def __init__(self, eigenvalues: Complex) -> None:
        self._eigenvalues = np.asarray(eigenvalues, dtype=np.complex128)[:, None, None]
        self.identity: Any = np.ones_like(self._eigenvalues)
        self.others: Any = self.identity

    def scale(self, numbers: Array) -> Any:
        """Multiply every mode by the players' common number."""
        return self.identity * complex(np.ravel(numbers)[0])

    def wins(self, log_policies: Array) -> Any:
        """The eigenvalues."""
        return self._eigenvalues

    def project(self, blocks: list[Any], log_policies: Array) -> list[Any]:
        """Nothing: the constants are not among the modes."""
        return blocks


def wins_slope(game: Game, profile: Array, context: int) -> Array:
    """Return ∂q/∂log π of one context, (p·A, p·A), with log π and q modulo constants.

    Args:
        game: a single game.
        profile: (p, X, A).
        context: which.
    """
    policies = profile[:, context]
    players, size = policies.shape
    slope = profile_gradient(game, context)(policies)
    slope = (slope - np.einsum("iyjz,jz->iyj", slope, policies)[..., None]) * policies
    slope = slope - np.einsum("iy,iyjz->ijz", policies, slope)[:, None]
    return slope.reshape(players * size, players * size)


def _per_player(number: Number) -> Array:
    array = np.asarray(number, dtype=np.float64)
    if array.ndim > 1:
        raise ValueError(f"rates are of one rule at a time; found numbers of shape {array.shape}")
    return array
