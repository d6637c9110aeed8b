"""Damped Newton for logit fixed points that are the only ones: from the reference, or from anywhere, at once.

The error's norm is √(Σ_i Σ_y π_i F_i(y)²), π where the error is taken. In a contractive game the matrix is regular
everywhere, since the eigenvalues of I − K have real parts of at least 1 (docs/concepts.md): there is always a step.
"""

from __future__ import annotations

import numpy as np

from mnpo.newton import Evaluated, FixedPoints, Flags, Places, length
from mnpo.numerics import Array

#: Steps allowed before other ways are tried.
STEPS = 40
#: A step longer than this is shortened to it.
LONGEST_STEP = 8.0
#: A step is halved up to so many times until the error falls by this share of what it promises, ..
HALVINGS, PROMISED = 8, 0.1
#: .. unless the error is so small that rounding may decide.
NEAR = 1e-8


def descend(system: FixedPoints, x: Array) -> tuple[Flags, Array]:
    """Newton's method at level 0 from points that may be far away, (X, N).

    Nothing is asked about where the way leads, so it is for systems with one fixed point.

    Returns:
        Which contexts converged, (X,), and their fixed points, (X, N).
    """
    converged, ends = np.zeros(system.contexts, dtype=bool), x.copy()
    running, before = np.arange(system.contexts), np.full(system.contexts, np.inf)
    here = system.evaluate(running, x, np.zeros(running.size))
    for _ in range(STEPS):
        system.iterations[running] += 1
        derivatives = system.linearise(running, here, np.zeros(running.size))
        change = derivatives.solve(-here.error.reshape(x.shape), 0.0, system.held(running.size))
        size = length(derivatives.metric, change)
        # Polishing ends where corrections no longer shrink: what is left is rounding.
        there = (size < 1e-13) | ((size < 1e-9) & (size > 0.5 * before))
        done, going = running[there], ~there & np.isfinite(size)
        converged[done], ends[done] = True, x[there] + change[there, :-1]
        if not going.any():
            break
        share = np.minimum(1.0, LONGEST_STEP / size[going])
        x, here, falls = _shorten(
            system, running[going], x[going], change[going, :-1], share, _norm(here)[going]
        )
        running, before = running[going], size[going]
        if not falls.all():
            x, here = x[falls], Evaluated(*(part[falls] for part in here))
            running, before = running[falls], before[falls]
            if not running.size:
                break
    return converged, ends


def _shorten(
    system: FixedPoints, who: Places, x: Array, change: Array, share: Array, error: Array
) -> tuple[Array, Evaluated, Flags]:
    """Take a share of each change, halved until the error falls.

    Args:
        system: F.
        who: (c,), the contexts.
        x: (c, N).
        change: (c, N).
        share: (c,), at first.
        error: (c,), the norm at x.

    Returns:
        Where it leads, (c, N), F there, and whether the error falls, (c,).
    """
    level = np.zeros(who.size)
    to = x + share[:, None] * change
    here = system.evaluate(who, to, level)
    for _ in range(HALVINGS):
        rises = np.flatnonzero(~(_norm(here) <= (1 - PROMISED * share) * error) & ~(error < NEAR))
        if not rises.size:
            break
        share[rises] *= 0.5
        to[rises] = x[rises] + share[rises, None] * change[rises]
        for part, new in zip(here, system.evaluate(who[rises], to[rises], level[rises]), strict=True):
            part[rises] = new
    return to, here, (_norm(here) < error) | (error < NEAR)


def _norm(there: Evaluated) -> Array:
    """Return √(Σ_i Σ_y π_i F_i(y)²), (c,)."""
    return np.asarray(np.sqrt((there.policies * there.error**2).sum(axis=(-1, -2))))
