"""How far policies are from an equilibrium: exploitability, NashConv and the duality gaps.

All are at least 0, and 0 exactly at a Nash equilibrium. A gap that is not defined for a game raises GapUndefined
with the reason; no other gap is put in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.logit import solve_logit
from mnpo.newton import Places
from mnpo.numerics import Array, kl_divergence, logsumexp, normalise_log, safe_log


class GapUndefined(ValueError):
    """The gap is not defined for this game."""


def exploitability(game: Game, policies: npt.ArrayLike) -> Array:
    """Return how much each player gains by a best response, max_{π'} u_i(π', π_{−i}) − u_i(π).

    MNPO v3 (2509.23102), Eq. 9, and its player-specific form for heterogeneous oracles; docs/concepts.md, (7).

    Args:
        game: the game.
        policies: (A,), (X, A), (p, X, A) or (..., p, X, A), with p = 1 or n.

    Returns:
        (..., n), in units of win probability, averaged over contexts.

    Raises:
        ValueError: policies that do not fit the game.
    """
    profile = game.profile(policies)
    gains = np.zeros(())
    for block, weight, part in game.blocks():
        played = profile[..., block, :]
        gains = gains + weight * exploitability_of(
            part, played, safe_log(played), part.win_probabilities(played)
        )
    return np.broadcast_to(gains, (*gains.shape[:-1], game.players))


def exploitability_of(game: Game, policies: Array, log_policies: Array, wins: Array) -> Array:
    """Return exploitability when the win probabilities are at hand, (..., p, X, A) -> (..., p).

    With τ > 0 it is the mean of `gains` over contexts.
    """
    tau = game.profile_tau
    if game.unregularised:
        return game.context_mean((policies * (wins.max(axis=-1, keepdims=True) - wins)).sum(axis=-1))
    if tau.all():
        return game.context_mean(gains(policies, log_policies, wins, game.log_reference, tau))
    return np.maximum(game.best_response(wins)[1] - game.payoffs(policies, wins), 0.0)


def gains(policies: Array, log_policies: Array, wins: Array, log_reference: Array, tau: Array) -> Array:
    """Return what a best response gains in each context, (..., A) -> (...): τ KL(π ‖ BR).

    The identity loses no digits where payoffs are close to each other; docs/concepts.md, (6) and (7).

    Args:
        policies, log_policies: π, (..., A).
        wins: q, (..., A).
        log_reference: (..., A).
        tau: (..., 1), above 0.
    """
    log_best, _ = normalise_log(log_reference + wins / tau)
    return tau[..., 0] * kl_divergence(policies, log_policies, log_best)


def nash_conv(game: Game, policies: npt.ArrayLike) -> Array:
    """Return Σ_i exploitability_i, (..., n, X, A) -> (...); docs/concepts.md, (7).

    With a pairwise oracle and two players who play alike it is the duality gap.

    Raises:
        ValueError: policies that do not fit the game.
    """
    return exploitability(game, policies).sum(axis=-1)


def dual_gap(game: Game, policy: npt.ArrayLike) -> Array:
    """Return the two-player duality gap of one policy, max_{π1} J(π1, π) − min_{π2} J(π, π2).

    J carries both KL terms (INPO, 2407.00617; MNPO v3, Eq. 4; docs/concepts.md, (8)). The gap equals twice the
    exploitability of the symmetric profile.

    Args:
        game: two identical players, or any number of them with a pairwise oracle.
        policy: (A,), (X, A) or (..., 1, X, A).

    Raises:
        GapUndefined: the game is not symmetric, or payoffs are not pairwise.
        ValueError: a policy that does not fit the game.
    """
    if not game.symmetric:
        raise GapUndefined("the two-player duality gap needs identical players")
    if not game.is_pairwise:
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
    """Return the worst-case gap of MNPO v1 (2509.23102), Eq. 10, of one policy; docs/concepts.md, (9).

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
        _worst_case_gaps(matrix[block], profile[0, block], part.log_reference[0], tau, game.players)
        for block, _, part in game.blocks()
    ]
    return float(game.context_mean(np.concatenate(gaps)))


@dataclass(frozen=True, eq=False)
class _Challenge:
    """The two-player game of a challenger, who maximises, and the worst other for it (`mnpo.newton.Payoffs`).

    Attributes:
        matrix: P, (C, A, A).
        beats: win rates against the policy, (C, A).
        share: 1/(n−1), the share of the policy among the challenger's opponents.
    """

    matrix: Array
    beats: Array
    share: float

    def at(self, contexts: Places) -> _Challenge:
        return _Challenge(self.matrix[contexts], self.beats[contexts], self.share)

    def wins(self, policies: Array) -> Array:
        challenger, worst = np.matmul(self.matrix, policies[..., None])[..., 0]
        return np.stack([self.share * self.beats + (1 - self.share) * worst, challenger])

    def jacobian(self, policies: Array) -> Array:
        contexts, size = self.beats.shape
        blocks = np.zeros((contexts, 2, size, 2, size))
        blocks[:, 0, :, 1] = (1 - self.share) * self.matrix
        blocks[:, 1, :, 0] = self.matrix
        return blocks


def _worst_case_gaps(matrix: Array, policy: Array, log_reference: Array, tau: float, players: int) -> Array:
    """Return the gap in each context, (C, A, A), (C, A), (C, A) -> (C,)."""
    share = 1.0 / (players - 1)
    beats = np.matmul(matrix, policy[..., None])[..., 0]
    if tau == 0:
        own = [_worst_case_program(*of, share) for of in zip(matrix, beats, strict=True)]
        return np.maximum(own - (1 - beats).min(axis=-1), 0.0)
    solution = solve_logit(
        _Challenge(matrix, beats, share),
        np.stack([log_reference, log_reference]),
        np.full(2, tau),
        unique=True,
    )
    log_challenger = solution.log_policies[0]
    challenger = np.exp(log_challenger)
    own_divergence = kl_divergence(policy, safe_log(policy), log_reference)
    divergence = kl_divergence(challenger, log_challenger, log_reference)

    def worst(beaten: Array) -> Array:
        """min_{π'} of −⟨π', beaten⟩ + τ KL(π' ‖ π_ref), one added for P's complement."""
        return 1.0 - tau * logsumexp(log_reference + beaten / tau)

    best = share * ((challenger * beats).sum(-1) + tau * own_divergence) - tau * divergence
    best += (1 - share) * worst(np.matmul(matrix, challenger[..., None])[..., 0])
    return np.maximum(best - (worst(beats) - tau * own_divergence), 0.0)


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
