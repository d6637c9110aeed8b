"""The independent check of a claimed equilibrium.

Nothing here is shared with the solvers but the oracle's win probabilities: every figure follows its definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, softmax, xlogy

from mnpo.games import Game
from mnpo.numerics import Array

#: The convex program is solved again where the game has at most this many policies times responses².
CONVEX_PROGRAM_SIZE = 20_000
#: Below this τ the convex program's solver error leaves the distance all but free.
CONVEX_PROGRAM_TAU = 1e-4
#: Rounding of a payoff, in units of the last place.
ROUNDING_UNITS = 16
#: Win probabilities differ by at most 1; what allows more allows everything.
LARGEST_TOLERANCE = 1.0


@dataclass(frozen=True)
class Check:
    """One figure and the limit it must keep."""

    name: str
    value: float
    limit: float
    meaning: str

    @property
    def holds(self) -> bool:
        """Whether the figure is a number within the limit."""
        return bool(self.value <= self.limit)


@dataclass(frozen=True, eq=False)
class Certificate:
    """What was checked of claimed equilibrium policies, and whether it holds.

    Attributes:
        tolerance: the exploitability allowed to each player.
        exploitability: (n,), by definition: best-response value minus payoff.
        value: (n,), payoffs u_i.
        distance_bound: for pairwise payoffs with every τ > 0, no policy is further than this from the one
            equilibrium, in total variation averaged over contexts: √(NashConv / 2τ). Else None.
        checks: the figures with their limits.
        not_checked: (what, why not).
    """

    tolerance: float
    exploitability: Array
    value: Array
    distance_bound: float | None
    checks: tuple[Check, ...]
    not_checked: tuple[tuple[str, str], ...]

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "holds": self.holds,
            "tolerance": self.tolerance,
            "exploitability": self.exploitability.tolist(),
            "nash_conv": float(self.exploitability.sum()),
            "value": self.value.tolist(),
            "distance_bound": self.distance_bound,
            "checks": [
                {"name": c.name, "value": c.value, "limit": c.limit, "holds": c.holds, "meaning": c.meaning}
                for c in self.checks
            ],
            "not_checked": [{"name": name, "reason": reason} for name, reason in self.not_checked],
        }


def verify(
    game: Game, policies: npt.ArrayLike, tolerance: float = 1e-10, *, convex_program: bool | None = None
) -> Certificate:
    """Check whether policies are a Nash equilibrium of a game.

    Args:
        game: a single game (no batch).
        policies: (A,), (X, A), (1, X, A) or (n, X, A), from anywhere.
        tolerance: the exploitability allowed to each player, in units of win probability.
        convex_program: also solve the convex program of a pairwise game and compare; None: where it is small.

    Returns:
        A certificate; `holds` is the verdict.

    Raises:
        ValueError: policies that are no policies of this game, a tolerance that is none, a batch of games.
    """
    if game.batch_shape:
        raise ValueError("verify takes one game at a time; found a batch")
    if not 0 <= tolerance <= LARGEST_TOLERANCE:
        raise ValueError(f"tolerance must lie in [0, {LARGEST_TOLERANCE:g}]; found {tolerance:g}")
    profile = game.profile(policies)
    if profile.ndim != 3:
        raise ValueError(f"policies must be one profile (n, X, A); found shape {profile.shape}")
    n, tau = game.players, np.array(game.player_tau)
    parts = [_figures(part, profile[:, block]) for block, _, part in game.blocks()]
    expected, payoff, gain, distances = np.concatenate(parts, axis=-1)
    gains, value = game.context_mean(gain), game.context_mean(payoff)

    checks = [
        Check(
            "exploitability",
            float(np.abs(gains).max()),
            tolerance,
            "the most that a player gains by a best response",
        ),
        Check("nash_conv", float(np.abs(gains).sum()), n * tolerance, "the sum of all players' gains"),
    ]
    skipped: list[tuple[str, str]] = []
    # Pinsker: a policy whose gain τ KL(π ‖ BR) is ε lies within √(ε/2τ) of its best response.
    if tau.any():
        held = tau > 0
        distance = game.context_mean(distances)
        limit = np.sqrt((tolerance + ROUNDING_UNITS * np.finfo(float).eps) / (2 * np.where(held, tau, 1.0)))
        worst = int(np.where(held, distance - limit, -np.inf).argmax())
        checks.append(
            Check(
                "fixed_point",
                float(distance[worst]),
                float(limit[worst]),
                "total variation from the best response",
            )
        )
    else:
        skipped.append(
            ("fixed_point", "tau is 0: best responses are not unique, exploitability is the measure")
        )
    total = game.oracle.total_value(n)
    if total is None:
        skipped.append(("value_identity", "the oracle's win probabilities have no constant sum"))
    else:
        found = float(game.context_mean(expected.sum(0)))
        checks.append(
            Check(
                "value_identity",
                abs(found - total),
                1e-10 * max(1, n),
                f"the expected win probabilities sum to {total:g}",
            )
        )
    bound = None
    if not game.is_pairwise:
        skipped.append(("distance_bound", "payoffs are not pairwise"))
        skipped.append(("convex_program", "payoffs are not pairwise"))
    elif not tau.all():
        skipped.append(("distance_bound", "tau is 0: the equilibrium need not be unique"))
        skipped.append(("convex_program", "tau is 0"))
    else:
        # NashConv ≥ Σ_i τ_i KL(π_i ‖ π*_i) wherever payoffs sum to a constant; Pinsker for the distance. NashConv
        # is a difference of payoffs, so that its rounding is allowed for: a bound must never be too small.
        size = 1 + float((tau[:, None] * np.abs(game.log_reference).max(axis=-1)).max())
        rounding = ROUNDING_UNITS * np.finfo(float).eps * n * size
        bound = float(np.sqrt((np.abs(gains).sum() + rounding) / (2 * tau.min())))
        slots = game.slots
        small = slots * game.contexts * game.actions**2 <= CONVEX_PROGRAM_SIZE
        if not (small if convex_program is None else convex_program):
            skipped.append(("convex_program", "the game is large"))
        elif convex_program is None and tau.min() < CONVEX_PROGRAM_TAU:
            skipped.append(
                ("convex_program", f"tau is below {CONVEX_PROGRAM_TAU:g}, where it would say little")
            )
        else:
            try:
                matrix = game.pairwise_matrix()
                assert matrix is not None
                checks.append(_convex_check(game, matrix, profile, tau, tolerance))
            except RuntimeError as error:
                skipped.append(("convex_program", str(error)))
    return Certificate(float(tolerance), gains, value, bound, tuple(checks), tuple(skipped))


def _figures(game: Game, profile: Array) -> Array:
    """Return what follows from the definitions for each player in each context.

    Args:
        game: a single game.
        profile: (p, X, A).

    Returns:
        (4, n, X): the expected win probability, the payoff, what a best response gains, and the total variation
        from it (0 at τ = 0).
    """
    policies, tau = np.array(game.everyone(profile)), game.player_tau
    log_reference = np.broadcast_to(game.log_reference, policies.shape)
    wins = game.oracle.win_probabilities(policies)
    expected = (policies * wins).sum(-1)
    payoff = expected - tau[:, None] * (xlogy(policies, policies) - policies * log_reference).sum(-1)
    best_value, distance = wins.max(-1), np.zeros_like(expected)
    given = (policies, wins, log_reference, tau)
    alike = all(bool((values == values[:1]).all()) for values in given)  # of millions one is asked
    for i in np.flatnonzero(tau > 0)[: 1 if alike else None]:
        logits = log_reference[i] + wins[i] / tau[i]
        best_value[i] = tau[i] * logsumexp(logits, axis=-1)
        distance[i] = np.abs(policies[i] - softmax(logits, axis=-1)).sum(-1) / 2
    if alike:
        best_value[:], distance[:] = best_value[0], distance[0]
    return np.stack([expected, payoff, best_value - payoff, distance])


def _convex_check(game: Game, matrix: Array, policies: Array, tau: Array, tolerance: float) -> Check:
    """Compare with the minimiser of the convex program, as far as both are sure to be near the equilibrium."""
    from mnpo.programs import convex_program

    slots = game.slots
    references = np.broadcast_to(game.log_reference, (slots, game.contexts, game.actions))
    worst, limit = 0.0, 0.0
    for x in range(game.contexts):
        log_policies, value = convex_program(matrix[x], references[:, x], tau[:slots])
        distance = float(np.abs(np.exp(log_policies) - policies[:, x]).sum(-1).max() / 2)
        # Ours is within √(NashConv/2τ) of the one equilibrium. The program's point is too, with the value that
        # its solver leaves, and its best response, which is what is compared, within that of the point.
        allowed = float(
            np.sqrt(game.players * tolerance / (2 * tau.min()))
            + 2 * np.sqrt((abs(value) + 1e-9) / (2 * tau.min()))
        )
        if x == 0 or distance - allowed > worst - limit:
            worst, limit = distance, allowed
    return Check(
        "convex_program", worst, limit, "total variation from the minimiser of NashConv, solved on its own"
    )
