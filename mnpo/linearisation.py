"""A rule linearised at its stationary point, in one context.

Near a stationary point a rule acts on the last `depth` log-policies, modulo constants, as a linear map: the
companion matrix of the blocks ∂x^{t+1}/∂x^{t−lag} (docs/concepts.md, (13)).
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.jacobians import log_win_jacobian
from mnpo.logit import ConvergenceError
from mnpo.numerics import Array, normalise_log, safe_log
from mnpo.rules import (
    Ahead,
    Anchors,
    GeometricMixture,
    Next,
    Number,
    Opponents,
    Own,
    Point,
    UpdateRule,
    WinRate,
    WinRateAt,
)
from mnpo.steps import Blend, Step

Complex = npt.NDArray[np.complex128]


class Linearisation:
    """What ∂x^{t+1}/∂x^{t−lag} is for a rule, x the log-policies modulo constants.

    Args:
        game: of one context.
        rule: with plain numbers.
        externals: logarithms of the rule's external policies, (p, 1, A) each.
    """

    def __init__(self, game: Game, rule: UpdateRule, externals: list[Array]) -> None:
        self._game, self._rule, self._externals = game, rule, externals

    def settle(self, profile: Array) -> Array:
        """Return the rule's stationary point next to a profile, (p, 1, A) -> (p, 1, A), by Newton's method.

        Raises:
            ConvergenceError: there is none near.
        """
        log_policies, error = safe_log(profile), np.inf
        step = Step(self._game, self._rule, self._externals, None)
        for _ in range(40):
            policies = np.exp(log_policies)
            moved = step(*self._standing(log_policies))[0] - log_policies
            previous, error = error, float(np.abs(moved[policies > 1e-12]).max())
            if error < 1e-13 or (error < 1e-9 and error > 0.5 * previous):
                return policies
            blocks = self._step_blocks(self._rule, log_policies, _Matrices(self._game, log_policies.shape[0]))
            change = np.linalg.solve(np.eye(moved.size) - sum(blocks), moved.ravel()).reshape(moved.shape)
            change *= min(1.0, 3.0 / max(1e-300, float(np.abs(change[policies > 1e-12]).max())))
            log_policies = normalise_log(log_policies + change)[0]
        raise ConvergenceError(f"no stationary point of {self._rule.name} was found near the equilibrium")

    def modes(self, profile: Array) -> Complex:
        """Return the eigenvalues of the companion matrix at a profile, (p, 1, A), the constants' left out."""
        log_policies = safe_log(profile)
        algebra: _Matrices | _Modes = _Matrices(self._game, profile.shape[0])
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

    def _at(self, point: Point, rule: UpdateRule, log_policies: Array) -> Array:
        """The log-policies of a rule's point when nothing moves."""
        where: Blend | Step = (
            Blend(self._game, point.anchors, self._externals)
            if isinstance(point, GeometricMixture)
            else Step(self._game, point.rule if isinstance(point, Ahead) else rule, self._externals, None)
        )
        return where(*self._standing(log_policies))[0]

    def _evaluates_only_at(self, rule: UpdateRule, log_policies: Array) -> bool:
        """Whether every win rate is asked for at these policies: no point of the rule is elsewhere."""
        policies = np.exp(log_policies)
        points = [term.point for term, _ in rule.advantage if isinstance(term, WinRateAt)]
        return all(
            np.abs(np.exp(self._at(point, rule, log_policies)) - policies).max() < 1e-9
            and (not isinstance(point, Ahead) or self._evaluates_only_at(point.rule, log_policies))
            for point in points
        )

    def _step_blocks(self, rule: UpdateRule, log_policies: Array, algebra: _Matrices | _Modes) -> list[Any]:
        """The blocks of one step of a rule, its result's constants removed."""
        blocks = self._blend_blocks(rule.anchors, algebra)
        eta = _per_player(rule.eta)
        implicit = None
        for term, weight in rule.advantage:
            factor = algebra.scale(eta * _per_player(weight))
            if isinstance(term, WinRate):
                blocks[term.lag] = blocks[term.lag] + factor @ algebra.wins(log_policies)
                continue
            there = self._at(term.point, rule, log_policies)
            if isinstance(term.point, Next):
                implicit = factor @ algebra.wins(there)
                continue
            inner = (
                algebra.project(self._blend_blocks(term.point.anchors, algebra), there)
                if isinstance(term.point, GeometricMixture)
                else self._step_blocks(term.point.rule, log_policies, algebra)
            )
            slope = factor @ algebra.wins(there)
            blocks = [block + slope @ part for block, part in zip(blocks, inner, strict=True)]
        if implicit is not None:
            # dx' = Σ_lag (explicit block) dx + implicit dx', modulo constants.
            (implicit,) = algebra.project([implicit], log_policies)
            blocks = [
                np.linalg.solve(algebra.identity - implicit, block)
                for block in algebra.project(blocks, log_policies)
            ]
        return algebra.project(blocks, log_policies)

    def _blend_blocks(self, anchors: Anchors, algebra: _Matrices | _Modes) -> list[Any]:
        """The blocks of a weighted sum of anchors' logarithms; fixed policies do not move."""
        blocks: list[Any] = [0.0 * algebra.identity for _ in range(self._rule.depth)]
        for anchor, weight in anchors:
            factor = algebra.scale(_per_player(weight))
            if isinstance(anchor, Own):
                blocks[anchor.lag] = blocks[anchor.lag] + factor
            elif isinstance(anchor, Opponents):
                blocks[anchor.lag] = blocks[anchor.lag] + factor @ algebra.others
        return blocks


class _Matrices:
    """The linear maps of a profile as (p·A, p·A) matrices."""

    def __init__(self, game: Game, slots: int) -> None:
        self._game, self._slots = game, slots
        size = game.actions
        self.identity: Any = np.eye(slots * size)
        mean = (np.ones((slots, slots)) - np.eye(slots)) / (slots - 1) if slots > 1 else np.eye(1)
        self.others: Any = np.kron(mean, np.eye(size))

    def scale(self, numbers: Array) -> Any:
        """Multiply each player's part by its number."""
        return np.diag(np.repeat(np.broadcast_to(numbers, (self._slots,)), self._game.actions))

    def wins(self, log_policies: Array) -> Any:
        """∂q/∂log π at a profile."""
        return log_win_jacobian(self._game, np.exp(log_policies))[0]

    def project(self, blocks: list[Any], log_policies: Array) -> list[Any]:
        """Subtract from each player's part its mean under the policy: log-policies stay normalised."""
        policies = np.exp(log_policies[:, 0])
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


def _per_player(number: Number) -> Array:
    array = np.asarray(number, dtype=np.float64)
    if array.ndim > 1:
        raise ValueError(f"rates are of one rule at a time; found numbers of shape {array.shape}")
    return array
