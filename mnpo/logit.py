"""Logit fixed points π_i ∝ π_ref,i exp(q_i(π)/τ_i): Newton's method along the branch from strong regularisation.

At τ → ∞ the only solution is the reference; the solutions followed from there as τ falls are the principal
branch of the logit quantal response correspondence (McKelvey & Palfrey 1995). The branch is followed by
pseudo-arclength (Turocy 2005), so that it may turn back in τ, as it can in general-sum games.

All contexts are followed side by side, each with steps of its own (`mnpo.newton` has the shapes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnpo.descent import descend
from mnpo.newton import FixedPoints, Payoffs, Places, covector, length
from mnpo.numerics import Array, normalise_log

#: Smallest cosine between the branch's directions at consecutive points. Below it, another piece of the branch
#: (or of another one) may have caught the corrector.
STRAIGHT = 0.97
#: Largest correction at a point of the branch, relative to the step that led to it.
NEARBY = 0.05
#: Longest step in log τ where the branch may fold.
LONGEST = 0.2
#: The level, log of a factor on τ, above which nobody looks for the branch any more.
HIGHEST = 50.0
#: What a response hardly played counts for where the branch may fold: a branch that leaves a corner begins with it.
FLOOR = 1e-3


class ConvergenceError(RuntimeError):
    """A solver stopped short of the solution."""


@dataclass(frozen=True, eq=False)
class LogitSolution:
    """The logit fixed points of C contexts.

    Attributes:
        log_policies: (p, C, A).
        residual: (C,), largest |log π − log BR| over all entries with a probability above 1e-25.
        iterations: (C,), number of Newton matrices factorised.
    """

    log_policies: Array
    residual: Array
    iterations: Places


def solve_logit(
    payoffs: Payoffs,
    log_reference: Array,
    tau: Array,
    *,
    start: Array | None = None,
    unique: bool = False,
    max_iterations: int = 20_000,
) -> LogitSolution:
    """Solve log π_i = log π_ref,i + q_i(π)/τ_i − log Z_i for all players in every context.

    Args:
        payoffs: q and its derivatives.
        log_reference: (p, C, A), normalised.
        tau: (p,), all above 0.
        start: (p, C, A), log-policies near the solution; skips the branch if Newton converges from there.
        unique: there is only one fixed point, so that it does not matter how it is reached.
        max_iterations: Newton matrices allowed to each context.

    Returns:
        The fixed points on the principal branch (or those that `start` leads to).

    Raises:
        ConvergenceError: the branch could not be followed to τ in some context.
    """
    slots, contexts, size = log_reference.shape
    points, iterations = np.empty((contexts, slots * size)), np.zeros(contexts, dtype=np.intp)
    left, trouble = np.arange(contexts), np.full(contexts, "", dtype=object)
    with np.errstate(all="ignore"):  # a guess that overflows is only a bad guess
        system = FixedPoints(payoffs, log_reference, tau, 0.0 if unique else FLOOR)
        begin = system.reference if start is None else start.swapaxes(0, 1).reshape(points.shape)
        if unique:
            converged, points = descend(system, begin)
            left = left[~converged]
        elif start is not None:
            level, polish = np.zeros(contexts), np.ones(contexts, dtype=bool)
            found = system.correct(left, begin, level, system.held(contexts), polish)
            points, left = found.x, left[~found.converged]
        # Long strides can stumble over references of tiny mass; careful ones do not.
        for careful in (False, True) if unique else (True,):
            if careful and unique:
                iterations = system.iterations
                system = FixedPoints(payoffs, log_reference, tau, FLOOR)
            if left.size:
                points[left], trouble = _follow(system, left, careful, max_iterations)
                left, trouble = left[trouble != ""], trouble[trouble != ""]
        if left.size:
            raise ConvergenceError(trouble[0] if contexts == 1 else f"context {left[0]}: {trouble[0]}")
        residual = system.residual(np.arange(contexts), points)
    log_policies, _ = normalise_log(points.reshape(contexts, slots, size).swapaxes(0, 1))
    return LogitSolution(log_policies, residual, iterations + system.iterations)


def _follow(
    system: FixedPoints, who: Places, careful: bool, max_iterations: int
) -> tuple[Array, npt.NDArray[np.object_]]:
    """Follow the branch of some contexts from the reference to τ.

    Args:
        system: F.
        who: (c,), the contexts.
        careful: whether the branch may fold, or another come near. If not, it cannot turn back.
        max_iterations: Newton matrices allowed to each context.

    Returns:
        The ends, (c, N), and what went wrong, (c,): "" where nothing did.
    """
    point, level, trouble = _beginning(system, who)
    active = np.flatnonzero((level > 0) & (trouble == ""))
    if not active.size:
        return point, trouble
    top, step = level.copy(), np.full(who.size, 0.5)
    tangent, metric = np.empty((who.size, point.shape[1] + 1)), np.empty_like(point)
    _, derivatives = system.differentiate(who[active], point[active], level[active])
    tangent[active], _ = derivatives.tangent(-system.held(active.size))
    metric[active] = derivatives.metric
    while active.size:
        at, going, stride = level[active], tangent[active], step[active]
        if careful:
            stride = np.minimum(stride, LONGEST / np.maximum(np.abs(going[:, -1]), 1e-300))
        arrives = at + stride * going[:, -1] <= 0.0
        stride = np.where(arrives, at / -going[:, -1], stride)
        guess = point[active] + stride[:, None] * going[:, :-1]
        guessed = np.where(arrives, 0.0, at + stride * going[:, -1])
        row = np.where(arrives[:, None], system.held(active.size), covector(metric[active], going))
        found = system.correct(who[active], guess, guessed, row, arrives)
        turned, cosine = found.derivatives.tangent(going)
        here = found.derivatives.metric
        if careful:
            missed = np.concatenate([found.x - guess, (found.level - guessed)[:, None]], axis=-1)
            jumped = (cosine < STRAIGHT) | (length(here, missed) > NEARBY * stride)
        else:
            jumped = (cosine <= 0) | (found.level >= at)
        good = found.converged & ~(jumped & (stride > 1e-6))
        easy = np.where(found.corrections <= 2, 2.0, np.where(found.corrections <= 4, 1.2, 0.7))
        step[active] = stride * np.where(good, easy, 0.5)
        gone = active[good]
        point[gone], level[gone] = found.x[good], found.level[good]
        tangent[gone], metric[gone] = turned[good], here[good]
        for place in active[~found.converged & (step[active] < 1e-10)]:
            trouble[place] = f"the branch was lost at {np.exp(level[place]):.6g} times tau"
        active = active[~(good & arrives)]
        for place in active[level[active] > top[active] + 1.0]:
            trouble[place] = f"the branch turned back to {np.exp(level[place]):.6g} times tau"
        for place in active[system.iterations[who[active]] > max_iterations]:
            trouble[place] = (
                f"the branch was followed to {np.exp(level[place]):.3g} times tau in {max_iterations} Newton steps "
                "and no further"
            )
        active = active[trouble[active] == ""]
    return point, trouble


def _beginning(system: FixedPoints, who: Places) -> tuple[Array, Array, npt.NDArray[np.object_]]:
    """Return where the branches are entered, (c, N), at which levels, (c,), and what went wrong, (c,)."""
    # From τ = 1 (for many players more: their joint influence on a payoff grows) the branch is short to 0.
    first = max(0.0, float(np.log(max(1.0, system.tau.size / 2) / system.tau.min())))
    point, level = system.reference[who], np.full(who.size, first)
    trouble, pending = np.full(who.size, "", dtype=object), np.arange(who.size)
    while pending.size:
        guess, at = system.reference[who[pending]], level[pending]
        found = system.correct(who[pending], guess, at, system.held(pending.size), at == 0.0)
        point[pending] = found.x
        pending = pending[~found.converged]
        if (level[pending] > HIGHEST).any():  # all have the same
            trouble[pending] = "no logit equilibrium was found near the reference at any tau"
            break
        level[pending] += 1.0
    return point, level, trouble
