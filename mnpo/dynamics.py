"""The tabular executor: an update rule run on a game in closed form, in log space, many games at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.gaps import exploitability_of
from mnpo.numerics import Array, as_policies, normalise_log, safe_log
from mnpo.rules import Number, Opponents, Own, Reference, UpdateRule


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a rule did on a game, or on a batch of games.

    Axes: R recorded steps, ... the batch, p = 1 for a symmetric profile or n, X contexts, A responses.

    Attributes:
        game: the game.
        rule: the rule.
        steps: (R,), numbers of updates after which the figures were taken.
        exploitability: (R, ..., p), of the last iterate.
        average_exploitability: (R, ..., p), of the mean of π^0..π^t, or None if not asked for.
        log_policies: (..., p, X, A), the last iterate.
        average: (..., p, X, A), the mean policy, or None.
        recorded_policies: (R, ..., p, X, A), or None if not asked for.
        oracle_calls: calls of the oracle per update.
        diverged: (...), whether an iterate was not finite, or the last gap is above the first.
    """

    game: Game
    rule: UpdateRule
    steps: npt.NDArray[np.int64]
    exploitability: Array
    average_exploitability: Array | None
    log_policies: Array
    average: Array | None
    recorded_policies: Array | None
    oracle_calls: int
    diverged: npt.NDArray[np.bool_]

    @property
    def policies(self) -> Array:
        """(..., n, X, A), the last iterate of every player."""
        return np.array(self.game.everyone(np.exp(self.log_policies)))

    @property
    def gap(self) -> Array:
        """(R, ...), NashConv = Σ_i exploitability_i; of two symmetric players the duality gap."""
        return _sum_over_players(self.exploitability, self.game.players)

    @property
    def average_gap(self) -> Array | None:
        """(R, ...), NashConv of the mean policy."""
        if self.average_exploitability is None:
            return None
        return _sum_over_players(self.average_exploitability, self.game.players)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        average = self.average_gap
        return {
            "rule": self.rule.as_dict(),
            "players": self.game.players,
            "tau": self.game.player_tau.tolist(),
            "responses": list(self.game.responses),
            "steps": self.steps.tolist(),
            "gap": self.gap.tolist(),
            "average_gap": None if average is None else average.tolist(),
            "oracle_calls": (self.steps * self.oracle_calls).tolist(),
            "policies": self.policies.tolist(),
            "average_policies": None if self.average is None else self.game.everyone(self.average).tolist(),
            "diverged": self.diverged.tolist(),
        }


def run(
    game: Game,
    rule: UpdateRule,
    steps: int,
    *,
    start: npt.ArrayLike | None = None,
    every: int = 1,
    average: bool = False,
    keep_policies: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Trajectory:
    """Run a rule on a game: `steps` updates of all players at once.

    Batch axes of the game, of the start and of the rule's numbers broadcast: many games, seeds or step sizes
    are one call. Where players are identical and the start is common, one policy is iterated for all.

    Args:
        game: a game or a batch of games.
        rule: the rule; its own τ is in its weights.
        steps: number of updates.
        start: π^0, (A,), (X, A), (p, X, A) or (..., p, X, A), all above 0; the reference unless given.
        every: record the gap after this many updates (the start and the end are always recorded).
        average: also follow the mean of the iterates and its gap (a further oracle call where recorded).
        keep_policies: keep the recorded policies.
        progress: called with the number of updates done, where recorded.

    Returns:
        The trajectory. Iterates that blow up are reported in `diverged`, not raised.

    Raises:
        ValueError: steps or every out of range, or a start that does not fit the game.
    """
    if steps < 0 or every < 1:
        raise ValueError(f"steps must be at least 0 and every at least 1; found {steps} and {every}")
    log_policies = _start(game, rule, start)
    policies = np.exp(log_policies)
    step = _Step(game, rule)
    past = deque([log_policies] * rule.depth, maxlen=rule.depth)
    wins = game.win_probabilities(policies)
    won = deque([wins] * rule.depth, maxlen=rule.depth)
    total = np.zeros_like(policies)
    taken: list[int] = []
    gains: list[Array] = []
    average_gains: list[Array] = []
    kept: list[Array] = []
    with np.errstate(all="ignore"):
        for done in range(steps + 1):
            if average:
                total += policies
            if done % every == 0 or done == steps:
                taken.append(done)
                gains.append(exploitability_of(game, policies, log_policies, wins))
                if average:
                    mean = total / (done + 1)
                    average_gains.append(
                        exploitability_of(game, mean, safe_log(mean), game.win_probabilities(mean))
                    )
                if keep_policies:
                    kept.append(policies)
                if progress is not None:
                    progress(done)
            if done == steps:
                break
            log_policies, policies = step(past, won)
            past.appendleft(log_policies)
            wins = game.win_probabilities(policies)
            won.appendleft(wins)
        exploitability = np.stack(gains)
        finite = np.isfinite(log_policies).all(axis=(-1, -2, -3)) & np.isfinite(exploitability).all(
            axis=(0, -1)
        )
        first, last = exploitability[0].sum(-1), exploitability[-1].sum(-1)
        diverged = ~finite | (last > np.maximum(first * (1 + 1e-6), 1e-9))
    return Trajectory(
        game=game,
        rule=rule,
        steps=np.asarray(taken, dtype=np.int64),
        exploitability=exploitability,
        average_exploitability=np.stack(average_gains) if average else None,
        log_policies=log_policies,
        average=total / (steps + 1) if average else None,
        recorded_policies=np.stack(kept) if keep_policies else None,
        oracle_calls=1,
        diverged=np.asarray(diverged),
    )


class _Step:
    """(U) with the rule's numbers laid out for one game, so that an update is a few array operations."""

    def __init__(self, game: Game, rule: UpdateRule) -> None:
        pulls = [_laid_out(w) * game.log_reference for a, w in rule.anchors if isinstance(a, Reference)]
        self._pull: Array | float = sum(pulls) if pulls else 0.0
        self._own = [(a.lag, _laid_out(w)) for a, w in rule.anchors if isinstance(a, Own)]
        self._others = [(a.lag, _laid_out(w)) for a, w in rule.anchors if isinstance(a, Opponents)]
        self._credits = [(c.lag, _laid_out(rule.eta) * _laid_out(w)) for c, w in rule.advantage]

    def __call__(self, past: deque[Array], won: deque[Array]) -> tuple[Array, Array]:
        """Return the next log-policies and policies; `past` and `won` hold the latest first."""
        logits = self._pull
        for lag, weight in self._own:
            logits = logits + weight * past[lag]
        for lag, weight in self._others:
            logits = logits + weight * _mean_of_others(past[lag])
        for lag, weight in self._credits:
            logits = logits + weight * won[lag]
        return normalise_log(np.asarray(logits))


def _start(game: Game, rule: UpdateRule, start: npt.ArrayLike | None) -> Array:
    """Return log π^0 with all batch axes, of one policy if the players can share it."""
    if start is None:
        log_policies = game.log_reference
    else:
        as_policies(start, "start", positive=True)
        log_policies = np.log(game.profile(start))
    common = game.symmetric and (log_policies == log_policies[..., :1, :, :]).all()
    slots = 1 if common else game.players
    numbers = [np.asarray(rule.eta), *(np.asarray(w) for _, w in rule.anchors + rule.advantage)]
    if any(number.ndim and number.shape[-1] not in (1, slots) for number in numbers):
        slots = game.players
        wrong = [n.shape for n in numbers if n.ndim and n.shape[-1] not in (1, slots)]
        if wrong:
            raise ValueError(
                f"a rule's numbers must have a last axis of 1 or {slots} players; found shape {wrong[0]}"
            )
    batch = np.broadcast_shapes(
        game.batch_shape, log_policies.shape[:-3], *(number.shape[:-1] for number in numbers if number.ndim)
    )
    log_policies = log_policies[..., :1, :, :] if slots == 1 else log_policies
    return np.array(np.broadcast_to(log_policies, (*batch, slots, game.contexts, game.actions)))


def _laid_out(number: Number) -> Any:
    """Give a rule's number the axes of a profile: (..., p) -> (..., p, 1, 1)."""
    array = np.asarray(number, dtype=np.float64)
    return array[..., None, None] if array.ndim else float(array)


def _mean_of_others(log_policies: Array) -> Array:
    """(..., p, X, A): the mean of the other players' log-policies (of the one that all share, itself)."""
    players = log_policies.shape[-3]
    if players == 1:
        return log_policies
    return (log_policies.sum(axis=-3, keepdims=True) - log_policies) / (players - 1)


def _sum_over_players(values: Array, players: int) -> Array:
    total: Array = values.sum(axis=-1)
    return total * players if values.shape[-1] == 1 else total
