"""The pairwise oracle: a group is beaten as often as its members are on average."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from mnpo.numerics import ROUNDING, Array, as_array, mean_of_others
from mnpo.oracles.base import Contexts, Oracle, copies, laid_side_by_side


class Pairwise(Oracle):
    """P(y ≻ O) = mean over y_j ∈ O of P(y ≻ y_j) (MNPO, 2509.23102; docs/concepts.md, (2)).

    With two players it is the game of NLHF (2312.00886). With more, the symmetric game, its equilibrium and its
    updates from a common start are still those of two players.

    Args:
        matrix: (A, A), (X, A, A) or, for a batch of games, (..., X, A, A); [y, z] = P(y ≻ z) in [0, 1].

    Raises:
        ValueError: not square, not finite, an entry outside [0, 1], or P + Pᵀ further from 1 than 1e-6
            (smaller differences are rounding, and are split evenly).
    """

    # ⟨d, P d⟩ = 0 for every d that sums to 0, since P + Pᵀ = 1.
    contractive = True

    def __init__(self, matrix: npt.ArrayLike) -> None:
        wins = as_array(matrix, "matrix")
        if wins.ndim < 2 or wins.shape[-1] != wins.shape[-2]:
            raise ValueError(f"matrix must be square in its last two axes; found shape {wins.shape}")
        if wins.ndim == 2:
            wins = wins[None]
        if wins.min() < 0 or wins.max() > 1:
            where = tuple(int(i) for i in np.argwhere((wins < 0) | (wins > 1))[0])
            raise ValueError(f"matrix must lie in [0, 1]; found {wins[where]:g} at index {list(where)}")
        excess = wins + wins.swapaxes(-1, -2) - 1
        if np.abs(excess).max() > ROUNDING:
            where = tuple(int(i) for i in np.argwhere(np.abs(excess) > ROUNDING)[0])
            row, column = where[-2:]
            raise ValueError(
                f"matrix must satisfy P + Pᵀ = 1; found P[{row}, {column}] + P[{column}, {row}] = "
                f"{1 + excess[where]:.9g}"
            )
        self.matrix: Array = wins - excess / 2
        self._columns = np.ascontiguousarray(self.matrix.swapaxes(-1, -2))
        self.contexts, self.responses = wins.shape[-3], wins.shape[-1]
        self.batch_shape = wins.shape[:-3]

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`. One matrix-vector product: the group enters only by its mean policy."""
        if opponents.shape[-3] == 1:
            return self._wins(opponents)[..., 0, :, :]
        weights = np.asarray(copies(opponents, counts), dtype=np.float64)
        mean = np.einsum("j,...jxa->...xa", weights / weights.sum(), opponents)
        return self._wins(mean[..., None, :, :])[..., 0, :, :]

    def win_probabilities(self, policies: Array) -> Array:
        """See `Oracle.win_probabilities`. One matrix-vector product per player."""
        return self._wins(mean_of_others(policies))

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`."""
        weights = np.asarray(copies(opponents, counts), dtype=np.float64)
        return (weights / weights.sum())[:, None, None, None] * self.matrix

    def at(self, contexts: Contexts) -> Pairwise:
        """See `Oracle.at`."""
        part = copy(self)
        part.matrix, part._columns = self.matrix[..., contexts, :, :], self._columns[..., contexts, :, :]
        part.contexts = part.matrix.shape[-3]
        return part

    def among(self, places: npt.NDArray[np.intp]) -> Pairwise:
        """See `Oracle.among`."""
        context = np.arange(self.contexts)[:, None, None]
        return Pairwise(self.matrix[..., context, places[:, :, None], places[:, None, :]])

    def side_by_side(self, batch: tuple[int, ...]) -> Pairwise:
        """See `Oracle.side_by_side`."""
        part = copy(self)
        part.matrix = laid_side_by_side(self.matrix, batch, len(self.batch_shape), -3)
        part._columns = laid_side_by_side(self._columns, batch, len(self.batch_shape), -3)
        part.contexts, part.batch_shape = part.matrix.shape[0], ()
        return part

    def total_value(self, players: int) -> float:
        """Return n/2."""
        return players / 2

    def pairwise_matrix(self) -> Array:
        """Return the matrix itself."""
        return self.matrix

    def _wins(self, policies: Array) -> Array:
        if self.contexts == 1:
            return np.matmul(policies[..., 0, :], self._columns[..., 0, :, :])[..., None, :]
        return np.matmul(policies.swapaxes(-2, -3), self._columns).swapaxes(-2, -3)
