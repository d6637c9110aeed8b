"""How win probabilities change with policies: ∂q/∂π of a profile, and ∂q/∂log π modulo constants."""

from __future__ import annotations

import numpy as np

from mnpo.games import Game
from mnpo.numerics import Array


def win_jacobian(game: Game, profile: Array) -> Array:
    """Return ∂q_i(y)/∂π_j(z) as [x, i, y, j, z], (p, X, A) -> (X, p, A, p, A).

    Args:
        game: a single game (no batch).
        profile: (p, X, A). With p = 1 the one policy moves for all players at once.
    """
    slots, contexts, size = profile.shape
    if slots == 1:
        return game.oracle.gradient(profile, counts=(game.players - 1,))[0][:, None, :, None, :]
    jacobian = np.zeros((contexts, slots, size, slots, size))
    for i in range(slots):
        others = [j for j in range(slots) if j != i]
        jacobian[:, i][:, :, others] = game.oracle.gradient(profile[others], player=i).transpose(1, 2, 0, 3)
    return jacobian


def log_win_jacobian(game: Game, profile: Array) -> Array:
    """Return ∂q/∂log π at a profile, with log π and q modulo constants, (p, X, A) -> (X, p·A, p·A).

    Args:
        game: a single game (no batch).
        profile: (p, X, A).
    """
    policies = profile.swapaxes(0, 1)
    return by_logarithms(win_jacobian(game, profile), policies, policies)


def by_logarithms(jacobian: Array, policies: Array, centre: Array) -> Array:
    """Turn ∂q/∂π into (I − 1 μᵀ) (∂q/∂π) (diag π − π πᵀ): the log-policies' scale and q's constants drop out.

    Args:
        jacobian: (X, p, A, p, A), as `win_jacobian` returns it.
        policies: π, (X, p, A).
        centre: μ, (X, p, A): the policies under which q is to have the mean 0.

    Returns:
        (X, p·A, p·A).
    """
    contexts, slots, size = policies.shape
    slope = jacobian - np.einsum("xiyjz,xjz->xiyj", jacobian, policies)[..., None]
    slope *= policies[:, None, None]
    slope -= np.einsum("xiy,xiyjz->xijz", centre, slope)[:, :, None]
    return slope.reshape(contexts, slots * size, slots * size)
