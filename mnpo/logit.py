"""Logit fixed points π_i ∝ π_ref,i exp(q_i(π)/τ_i): Newton's method along the branch from strong regularisation.

At τ → ∞ the only solution is the reference; the solutions followed from there as τ falls are the principal
branch of the logit quantal response correspondence (McKelvey & Palfrey 1995). The branch is followed by
pseudo-arclength (Turocy 2005), so that it may turn back in τ, as it can in general-sum games.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lu_factor, lu_solve

from mnpo.numerics import Array, normalise_log

#: Probabilities below this do not move the others' payoffs by a rounding unit; Newton's matrix leaves them out.
NEGLIGIBLE = 1e-25
#: Newton corrections allowed at one point of the branch before the step is halved.
CORRECTIONS = 8
#: Smallest cosine between the branch's directions at consecutive points. Below it, another piece of the branch
#: (or of another one) may have caught the corrector.
STRAIGHT = 0.97
#: Largest correction at a point of the branch, relative to the step that led to it.
NEARBY = 0.05
#: Longest step in log τ where the branch may fold.
LONGEST = 0.2
#: What a response hardly played counts for, at the least, when lengths are measured.
FLOOR = 1e-3


class ConvergenceError(RuntimeError):
    """A solver stopped short of the solution."""


@dataclass(frozen=True)
class LogitSolution:
    """A logit fixed point.

    Attributes:
        log_policies: (p, A).
        residual: largest |log π − log BR| over all entries with a probability above 1e-25.
        iterations: number of Newton matrices factorised.
    """

    log_policies: Array
    residual: float
    iterations: int


def solve_logit(
    wins: Callable[[Array], Array],
    gradient: Callable[[Array], Array],
    log_reference: Array,
    tau: Array,
    *,
    start: Array | None = None,
    unique: bool = False,
    max_iterations: int = 20_000,
) -> LogitSolution:
    """Solve log π_i = log π_ref,i + q_i(π)/τ_i − log Z_i for all players.

    Args:
        wins: q, (p, A) -> (p, A).
        gradient: ∂q_i(y)/∂π_j(z) as [i, y, j, z], (p, A) -> (p, A, p, A).
        log_reference: (p, A), normalised.
        tau: (p,), all above 0.
        start: (p, A), log-policies near the solution; skips the branch if Newton converges from there.
        unique: there is only one fixed point, so that it does not matter how it is reached.
        max_iterations: Newton matrices allowed.

    Returns:
        The fixed point on the principal branch (or the one that `start` leads to).

    Raises:
        ConvergenceError: the branch could not be followed to τ.
    """
    if unique:
        try:
            return _follow(_System(wins, gradient, log_reference, tau, 0.0), start, max_iterations, True)
        except ConvergenceError:
            pass  # long strides can stumble over references of tiny mass; careful ones do not
    return _follow(_System(wins, gradient, log_reference, tau, FLOOR), start, max_iterations, False)


def _follow(system: _System, start: Array | None, max_iterations: int, unique: bool) -> LogitSolution:
    log_reference, tau = system.log_reference, system.tau
    if start is not None:
        point = system.correct(start.ravel(), 0.0, polish=True)
        if point is not None:
            return system.solution(point)
    # From τ = 1 (for many players more: their joint influence on a payoff grows) the branch is short to 0.
    level = max(0.0, float(np.log(max(1.0, log_reference.shape[0] / 2) / tau.min())))
    point = None
    while point is None:
        point = system.correct(log_reference.ravel(), level, polish=level == 0.0)
        if point is None:
            if level > 50:
                raise ConvergenceError("no logit equilibrium was found near the reference at any tau")
            level += 1.0
    if level == 0.0:
        return system.solution(point)
    top = level
    tangent, _ = system.tangent(np.append(np.zeros(point.size), -1.0))
    step = 0.5
    while True:
        if system.iterations > max_iterations:
            raise ConvergenceError(
                f"the branch was followed to {np.exp(level):.3g} times tau in {max_iterations} Newton steps "
                "and no further"
            )
        if not unique:
            step = min(step, LONGEST / max(abs(float(tangent[-1])), 1e-300))
        arrives = level + step * tangent[-1] <= 0.0
        length = level / -tangent[-1] if arrives else step
        guess, guessed = point + length * tangent[:-1], level + length * tangent[-1]
        if arrives:
            corrected = system.correct(guess, 0.0, polish=True)
            reached = 0.0
        else:
            corrected, reached = system.correct_along(guess, guessed, tangent)
        if corrected is None:
            step = length / 2
            if step < 1e-10:
                raise ConvergenceError(f"the branch was lost at {np.exp(level):.6g} times tau")
            continue
        corrections = system.corrections
        turned, cosine = system.tangent(tangent)
        missed = system.length(np.append(corrected - guess, reached - (0.0 if arrives else guessed))) / length
        # A unique branch cannot turn. Another branch may have caught the corrector if it had to go far.
        jumped = cosine <= 0 or reached >= level if unique else cosine < STRAIGHT or missed > NEARBY
        if jumped and length > 1e-6:
            step = length / 2
            continue
        if arrives:
            return system.solution(corrected)
        if reached > top + 1.0:
            raise ConvergenceError(f"the branch turned back to {np.exp(reached):.6g} times tau")
        point, level, tangent = corrected, reached, turned
        step = length * (2.0 if corrections <= 2 else 1.2 if corrections <= 4 else 0.7)


class _System:
    """F(x) = x − log BR(softmax x) at τ·e^level, and what its linearisation gives.

    Steps are measured by √(Σ_i Σ_y π_i dx_i(y)² + dlevel²), the Fisher metric of the policies: what happens
    to a response that is hardly played counts for little (where the branch may fold, for 0.001 at the least,
    since a branch that leaves a corner begins with such responses).
    """

    def __init__(
        self,
        wins: Callable[[Array], Array],
        gradient: Callable[[Array], Array],
        log_reference: Array,
        tau: Array,
        floor: float,
    ) -> None:
        self.wins, self.gradient = wins, gradient
        self.log_reference, self.tau = log_reference, tau[:, None]
        self.shape = log_reference.shape
        self.iterations = 0
        self.corrections = 0
        self._metric = np.ones(log_reference.size)
        self._floor = floor

    def evaluate(self, x: Array, level: float) -> tuple[Array, Array, Array, Array]:
        """Return F, π, BR and q/τ at x, all (p, A)."""
        log_policies = x.reshape(self.shape)
        _, policies = normalise_log(log_policies)
        scaled = self.wins(policies) / (self.tau * np.exp(level))
        log_best, best = normalise_log(self.log_reference + scaled)
        return log_policies - log_best, policies, best, scaled

    def correct(self, x: Array, level: float, *, polish: bool) -> Array | None:
        """Newton at a fixed level; None if it does not converge. `polish` goes on to rounding."""
        row = np.append(np.zeros(x.size), 1.0)
        solved, _ = self._newton(x, level, row, polish)
        return solved

    def correct_along(self, x: Array, level: float, tangent: Array) -> tuple[Array | None, float]:
        """Newton in the hyperplane through the guess that is orthogonal to the tangent."""
        return self._newton(x, level, np.append(self._metric * tangent[:-1], tangent[-1]), polish=False)

    def tangent(self, previous: Array) -> tuple[Array, float]:
        """Return the branch's unit tangent at the last corrected point, and its cosine with the previous one."""
        row = np.append(self._metric * previous[:-1], previous[-1])
        direction = self._solve(np.append(np.zeros(row.size - 1), 1.0), row)
        tangent = direction / self.length(direction)
        return tangent, float(row @ tangent) / self.length(previous)

    def length(self, step: Array) -> float:
        """Return the length of a step (dx, dlevel) at the last corrected point."""
        return float(np.sqrt(self._metric @ step[:-1] ** 2 + step[-1] ** 2))

    def solution(self, x: Array) -> LogitSolution:
        """Package a solution at level 0."""
        error, policies, _, _ = self.evaluate(x, 0.0)
        log_policies, _ = normalise_log(x.reshape(self.shape))
        residual = float(np.abs(error[policies > NEGLIGIBLE]).max())
        return LogitSolution(log_policies, residual, self.iterations)

    def _newton(self, x: Array, level: float, row: Array, polish: bool) -> tuple[Array | None, float]:
        previous = np.inf
        tolerance = 1e-13 if polish else 1e-6
        for number in range(1, CORRECTIONS + (12 if polish else 0) + 1):
            self.corrections = number
            error, policies, best, scaled = self.evaluate(x, level)
            if not np.isfinite(error).all():
                return None, level
            self._linearise(policies, best, scaled, level)
            change = self._solve(np.append(-error.ravel(), 0.0), row)
            size = self.length(change)
            if not np.isfinite(size) or size > 3.0 or (number > 2 and size > 0.9 * previous and size > 1e-9):
                return None, level
            x, level = x + change[:-1], level + change[-1]
            if size < tolerance or (polish and size < 1e-9 and size > 0.5 * previous):
                return x, level
            previous = size
        return (x, level) if polish and previous < 1e-9 else (None, level)

    def _linearise(self, policies: Array, best: Array, scaled: Array, level: float) -> None:
        """Prepare ∂F/∂x = I − K and ∂F/∂level for `_solve`.

        K = (I − 1 BRᵀ) (∂q/∂π)/τ (diag π − π πᵀ). Its columns vanish where π does, so that only the block
        of the responses in play is factorised.
        """
        self.iterations += 1
        players, size = self.shape
        slopes = self.gradient(policies) / (self.tau * np.exp(level))[:, :, None, None]
        slopes -= np.einsum("iyjz,jz->iyj", slopes, policies)[..., None]
        slopes *= policies
        slopes -= np.einsum("iy,iyjz->ijz", best, slopes)[:, None]
        matrix = slopes.reshape(players * size, players * size)
        drift = scaled - (best * scaled).sum(axis=-1, keepdims=True)
        self._drift = drift.ravel()
        self._played = policies.ravel() > NEGLIGIBLE
        self._matrix = matrix
        self._metric = np.maximum(policies.ravel(), self._floor)
        self._factors: tuple[Array, Array] | None = None

    def _solve(self, right: Array, row: Array) -> Array:
        """Solve [[I − K, drift], [row]] (dx, dlevel) = right."""
        played = self._played
        count = int(played.sum())
        bordered = np.empty((count + 1, count + 1))
        bordered[:count, :count] = -self._matrix[np.ix_(played, played)]
        bordered[np.arange(count), np.arange(count)] += 1.0
        bordered[:count, count] = self._drift[played]
        bordered[count, :count] = row[:-1][played]
        bordered[count, count] = row[-1]
        with np.errstate(all="ignore"):
            inner = lu_solve(
                lu_factor(bordered, overwrite_a=True, check_finite=False),
                np.append(right[:-1][played], right[-1]),
                check_finite=False,
            )
        change = np.empty(right.size)
        change[-1] = inner[-1]
        change[:-1] = right[:-1] - self._drift * inner[-1]
        change[:-1] += self._matrix[:, played] @ inner[:-1]
        change[:-1][played] = inner[:-1]
        return change
