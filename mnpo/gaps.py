"""How far policies are from an equilibrium: exploitability, NashConv and the duality gaps.

All are at least 0, and 0 exactly at a Nash equilibrium. Where one is not defined for a game, asking for it
raises GapUndefined with the reason; no other is put in its place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.logit import solve_logit
from mnpo.numerics import Array, kl_divergence, logsumexp, normalise_log, safe_log


class GapUndefined(ValueError):
    """The gap is not defined for this game."""


def exploitability(game: Game, policies: npt.ArrayLike) -> Array:
    """Return how much each player gains by a best response, max_{π'} u_i(π', π_{−i}) − u_i(π).

    MNPO v3 (2509.23102), Eq. 9, and its player-specific form for heterogeneous oracles.

    Args:
        game: the game.
        policies: (A,), (X, A), (p, X, A) or (..., p, X, A), with p = 1 or n.

    Returns:
        (..., n), in units of win probability, averaged over contexts.

    Raises:
        ValueError: policies that do not fit the game.
    """
    profile = game.profile(policies)
    gains = exploitability_of(game, profile, safe_log(profile), game.win_probabilities(profile))
    return np.broadcast_to(gains, (*gains.shape[:-1], game.players))


def exploitability_of(game: Game, policies: Array, log_policies: Array, wins: Array) -> Array:
    """Return exploitability when the win probabilities are at hand, (..., p, X, A) -> (..., p).

    With τ > 0 it is τ KL(π ‖ BR): the identity loses no digits where payoffs are close to each other.
    """
    tau = game.profile_tau
    if game.unregularised:
        return game.context_mean((policies * (wins.max(axis=-1, keepdims=True) - wins)).sum(axis=-1))
    if tau.all():
        log_best, _ = normalise_log(game.log_reference + wins / tau)
        return game.context_mean(tau[..., 0] * kl_divergence(policies, log_policies, log_best))
    return np.maximum(game.best_response(wins)[1] - game.payoffs(policies, wins), 0.0)


def nash_conv(game: Game, policies: npt.ArrayLike) -> Array:
    """Return Σ_i exploitability_i, (..., n, X, A) -> (...). Two symmetric players: the duality gap.

    Raises:
        ValueError: policies that do not fit the game.
    """
    return exploitability(game, policies).sum(axis=-1)


def dual_gap(game: Game, policy: npt.ArrayLike) -> Array:
    """Return the two-player duality gap of one policy, max_{π1} J(π1, π) − min_{π2} J(π, π2).

    J carries both KL terms (INPO, 2407.00617). It equals twice the exploitability of the symmetric profile.

    Args:
        game: two identical players, or any number of them with a pairwise oracle.
        policy: (A,), (X, A) or (..., 1, X, A).

    Raises:
        GapUndefined: the game is not symmetric, or payoffs are not pairwise.
        ValueError: a policy that does not fit the game.
    """
    if not game.symmetric:
        raise GapUndefined("the two-player duality gap needs identical players")
    if game.pairwise_matrix() is None:
        raise GapUndefined(
            f"the two-player duality gap is not defined for {game.players} players of this oracle: payoffs are "
            "not pairwise with P + Pᵀ = 1 (those of a group oracle are for two players only)"
        )
    profile = game.profile(policy)
    if profile.shape[-3] != 1:
        if not (profile == profile[..., :1, :, :]).all():
            raise GapUndefined("the two-player duality gap is of one policy; found players that differ")
        profile = profile[..., :1, :, :]
    return 2.0 * exploitability(game, profile)[..., 0]


def worst_case_gap(game: Game, policy: npt.ArrayLike) -> float:
    """Return the worst-case gap of MNPO v1 (2509.23102), Eq. 10, of one policy.

    With J2 the two-player payoff that carries both KL terms, and J̃(π_j; O) = mean_{k∈O} J2(π_j, π_k):
    max_{π_j} min_{others} J̃(π_j; {π} ∪ others) − min_O J̃(π; O), which is
    max_{π_j} [J2(π_j, π)/(n−1) + (n−2)/(n−1) · min_{π'} J2(π_j, π')] − min_{π'} J2(π, π').
    The maximum is concave; its maximiser and the minimising π' are the logit equilibrium of a two-player
    game, which is solved as any other. For n = 2 it is `dual_gap`.

    Args:
        game: identical players with pairwise payoffs and τ > 0, a single game (no batch).
        policy: (A,), (X, A) or (1, X, A).

    Raises:
        GapUndefined: other games.
        ValueError: a policy that does not fit the game.
    """
    matrix = game.pairwise_matrix()
    if matrix is None or not game.symmetric:
        raise GapUndefined("the worst-case gap needs a pairwise oracle and identical players")
    if game.batch_shape:
        raise GapUndefined("the worst-case gap is computed for one game at a time")
    profile = game.profile(policy)
    if profile.shape[-3] != 1:
        raise GapUndefined("the worst-case gap is of one policy; found a profile of several")
    tau = float(game.profile_tau.flat[0])
    gaps = [
        _worst_case_gap(matrix[x], profile[0, x], game.log_reference[0, x], tau, game.players)
        for x in range(game.contexts)
    ]
    return float(game.context_mean(np.asarray(gaps)))


def _worst_case_gap(matrix: Array, policy: Array, log_reference: Array, tau: float, players: int) -> float:
    share = 1.0 / (players - 1)
    beats = matrix @ policy
    if tau == 0:
        own, challenger_value = _worst_case_program(matrix, beats, share), float((1 - beats).min())
        return max(own - challenger_value, 0.0)

    def wins(profile: Array) -> Array:
        challenger, worst = profile
        return np.stack([share * beats + (1 - share) * (matrix @ worst), matrix @ challenger])

    def gradient(profile: Array) -> Array:
        size = policy.size
        blocks = np.zeros((2, size, 2, size))
        blocks[0, :, 1] = (1 - share) * matrix
        blocks[1, :, 0] = matrix
        return blocks

    solution = solve_logit(
        wins, gradient, np.stack([log_reference, log_reference]), np.full(2, tau), unique=True
    )
    log_challenger = solution.log_policies[0]
    challenger = np.exp(log_challenger)
    own_divergence = float(kl_divergence(policy, safe_log(policy), log_reference))
    divergence = float(kl_divergence(challenger, log_challenger, log_reference))

    def worst(beaten: Array) -> float:
        """min_{π'} of −⟨π', beaten⟩ + τ KL(π' ‖ π_ref), one added for P's complement."""
        return 1.0 - tau * float(logsumexp(log_reference + beaten / tau))

    best = share * (float(challenger @ beats) + tau * own_divergence) - tau * divergence
    best += (1 - share) * worst(matrix @ challenger)
    return max(best - (worst(beats) - tau * own_divergence), 0.0)


def _worst_case_program(matrix: Array, beats: Array, share: float) -> float:
    """max_a share·⟨a, beats⟩ + (1 − share)·min_y (aᵀP)_y at τ = 0, a linear program."""
    from scipy.optimize import linprog

    size = beats.size
    # Variables: the challenger's policy and its guaranteed win rate v; maximise.
    result = linprog(
        np.append(-share * beats, -(1 - share)),
        A_ub=np.hstack([-matrix.T, np.ones((size, 1))]),
        b_ub=np.zeros(size),
        A_eq=np.append(np.ones(size), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * size + [(None, None)],
        method="highs",
    )
    if result.fun is None:
        raise RuntimeError(f"the linear program failed: {result.message}")
    return -float(result.fun)
