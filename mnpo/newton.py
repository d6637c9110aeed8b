"""Newton's method for logit fixed points, many contexts at once.

F(x) = x − log BR(softmax x) at τ·e^level, x the log-policies. Contexts do not interact, so that every array has a
leading axis c of contexts, and contexts leave the iteration one by one as they converge.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mnpo.jacobians import by_logarithms
from mnpo.numerics import Array, normalise_log

Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

#: Probabilities below this do not move the others' payoffs by a rounding unit; Newton's matrix leaves them out.
NEGLIGIBLE = 1e-25
#: Newton corrections allowed before a point counts as lost, ..
CORRECTIONS = 8
#: .. and how many more where it is carried on to rounding.
POLISHING = 12
#: A longer correction than this leaves the neighbourhood of the point.
LONGEST_CORRECTION = 3.0


class Payoffs(Protocol):
    """The win probabilities of C contexts, as a solver needs them."""

    def at(self, contexts: Places) -> Payoffs:
        """Return those of some contexts alone."""

    def wins(self, policies: Array) -> Array:
        """Return q, (p, C, A) -> (p, C, A)."""

    def jacobian(self, policies: Array) -> Array:
        """Return ∂q_i(y)/∂π_j(z) as [x, i, y, j, z], (p, C, A) -> (C, p, A, p, A)."""


class Derivatives(NamedTuple):
    """∂F/∂x = I − K and ∂F/∂level at one point of each context.

    K = (I − 1 BRᵀ) (∂q/∂π)/τ (diag π − π πᵀ). Its columns vanish where π does, so that only the block of the
    responses in play is factorised.

    Attributes:
        matrix: K, (c, N, N), N = p·A.
        drift: ∂F/∂level, (c, N).
        metric: (c, N), π or the floor under it: what each response counts for when steps are measured (`length`).
        played: (c, N), which responses are in play.
    """

    matrix: Array
    drift: Array
    metric: Array
    played: Flags

    @classmethod
    def empty(cls, count: int, unknowns: int) -> Derivatives:
        """Return zeros for `put` to fill."""
        drift, metric = np.zeros((2, count, unknowns))
        return cls(
            np.zeros((count, unknowns, unknowns)), drift, metric, np.zeros((count, unknowns), dtype=bool)
        )

    def put(self, places: Places, other: Derivatives, which: Flags) -> None:
        """Fill some contexts' places with some of another's."""
        for mine, theirs in zip(self, other, strict=True):
            mine[places] = theirs[which]

    def tangent(self, previous: Array) -> tuple[Array, Array]:
        """Return the branch's unit tangent, (c, N+1), and its cosine with a previous one, (c,)."""
        row = covector(self.metric, previous)
        direction = self.solve(np.zeros_like(self.drift), 1.0, row)
        tangent = direction / length(self.metric, direction)[:, None]
        return tangent, (row * tangent).sum(-1) / length(self.metric, previous)

    def solve(self, right: Array, last: float, row: Array) -> Array:
        """Solve [[I − K, drift], [row]] (dx, dlevel) = (right, last), (c, N), (c, N+1) -> (c, N+1)."""
        somewhere = np.asarray(self.played.any(axis=0))
        count = int(somewhere.sum())
        # A slice of all costs no copy.
        played: slice | Flags = slice(None) if count == somewhere.size else somewhere
        bordered = np.empty((len(right), count + 1, count + 1))
        np.negative(self.matrix[:, played][:, :, played], out=bordered[:, :count, :count])
        bordered[:, np.arange(count), np.arange(count)] += 1.0
        bordered[:, :count, count] = self.drift[:, played]
        bordered[:, count, :count] = row[:, :-1][:, played]
        bordered[:, count, count] = row[:, -1]
        sides = np.full((len(right), count + 1), last)
        sides[:, :count] = right[:, played]
        inner = _solve_each(bordered, sides)
        change = np.empty_like(row)
        change[:, -1] = inner[:, -1]
        change[:, :-1] = right - self.drift * inner[:, -1:]
        change[:, :-1] += np.matmul(self.matrix[:, :, played], inner[:, :-1, None])[..., 0]
        change[:, :-1][:, played] = inner[:, :-1]
        return change


def length(metric: Array, step: Array) -> Array:
    """Return √(Σ_i Σ_y π_i dx_i(y)² + dlevel²), (c, N), (c, N+1) -> (c,): the Fisher metric of the policies.

    What happens to a response that is hardly played counts for little.
    """
    return np.sqrt((metric * step[:, :-1] ** 2).sum(-1) + step[:, -1] ** 2)


def covector(metric: Array, step: Array) -> Array:
    """Return the row whose product with another step is their inner product, (c, N), (c, N+1) -> (c, N+1)."""
    return np.concatenate([metric * step[:, :-1], step[:, -1:]], axis=-1)


class Evaluated(NamedTuple):
    """F and what it is made of at one point of each context, all (c, p, A)."""

    #: F.
    error: Array
    #: π.
    policies: Array
    #: BR.
    best: Array
    #: q/τ.
    scaled: Array


class Corrected(NamedTuple):
    """What Newton's method made of guesses.

    Attributes:
        converged: (c,).
        x: (c, N), the guess where it did not converge.
        level: (c,).
        corrections: (c,), how many it took.
        derivatives: those before the last correction; zeros where it did not converge.
    """

    converged: Flags
    x: Array
    level: Array
    corrections: Places
    derivatives: Derivatives


class FixedPoints:
    """F of every context, and Newton's method for it.

    Args:
        payoffs: of all contexts.
        log_reference: (p, X, A), normalised.
        tau: (p,).
        floor: what a response counts for, at the least, when lengths are measured.
    """

    def __init__(self, payoffs: Payoffs, log_reference: Array, tau: Array, floor: float) -> None:
        slots, self.contexts, size = log_reference.shape
        #: (X, N), where the branch begins.
        self.reference = log_reference.swapaxes(0, 1).reshape(self.contexts, slots * size)
        #: (X,), Newton matrices factorised.
        self.iterations = np.zeros(self.contexts, dtype=np.intp)
        self._shape = (slots, size)
        self.tau, self._floor = tau, floor
        self._payoffs = payoffs
        self._part = np.arange(self.contexts), payoffs

    def held(self, count: int) -> Array:
        """Return (count, N+1) rows that keep the level in `correct`."""
        row = np.zeros((count, self.reference.shape[1] + 1))
        row[:, -1] = 1.0
        return row

    def residual(self, who: Places, x: Array) -> Array:
        """Return the largest |log π − log BR| at level 0, negligible responses aside, (c, N) -> (c,)."""
        here = self.evaluate(who, x, np.zeros(who.size))
        return np.where(here.policies > NEGLIGIBLE, np.abs(here.error), 0.0).max(axis=(-1, -2))

    def differentiate(self, who: Places, x: Array, level: Array) -> tuple[Array, Derivatives]:
        """Return F, (c, N), and its derivatives at a point of each of some contexts, (c, N) and (c,)."""
        there = self.evaluate(who, x, level)
        return there.error.reshape(x.shape), self.linearise(who, there, level)

    def linearise(self, who: Places, there: Evaluated, level: Array) -> Derivatives:
        """Return the derivatives at points where F is known."""
        _, policies, best, scaled = there
        flat = (who.size, self.reference.shape[1])
        jacobian = self._of(who).jacobian(policies.swapaxes(0, 1))
        matrix = by_logarithms(jacobian, policies, best)
        matrix /= self._strength(level).repeat(self._shape[1], axis=1)
        played = policies.reshape(flat)
        drift = (scaled - (best * scaled).sum(axis=-1, keepdims=True)).reshape(flat)
        return Derivatives(matrix, drift, np.maximum(played, self._floor), played > NEGLIGIBLE)

    def correct(self, who: Places, x: Array, level: Array, row: Array, polish: Flags) -> Corrected:
        """Newton's method in the hyperplane through each guess that is orthogonal to its row.

        Args:
            who: (c,), the contexts.
            x: (c, N), the guesses, ..
            level: (c,), .. and their levels.
            row: (c, N+1); (0, .., 0, 1), which is `held`, keeps the level.
            polish: (c,), whether to go on to rounding.
        """
        found = Corrected(
            np.zeros(who.size, dtype=bool), x.copy(), level.copy(), np.zeros(who.size, dtype=np.intp),
            Derivatives.empty(*x.shape),
        )  # fmt: skip
        running, before, number = np.arange(who.size), np.full(who.size, np.inf), 0
        while running.size:
            number += 1
            self.iterations[who[running]] += 1
            error, derivatives = self.differentiate(who[running], x, level)
            change = derivatives.solve(-error, 0.0, row)
            size = length(derivatives.metric, change)
            x, level = x + change[:, :-1], level + change[:, -1]
            lost = ~(size <= LONGEST_CORRECTION) | ((number > 2) & (size > 0.9 * before) & (size > 1e-9))
            last = number == np.where(polish, CORRECTIONS + POLISHING, CORRECTIONS)
            # Polishing ends where corrections no longer shrink: what is left is rounding.
            polished = polish & (size < 1e-9) & (last | (size > 0.5 * before))
            there = ~lost & (polished | (size < np.where(polish, 1e-13, 1e-6)))
            done, before = running[there], size
            found.converged[done], found.corrections[done] = True, number
            found.x[done], found.level[done] = x[there], level[there]
            found.derivatives.put(done, derivatives, there)
            stays = ~(lost | there | last)
            if not stays.all():
                running, x, level = running[stays], x[stays], level[stays]
                row, polish, before = row[stays], polish[stays], before[stays]
        return found

    def evaluate(self, who: Places, x: Array, level: Array) -> Evaluated:
        """Return F and what it is made of, (c, N) and (c,)."""
        log_policies = x.reshape(-1, *self._shape)
        _, policies = normalise_log(log_policies)
        scaled = self._of(who).wins(policies.swapaxes(0, 1)).swapaxes(0, 1) / self._strength(level)
        log_best, best = normalise_log(self.reference[who].reshape(log_policies.shape) + scaled)
        return Evaluated(log_policies - log_best, policies, best, scaled)

    def _strength(self, level: Array) -> Array:
        """τ·e^level, (c,) -> (c, p, 1)."""
        return self.tau[:, None] * np.exp(level)[:, None, None]

    def _of(self, who: Places) -> Payoffs:
        """The payoffs of some contexts; the last ones are kept, since they are mostly asked for again."""
        if not np.array_equal(who, self._part[0]):
            everyone = who.size == self.contexts
            self._part = who, self._payoffs if everyone else self._payoffs.at(who)
        return self._part[1]


def _solve_each(matrices: Array, right: Array) -> Array:
    """Solve (c, N, N) by (c, N); not-a-number where a matrix is singular."""
    try:
        return np.asarray(np.linalg.solve(matrices, right[..., None])[..., 0])
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full_like(right, np.nan)
        return np.concatenate([_solve_each(matrices[i : i + 1], right[i : i + 1]) for i in range(len(right))])
