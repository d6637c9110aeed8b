"""Damped Newton for logit fixed points that are the only ones: from the reference, or from anywhere, at once.

Why identical players have one symmetric equilibrium. A response enters a group with a random score of its own and
the highest score wins: minus the time until it is called (Plackett–Luce), or a place drawn within its class
(rankings). With f_y the density of y's score, a policy's score has the density f = Σ_y π(y) f_y; let F be its
distribution function. Then q(y) = ∫ f_y F^{n−1}. For two policies and G = F − F',

    ⟨π − π', q − q'⟩ = ∫ G' (F^{n−1} − F'^{n−1}) = ∫ G' G h = −½ ∫ G² h' ≤ 0,   h = Σ_k F^k F'^{n−2−k},

since h rises and G vanishes at both ends; a population adds such terms, and for pairwise payoffs it is 0. Such
games are called contractive, or stable (Hofbauer & Sandholm 2009). At two equilibria τ log(π/π') = q − q' up to
constants, so that τ KL(π ‖ π') + τ KL(π' ‖ π) ≤ 0: they are one. The branch from strong regularisation
ends there, too.

In the limit π' → π the symmetric part of ∂q/∂π is at most 0 on directions that sum to 0. K is ∂q/∂π times the
positive diag π − π πᵀ, over τ and up to constants, so that no eigenvalue of K has a real part above 0: I − K is
regular everywhere, and Newton's method always has a step. Steps are shortened until √(Σ_i Σ_y π_i F_i(y)²) falls,
F the error and π the policies where it is taken.
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
