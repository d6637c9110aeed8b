"""What every preference oracle answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from mnpo.numerics import Array


class Oracle(ABC):
    """A preference oracle: P(y ≻ O), the probability that y is preferred to the whole group O.

    Axis names used throughout: `n` players, `m` = distinct opponents, `X` contexts, `A` responses, `...`
    leading batch axes (many games at once), which broadcast between oracle and policies.

    Win probabilities are affine in each single opponent's policy, the others held.
    """

    #: X, number of contexts.
    contexts: int
    #: A, number of responses.
    responses: int
    #: The number of players the oracle is made for; None if it serves any number.
    players: int | None = None
    #: Whether all players are served alike and the order of the opponents is immaterial.
    exchangeable: bool = True
    #: Leading axes of the oracle's own data; () for a single game.
    batch_shape: tuple[int, ...] = ()

    @abstractmethod
    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """Return the probability that each response wins against a group of opponents.

        Args:
            opponents: (..., m, X, A), the opponents' policies.
            counts: (m,), how many identical copies of each opponent are in the group; 1 each unless given.
            player: whose oracle is asked, where players have different ones.

        Returns:
            (..., X, A).
        """

    @abstractmethod
    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """Return the derivative of `against` with respect to each opponent's policy.

        Args:
            opponents: (m, X, A), no batch axes.
            counts: as in `against`; a copied opponent's derivative moves all its copies together.
            player: as in `against`.

        Returns:
            (m, X, A, A): [j, x, y, z] = ∂ P(y ≻ O) / ∂ π_j(z | x).
        """

    def win_probabilities(self, policies: Array) -> Array:
        """Return every player's win probabilities against all the others.

        Args:
            policies: (..., n, X, A).

        Returns:
            q of shape (..., n, X, A): q_i(y) = E_{y_j ∼ π_j, j ≠ i} P_i(y ≻ {y_j}).
        """
        players = policies.shape[-3]
        everyone = np.arange(players)
        parts = [self.against(policies[..., everyone != i, :, :], player=i) for i in range(players)]
        return np.stack(np.broadcast_arrays(*parts), axis=-3)

    def total_value(self, players: int) -> float | None:
        """Return Σ_i E_{y∼π_i} q_i(y), or None where it depends on the profile."""
        return None

    def pairwise_matrix(self) -> Array:
        """Return the two-player win matrix P(y ≻ y') of shape (..., X, A, A).

        Raises:
            ValueError: the oracle has no two-player form shared by all players.
        """
        if not self.exchangeable or self.players not in (None, 2):
            raise ValueError(f"{type(self).__name__} has no pairwise matrix that all players share")
        pure = np.broadcast_to(
            np.eye(self.responses)[:, None, None, :], (self.responses, 1, self.contexts, self.responses)
        )
        if self.batch_shape:
            pure = pure.reshape(self.responses, *(1,) * len(self.batch_shape), *pure.shape[1:])
        return np.moveaxis(self.against(pure), 0, -1)


def copies(opponents: Array, counts: Sequence[int] | None) -> tuple[int, ...]:
    """Return how many copies of each opponent there are, checked against the opponents' axis."""
    if counts is None:
        return (1,) * opponents.shape[-3]
    if len(counts) != opponents.shape[-3]:
        raise ValueError(f"counts must name all {opponents.shape[-3]} opponents; found {len(counts)}")
    return tuple(counts)
