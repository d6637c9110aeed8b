"""The tabular executor: an update rule run on a game, or on a batch of games, and what it did there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.gaps import exploitability_of
from mnpo.numerics import Array, as_policies, normalise_log, safe_log
from mnpo.rules import External, Reference, RegretMatchingPlus, Rule, UpdateRule
from mnpo.steps import Feedback, RegretStep, Step, external_logs, laid_out


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a rule did on a game, or on a batch of games.

    Axes: R recorded steps, ... the batch, p = 1 for a symmetric profile or n, X contexts, A responses.

    Attributes:
        game: the game whose equilibrium the rule aims at, in which gaps are measured.
        rule: the rule.
        steps: (R,), numbers of updates after which the figures were taken.
        exploitability: (R, ..., p), of the last iterate.
        average_exploitability: (R, ..., p), of the mean of π^0..π^t, or None if not asked for.
        log_policies: (..., p, X, A), the last iterate.
        average: (..., p, X, A), the mean policy, or None.
        recorded_policies: (R, ..., p, X, A), or None if not asked for.
        recorded_averages: (R, ..., p, X, A), the mean policies, or None.
        oracle_calls: calls of the oracle per update.
        diverged: (...), whether an iterate was not finite, or the policies were still moving at the end with a
            gap above the first.
    """

    game: Game
    rule: Rule
    steps: npt.NDArray[np.int64]
    exploitability: Array
    average_exploitability: Array | None
    log_policies: Array
    average: Array | None
    recorded_policies: Array | None
    recorded_averages: Array | None
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
            **self._paths(),
        }

    def _paths(self) -> dict[str, Any]:
        """Where the first player went, last and average iterate, if policies of one context were kept."""
        kept, means = self.recorded_policies, self.recorded_averages
        if kept is None or kept.ndim != 4 or kept.shape[-2] != 1:
            return {}
        return {
            "path": kept[:, 0, 0].tolist(),
            "average_path": None if means is None else means[:, 0, 0].tolist(),
        }


def run(
    game: Game,
    rule: Rule,
    steps: int,
    *,
    start: npt.ArrayLike | None = None,
    externals: Sequence[npt.ArrayLike] = (),
    feedback: Feedback | None = None,
    every: int = 1,
    average: bool = False,
    keep_policies: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Trajectory:
    """Run a rule on a game: `steps` updates of all players at once.

    Batch axes of the game, of the start and of the rule's numbers broadcast: many games, seeds or step sizes
    are one call. Where players are identical and the start is common, one policy is iterated for all (with
    sampled feedback: all see the same samples).

    Args:
        game: a game or a batch of games.
        rule: the rule; its own τ is in its weights.
        steps: number of updates.
        start: π^0, (A,), (X, A), (p, X, A) or (..., p, X, A), all above 0; the reference unless given.
        externals: the policies that the rule's `External` anchors name, each as `start`.
        feedback: how win rates are learnt; exactly unless given.
        every: record the gap after this many updates (the start and the end are always recorded).
        average: also follow the mean of the iterates and its gap (a further oracle call where recorded).
        keep_policies: keep the recorded policies.
        progress: called with the number of updates done, where recorded.

    Returns:
        The trajectory. Iterates that blow up are reported in `diverged`, not raised. Memory does not grow with
        the number of updates, but with what is recorded.

    Raises:
        ValueError: steps or every out of range, a start that does not fit the game, externals missing.
    """
    if steps < 0 or every < 1:
        raise ValueError(f"steps must be at least 0 and every at least 1; found {steps} and {every}")
    outside = external_logs(game, rule, externals)
    log_policies = _start(game, rule, start)
    policies = np.exp(log_policies)
    aim = target_game(game, rule, externals)
    step = (
        RegretStep(policies) if isinstance(rule, RegretMatchingPlus) else Step(game, rule, outside, feedback)
    )
    past = deque([log_policies] * rule.depth, maxlen=rule.depth)
    won: deque[Array] = deque(maxlen=rule.depth)
    before = log_policies
    total = np.zeros_like(policies)
    taken: list[int] = []
    gains: list[Array] = []
    average_gains: list[Array] = []
    kept: list[Array] = []
    means: list[Array] = []
    with np.errstate(all="ignore"):
        for done in range(steps + 1):
            recorded = done % every == 0 or done == steps
            learns = rule.uses_current and done < steps
            exact = game.win_probabilities(policies) if recorded or (learns and feedback is None) else None
            if learns:
                wins = exact if feedback is None else feedback(game, policies, policies)
                assert wins is not None
                won.extendleft([wins] * (1 if won else rule.depth))
            if average:
                total += policies
            if recorded:
                assert exact is not None
                taken.append(done)
                gains.append(exploitability_of(aim, policies, log_policies, exact))
                if average:
                    mean = total / (done + 1)
                    if keep_policies:
                        means.append(mean)
                    average_gains.append(
                        exploitability_of(aim, mean, safe_log(mean), game.win_probabilities(mean))
                    )
                if keep_policies:
                    kept.append(policies)
                if progress is not None:
                    progress(done)
            if done == steps:
                break
            before = log_policies
            log_policies, policies = step(past, won)
            past.appendleft(log_policies)
            if rule.refresh is not None and (done + 1) % rule.refresh == 0:
                step.refresh(log_policies)
        exploitability = np.stack(gains)
        finite = np.isfinite(log_policies).all(axis=(-1, -2, -3)) & np.isfinite(exploitability).all(
            axis=(0, -1)
        )
        first, last = exploitability[0].sum(-1), exploitability[-1].sum(-1)
        # A point at which the rule stands still is no divergence, wherever it is.
        moves = np.abs(policies - np.exp(before)).max(axis=(-1, -2, -3)) > 1e-6
        diverged = ~finite | (moves & (last > np.maximum(first * (1 + 1e-6), 1e-9)))
    return Trajectory(
        game=aim,
        rule=rule,
        steps=np.asarray(taken, dtype=np.int64),
        exploitability=exploitability,
        average_exploitability=np.stack(average_gains) if average else None,
        log_policies=log_policies,
        average=total / (steps + 1) if average else None,
        recorded_policies=np.stack(kept) if keep_policies else None,
        recorded_averages=np.stack(means) if keep_policies and average else None,
        oracle_calls=rule.oracle_calls,
        diverged=np.asarray(diverged),
    )


def update(
    game: Game,
    rule: UpdateRule,
    history: Sequence[npt.ArrayLike],
    *,
    externals: Sequence[npt.ArrayLike] = (),
    feedback: Feedback | None = None,
) -> Array:
    """Return the players' policies after one update from a given history.

    Args:
        game: the game.
        rule: the rule.
        history: π^t, π^{t−1}, .., each as `run` takes its start; the last stands for all before it.
        externals: as for `run`.
        feedback: as for `run`, but here win rates of the past, too, are learnt from responses of π^t.

    Returns:
        log π^{t+1}, (..., p, X, A); p = 1 if players are identical and have played alike.

    Raises:
        ValueError: no history, or policies that do not fit the game.
    """
    if not history:
        raise ValueError("history must hold at least the current policies; found none")
    logs = [_start(game, rule, policies) for policies in history]
    slots = max(policies.shape[-3] for policies in logs)
    shaped = [np.broadcast_to(p, (*p.shape[:-3], slots, *p.shape[-2:])) for p in logs]
    shaped += shaped[-1:] * rule.depth
    past = deque(shaped[: rule.depth])
    outside = external_logs(game, rule, externals)
    now = np.exp(past[0])
    won: deque[Array] = deque()
    for policies in past if rule.uses_current else ():
        at = np.exp(policies)
        won.append(game.win_probabilities(at) if feedback is None else feedback(game, now, at))
    return Step(game, rule, outside, feedback)(past, won)[0]


def target_game(game: Game, rule: Rule, externals: Sequence[npt.ArrayLike] = ()) -> Game:
    """Return the game whose equilibrium a rule aims at.

    Itself, but for a rule with external policies: there the reference is the geometric mixture of π_ref and the
    external policies with the rule's weights on them, and τ the sum of their strengths.
    """
    if not rule.externals or isinstance(rule, RegretMatchingPlus):
        return game
    fixed = [(a, laid_out(w)) for a, w in rule.anchors if isinstance(a, Reference | External)]
    weight = sum(w for _, w in fixed)
    outside = external_logs(game, rule, externals)
    mixed = sum(
        w / weight * (outside[a.index] if isinstance(a, External) else game.log_reference) for a, w in fixed
    )
    tau = np.asarray(rule.tau)
    return replace(game, reference=normalise_log(np.asarray(mixed))[1], tau=tau)


def _start(game: Game, rule: Rule, start: npt.ArrayLike | None) -> Array:
    """Return log π^0 with all batch axes, of one policy if the players can share it."""
    if start is None:
        log_policies = game.log_reference
    else:
        as_policies(start, "start", positive=True)
        log_policies = np.log(game.profile(start))
    common = game.symmetric and (log_policies == log_policies[..., :1, :, :]).all()
    slots = 1 if common else game.players
    numbers = rule.numbers()
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


def _sum_over_players(values: Array, players: int) -> Array:
    total: Array = values.sum(axis=-1)
    return total * players if values.shape[-1] == 1 else total
