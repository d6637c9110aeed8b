"""Newton's method for identical players of pairwise payoffs, for very many small games at once.

log p = log ν + S p − c has one solution for each skew S (here s (P − ½)): `mnpo.descent` says why. In z = dp/√p a
Newton step solves (I − √p S √p) z = right, a matrix whose symmetric part is I: elimination needs no pivots, all of
which are at least 1. Games lie along the last axis, so that every operation is one on long rows.
"""

from __future__ import annotations

import numpy as np

from mnpo.newton import Flags
from mnpo.numerics import Array

#: Steps allowed; games that need more, or whose error does not fall, are left to `mnpo.logit`.
STEPS = 30
#: A step in log p longer than this, in the metric of p, is shortened to it.
LONGEST = 8.0
#: Where a step no longer shrinks below the first of these, or falls below the second, what is left is rounding.
NEAR, EXACT = 1e-9, 1e-13


def pairwise_equilibria(skew: Array, log_reference: Array, start: Array) -> tuple[Array, Flags]:
    """Return the equilibria of G games, and which of them were found.

    Args:
        skew: S = s (P − ½), (A, A, G), with S + Sᵀ = 0.
        log_reference: log ν up to constants, (A, G).
        start: log-policies near the solutions, up to constants, (A, G).

    Returns:
        Policies (A, G), and (G,), whether Newton's method converged to rounding.
    """
    logs = start.copy()
    policies = _normalise(logs)
    error = _error(skew, log_reference, logs, policies)
    before, norm = np.full(logs.shape[1], np.inf), _norm(policies, error)
    done = np.zeros(logs.shape[1], dtype=bool)
    room = np.empty((len(logs), len(logs) + 2, logs.shape[1]))
    fails = np.zeros_like(done)
    with np.errstate(all="ignore"):  # a game that overflows is one that fails
        for _ in range(STEPS):
            change = _step(skew, policies, error, room)
            size = _norm(policies, change)
            done |= (size < EXACT) | ((size < NEAR) & (size > 0.5 * before))
            logs += change * np.minimum(1.0, LONGEST / size)
            policies, before = _normalise(logs), size
            if (done | fails).all():
                break
            error, was = _error(skew, log_reference, logs, policies), norm
            norm = _norm(policies, error)
            fails |= ~((norm < was) | (norm < NEAR))
    return policies, done & ~fails & np.isfinite(policies).all(axis=0)


def _normalise(logs: Array) -> Array:
    """Normalise log-policies in place; return the policies."""
    logs -= logs.max(axis=0)
    policies = np.exp(logs)
    total = policies.sum(axis=0)
    logs -= np.log(total)
    policies /= total
    return policies


def _error(skew: Array, log_reference: Array, logs: Array, policies: Array) -> Array:
    """log p − log ν − S p, its mean under p removed."""
    error = logs - log_reference
    for row, values in zip(error, skew, strict=True):
        row -= (values * policies).sum(axis=0)
    error -= (policies * error).sum(axis=0)
    return error


def _norm(policies: Array, values: Array) -> Array:
    return np.asarray(np.sqrt((policies * values * values).sum(axis=0)))


def _step(skew: Array, policies: Array, error: Array, system: Array) -> Array:
    """The Newton step in log p, with Σ p dx = 0; `system` is room for the matrix and two right sides."""
    size, games = policies.shape
    root = np.sqrt(policies)
    for row in range(size):
        np.multiply(skew[row], root, out=system[row, :size])
        system[row, :size] *= -root[row]
        system[row, row] += 1.0
    np.multiply(root, -error, out=system[:, size])
    system[:, size + 1] = root
    product = np.empty((size + 1, games))
    for pivot in range(size):
        system[pivot, pivot + 1 :] /= system[pivot, pivot]
        taken = product[: size + 1 - pivot]
        for row in range(pivot + 1, size):
            np.multiply(system[row, pivot], system[pivot, pivot + 1 :], out=taken)
            system[row, pivot + 1 :] -= taken
    right = system[:, size:]
    for pivot in range(size - 1, 0, -1):
        right[:pivot] -= system[:pivot, pivot, None] * right[pivot]
    one, level = right[:, 0], right[:, 1]
    # dp = √p z sums to 0.
    one -= level * ((root * one).sum(axis=0) / (root * level).sum(axis=0))
    moved = root * one
    # From dp rather than z/√p: right for responses that are hardly played, too.
    change = -error
    for row, values in zip(change, skew, strict=True):
        row += (values * moved).sum(axis=0)
    change -= (policies * change).sum(axis=0)
    return change
