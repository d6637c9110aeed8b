"""The tabular executor: an update rule run on a game, or on a batch of games, and what it did there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.gaps import exploitability_of
from mnpo.numerics import Array, as_policies, normalise_log, safe_log
from mnpo.rules import External, Reference, RegretMatchingPlus, Rule, UpdateRule
from mnpo.steps import Feedback, RegretStep, Step, external_logs, laid_out
from mnpo.trajectories import Trajectory

__all__ = ["Trajectory", "run", "target_game", "update"]

#: Two players are asked about by their matrix where it has at most so many times the numbers that the oracle
#: handles.
MATRIX_PAYS = 8


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
        progress: called with the number of updates done, where recorded; in a game of many contexts, which are run
            block by block, with the mean over contexts.

    Returns:
        The trajectory. Iterates that blow up are reported in `diverged`, not raised. Memory does not grow with
        the number of updates, but with what is recorded. Contexts do not interact: each costs what it costs alone.

    Raises:
        ValueError: steps or every out of range, a start that does not fit the game, externals missing.
    """
    if steps < 0 or every < 1:
        raise ValueError(f"steps must be at least 0 and every at least 1; found {steps} and {every}")
    outside = external_logs(game, rule, externals)
    log_policies = _start(game, rule, start)
    aim = target_game(game, rule, externals)
    taken = sorted({*range(0, steps + 1, every), steps})
    # Feedback draws its samples in all contexts at once.
    blocks = game.blocks() if feedback is None else iter([(slice(0, game.contexts), 1.0, game)])
    pieces: list[_Piece] = []
    weights: list[float] = []

    def tell(done: int, block: slice) -> None:
        if progress is not None:
            progress((steps * block.start + done * (block.stop - block.start)) // game.contexts)

    for block, weight, part in blocks:
        aimed = aim if part is game else aim.at(block)
        if feedback is None and part.actions**2 <= MATRIX_PAYS * part.oracle.breadth:
            part = part.by_matrix()
        pieces.append(
            _run(
                part,
                aimed,
                rule,
                log_policies[..., block, :],
                [logs[..., block, :] for logs in outside],
                feedback,
                taken,
                average,
                keep_policies,
                partial(tell, block=block),
            )
        )
        weights.append(weight)
    with np.errstate(all="ignore"):
        exploitability = _weighted(weights, [piece.exploitability for piece in pieces])
        first, last = exploitability[0].sum(-1), exploitability[-1].sum(-1)
        finite = np.all([piece.finite for piece in pieces], axis=0) & np.isfinite(exploitability).all(
            axis=(0, -1)
        )
        # A point at which the rule stands still is no divergence, wherever it is.
        moves = np.any([piece.moves for piece in pieces], axis=0)
        diverged = ~finite | (moves & (last > np.maximum(first * (1 + 1e-6), 1e-9)))
    return Trajectory(
        game=aim,
        rule=rule,
        steps=np.asarray(taken, dtype=np.int64),
        exploitability=exploitability,
        average_exploitability=_weighted(weights, [p.average_exploitability for p in pieces])
        if average
        else None,
        log_policies=np.concatenate([piece.log_policies for piece in pieces], axis=-2),
        average=np.concatenate([piece.average for piece in pieces], axis=-2) if average else None,
        recorded_policies=(
            np.concatenate([piece.recorded_policies for piece in pieces], axis=-2) if keep_policies else None
        ),
        recorded_averages=(
            np.concatenate([piece.recorded_averages for piece in pieces], axis=-2)
            if keep_policies and average
            else None
        ),
        oracle_calls=rule.oracle_calls,
        diverged=np.asarray(diverged),
    )


class _Piece(NamedTuple):
    """What a rule did in a block of contexts; fields as in `Trajectory`, empty arrays where not asked for."""

    exploitability: Array
    average_exploitability: Array
    log_policies: Array
    average: Array
    recorded_policies: Array
    recorded_averages: Array
    #: (...), whether the last iterate is finite.
    finite: npt.NDArray[np.bool_]
    #: (...), whether the policies were still moving at the end.
    moves: npt.NDArray[np.bool_]


def _run(
    game: Game,
    aim: Game,
    rule: Rule,
    log_policies: Array,
    outside: list[Array],
    feedback: Feedback | None,
    taken: list[int],
    average: bool,
    keep_policies: bool,
    progress: Callable[[int], None],
) -> _Piece:
    """Run a rule in all contexts of a game side by side, and record after the numbers of updates in `taken`."""
    policies = np.exp(log_policies)
    step = (
        RegretStep(policies) if isinstance(rule, RegretMatchingPlus) else Step(game, rule, outside, feedback)
    )
    past = deque([log_policies] * rule.depth, maxlen=rule.depth)
    won: deque[Array] = deque(maxlen=rule.depth)
    before = log_policies
    total = np.zeros_like(policies)
    steps, records = taken[-1], set(taken)
    gains: list[Array] = []
    average_gains: list[Array] = []
    kept: list[Array] = []
    means: list[Array] = []
    with np.errstate(all="ignore"):
        for done in range(steps + 1):
            recorded = done in records
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
                progress(done)
            if done == steps:
                break
            before = log_policies
            log_policies, policies = step(past, won)
            past.appendleft(log_policies)
            if rule.refresh is not None and (done + 1) % rule.refresh == 0:
                step.refresh(log_policies)
        return _Piece(
            np.stack(gains),
            np.asarray(average_gains),
            log_policies,
            total / (steps + 1),
            np.asarray(kept),
            np.asarray(means),
            np.asarray(np.isfinite(log_policies).all(axis=(-1, -2, -3))),
            np.asarray(np.abs(policies - np.exp(before)).max(axis=(-1, -2, -3)) > 1e-6),
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


def _weighted(weights: list[float], values: list[Array]) -> Array:
    """Σ_b weight_b · value_b."""
    return np.asarray(sum(weight * value for weight, value in zip(weights, values, strict=True)))
