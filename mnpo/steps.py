"""One update of the form (U) on a table, in closed form and in log space, many games at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.implicit import ImplicitStep
from mnpo.numerics import Array, as_policies, mean_of_others, normalise_log, safe_log
from mnpo.rules import (
    Anchors,
    External,
    GeometricMixture,
    Next,
    Number,
    Opponents,
    Own,
    Reference,
    Rule,
    UpdateRule,
    WinRate,
)


class Feedback(Protocol):
    """How players learn their win rates where they are not told them exactly."""

    def __call__(self, game: Game, behaviour: Array, opponents: Array) -> Array:
        """Estimate q up to a constant per policy.

        Args:
            game: the game.
            behaviour: (..., p, X, A), the policies that responses are drawn from.
            opponents: (..., p, X, A), the policies that the others play.

        Returns:
            (..., p, X, A).
        """


class Step:
    """One update of a rule: (U), MNPO Eq. 11, on the log-policies of all players at once (docs/concepts.md, (U)).

    The rule's numbers are laid out for the game beforehand, so that an update is a few array operations.

    Args:
        game: whose win probabilities and reference the rule asks for.
        rule: the rule.
        externals: logarithms of its external policies (`external_logs`).
        feedback: how win rates are learnt at the points of the rule that nobody has played; exactly if None.
    """

    def __init__(
        self, game: Game, rule: UpdateRule, externals: list[Array], feedback: Feedback | None
    ) -> None:
        self._game, self._feedback = game, feedback
        self._blend = Blend(game, rule.anchors, externals)
        eta = laid_out(rule.eta)
        self._won = [(t.lag, eta * laid_out(w)) for t, w in rule.advantage if isinstance(t, WinRate)]
        self._strength = rule.implicit
        self._implicit = None if self._strength is None else ImplicitStep(game, self._strength)
        self._points: list[tuple[Blend | Step, Any]] = []
        for term, weight in rule.advantage:
            if isinstance(term, WinRate) or isinstance(term.point, Next):
                continue
            point = term.point
            at = (
                Blend(game, point.anchors, externals)
                if isinstance(point, GeometricMixture)
                else Step(game, point.rule, externals, feedback)
            )
            self._points.append((at, eta * laid_out(weight)))

    def __call__(self, past: deque[Array], won: deque[Array]) -> tuple[Array, Array]:
        """Return the next log-policies and policies, each (..., p, X, A).

        Args:
            past: log-policies, as far back as the rule looks, the latest first.
            won: win probabilities at them, likewise.
        """
        logits = self._blend.logits(past)
        for lag, weight in self._won:
            logits = logits + weight * won[lag]
        for at, weight in self._points:
            _, there = at(past, won)
            if self._feedback is None:
                logits = logits + weight * self._game.win_probabilities(there)
            else:
                logits = logits + weight * self._feedback(self._game, np.exp(past[0]), there)
        if self._implicit is None:
            return normalise_log(logits)
        if self._feedback is None:
            return self._implicit(logits)
        assert self._strength is not None
        learnt = getattr(self._feedback, "implicit", None)
        if learnt is None:
            raise ValueError(
                "win rates at a rule's next policies are learnt by mnpo.sampled_game; sampled pairs tell win rates "
                "against policies that are there"
            )
        strength = laid_out(self._strength)
        return normalise_log(logits + strength * learnt(self._game, np.exp(past[0]), logits, strength))

    def refresh(self, log_policies: Array) -> None:
        """Make these policies the reference, also of the points at which win rates are asked for."""
        self._blend.refresh(log_policies)
        for at, _ in self._points:
            at.refresh(log_policies)


class Blend:
    """A geometric mixture of anchors: Σ_k λ_k log μ_k, its weights laid out for one game.

    Args:
        game: whose reference is an anchor.
        anchors: the anchors with their weights.
        externals: as for `Step`.
    """

    def __init__(self, game: Game, anchors: Anchors, externals: list[Array]) -> None:
        self._references = [laid_out(w) for a, w in anchors if isinstance(a, Reference)]
        self._fixed = sum(laid_out(w) * externals[a.index] for a, w in anchors if isinstance(a, External))
        self._own = [(a.lag, laid_out(w)) for a, w in anchors if isinstance(a, Own)]
        self._others = [(a.lag, laid_out(w)) for a, w in anchors if isinstance(a, Opponents)]
        self.refresh(game.log_reference)

    def refresh(self, log_reference: Array) -> None:
        """Make these policies the reference."""
        self._constant = self._fixed + sum(weight * log_reference for weight in self._references)

    def logits(self, past: deque[Array]) -> Array:
        """Return the weighted sum, not normalised."""
        logits = self._constant
        for lag, weight in self._own:
            logits = logits + weight * past[lag]
        for lag, weight in self._others:
            logits = logits + weight * mean_of_others(past[lag])
        return np.asarray(logits)

    def __call__(self, past: deque[Array], won: deque[Array]) -> tuple[Array, Array]:
        """Return the mixture's log-policies and policies."""
        return normalise_log(self.logits(past))


class RegretStep:
    """One update of regret matching+: play in proportion to the positive part of the accumulated regrets.

    Args:
        policies: π^0, (..., p, X, A).
    """

    def __init__(self, policies: Array) -> None:
        self._regrets = np.zeros_like(policies)
        self._policies = policies

    def __call__(self, past: deque[Array], won: deque[Array]) -> tuple[Array, Array]:
        """Return the next log-policies and policies."""
        wins = won[0]
        self._regrets += wins - (self._policies * wins).sum(-1, keepdims=True)
        np.maximum(self._regrets, 0.0, out=self._regrets)
        total = self._regrets.sum(-1, keepdims=True)
        uniform = np.full_like(self._regrets, 1.0 / self._regrets.shape[-1])
        self._policies = np.where(total > 0, self._regrets / np.where(total > 0, total, 1.0), uniform)
        return safe_log(self._policies), self._policies

    def refresh(self, log_policies: Array) -> None:
        """There is no reference."""


def external_logs(game: Game, rule: Rule, externals: Sequence[npt.ArrayLike]) -> list[Array]:
    """Return the logarithms of a rule's external policies, each (..., p, X, A).

    Raises:
        ValueError: too few or too many, or policies that do not fit the game.
    """
    if len(externals) != rule.externals:
        raise ValueError(f"rule {rule.name} needs {rule.externals} external policies; found {len(externals)}")
    return [np.log(game.profile(as_policies(policy, "externals", positive=True))) for policy in externals]


def laid_out(number: Number) -> Any:
    """Give a rule's number the axes of a profile: (..., p) -> (..., p, 1, 1)."""
    array = np.asarray(number, dtype=np.float64)
    return array[..., None, None] if array.ndim else float(array)
