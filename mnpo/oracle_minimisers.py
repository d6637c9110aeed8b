"""Where objectives of reward and preference models end on a table: exact minimisers of their expectation.

Of rewards all of them are one likelihood, that of choices from pools (Luce 1959): a pair is a pool of two, the top
of a group a pool, a ranking a pool after the other; a margin is an offset of the scores in a pool, a scale a share
more. So one Newton method serves them all. A preference model with room enough ends at the game itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve as solve_linear
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mnpo.logit import ConvergenceError
from mnpo.minimisers import NumpyOps
from mnpo.numerics import Array, as_array, as_weights, logsumexp, normalise_log
from mnpo.oracle_objectives import comparison
from mnpo.oracles import Pairwise

#: What is left of a choice's loss where Newton's steps are taken whole, and where one more ends at rounding.
NEAR, DONE = 1e-6, 1e-18
_STEPS = 200


class NumpyRankingOps(NumpyOps):
    """`mnpo.oracle_objectives.RankingOps` for numpy arrays."""

    @staticmethod
    def logsumexp(x: Any) -> Any:
        """log Σ e^x over the last axis, real or complex."""
        highest = np.real(x).max(axis=-1, keepdims=True)
        return (highest + np.log(np.exp(x - highest).sum(axis=-1, keepdims=True)))[..., 0]


@dataclass(frozen=True, eq=False)
class Pools:
    """Choices of one out of several, M kinds of them: Σ_m s_m [log Σ_{j∈m} e^{r_j + o_mj} − Σ_j c_mj r_j].

    Attributes:
        present: (M, A), which responses are in a pool.
        chances: (M, A), how often each is chosen; sums to 1.
        shares: (M,), s, how often the pool comes.
        offsets: (M, A), o, what is added to scores before they are compared.
    """

    present: npt.NDArray[np.bool_]
    chances: Array
    shares: Array
    offsets: Array

    @classmethod
    def of_pairs(
        cls,
        objective: str,
        wins: npt.ArrayLike,
        shares: npt.ArrayLike | None = None,
        strengths: npt.ArrayLike | None = None,
    ) -> Pools:
        """Return what an objective of pairs minimises in a pairwise game.

        Args:
            objective: one of `mnpo.oracle_objectives.COMPARISONS`.
            wins: P, (A, A).
            shares: (A, A), how often a pair is compared, symmetric; all alike unless given.
            strengths: (A, A), symmetric, m of each pair whoever wins; 1 unless given.

        Raises:
            ValueError: fewer than two responses, shares or strengths below 0 or of another shape.
        """
        matrix = Pairwise(wins).matrix[0]
        size = len(matrix)
        if size < 2:
            raise ValueError(f"wins must be of at least 2 responses; found {size}")
        first, second = np.triu_indices(size, 1)
        weights = _pair_numbers(shares, "shares", size)[first, second]
        if not weights.any():
            raise ValueError("shares must not all be 0: no pair is compared")
        m = _pair_numbers(strengths, "strengths", size)[first, second]
        kind = comparison(objective)
        offset, factor = m * kind.offset, m if kind.factor else 1.0
        present = np.eye(size, dtype=bool)[first] | np.eye(size, dtype=bool)[second]
        # Who wins has an offset of its own, so that each label is a pool.
        parts = []
        for winner, loser, chance in (
            (first, second, matrix[first, second]),
            (second, first, matrix[second, first]),
        ):
            offsets = offset[:, None] * np.eye(size)[loser]
            parts.append((present, np.eye(size)[winner], weights * factor * chance, offsets))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    @classmethod
    def of_rankings(
        cls, rankings: Sequence[Sequence[int]], weights: npt.ArrayLike | None = None, *, top: bool = False
    ) -> Pools:
        """Return what Plackett–Luce objectives minimise over annotators' rankings.

        Args:
            rankings: V strict ones, each the places of responses from the best to the worst; those that an
                annotator does not name were not seen.
            weights: (V,); equal unless given.
            top: whether the first alone counts, of its pool.

        Raises:
            ValueError: no rankings, one of fewer than two, or that names a response twice.
        """
        if not len(rankings) or not all(map(len, rankings)):
            raise ValueError("rankings must not be empty")
        shares = as_weights(weights, len(rankings), "weights")
        size = 1 + max(max(ranking) for ranking in rankings)
        rows: list[tuple[Array, Array, float]] = []
        for ranking, share in zip(rankings, shares, strict=True):
            if len(ranking) < 2 or len(set(ranking)) < len(ranking) or min(ranking) < 0:
                raise ValueError(f"a ranking must name at least 2 different responses; found {list(ranking)}")
            for k in range(1 if top else len(ranking) - 1):
                pool = np.zeros(size, dtype=bool)
                pool[list(ranking[k:])] = True
                rows.append((pool, np.eye(size)[ranking[k]], float(share)))
        present, chances, each = (np.array(column) for column in zip(*rows, strict=True))
        return cls(present, chances, each, np.zeros(chances.shape))

    def minimiser(self) -> Array:
        """Return r with mean 0, (A,), that minimises the loss, to rounding.

        Raises:
            ValueError: there is none: some responses always win against the others, or never meet them (Ford 1957).
        """
        self._check_bounded()
        with np.errstate(divide="ignore"):
            logs = np.where(self.present, self.offsets, -np.inf)
        total = self.shares.sum()
        scores = np.zeros(self.present.shape[1])
        loss = self._loss(logs, scores)
        for _ in range(_STEPS):
            picked = normalise_log(logs + scores)[1]
            weights = self.shares[:, None] * picked
            slope = weights.sum(0) - self.shares @ self.chances
            curvature = np.diag(weights.sum(0)) - weights.T @ picked
            # 1 is in the kernel: scores are known up to a constant.
            step = -solve_linear(curvature + total / len(curvature), slope, assume_a="pos")
            # Twice what is left of the loss, once Newton's method is near; there it needs no line search.
            decrement, length = float(-slope @ step), 1.0
            if decrement < NEAR * total:
                scores = scores + step
                if decrement < DONE * total:
                    return np.asarray(scores - scores.mean())
                loss = self._loss(logs, scores)
                continue
            while (there := self._loss(logs, scores + length * step)) > loss - length * decrement / 4:
                length /= 2
            scores, loss = scores + length * step, there
        raise ConvergenceError(
            f"the best rewards were not found: a slope of {np.abs(slope).max():.1g} is left"
        )

    def _loss(self, logs: Array, scores: Array) -> float:
        return float(self.shares @ (logsumexp(logs + scores) - self.chances @ scores))

    def _check_bounded(self) -> None:
        """Ford's condition: whatever way responses are parted, each side is chosen over the other sometimes."""
        size = self.present.shape[1]
        chosen = (self.shares[:, None] * self.chances > 0).astype(float)
        beaten = csr_array(chosen.T @ self.present.astype(float))
        parts, of = connected_components(beaten, connection="strong")
        if parts > 1:
            some = ", ".join(map(str, np.flatnonzero(of == of[0])[:8]))
            raise ValueError(
                f"no finite reward is best: of the {size} responses {some} and the others never meet, or one side "
                "always wins"
            )


def embedding_of(wins: npt.ArrayLike) -> tuple[Array, Array]:
    """Return the embedding whose model is the game itself: where pairwise and embedding objectives end.

    Args:
        wins: P, (A, A), strictly between 0 and 1.

    Returns:
        v of shape (A, 2k) with k = ⌊A/2⌋, and λ of shape (k,), with `embedding_logits(v_i, v_j, λ)` the logit of
        P_ij. L = Σ_l λ_l (b_l a_lᵀ − a_l b_lᵀ) by the eigenvectors of the Hermitian matrix iL.

    Raises:
        ValueError: a certain win, whose logit is infinite.
    """
    matrix = Pairwise(wins).matrix[0]
    if matrix.min() <= 0 or matrix.max() >= 1:
        raise ValueError("wins must lie strictly between 0 and 1: the logit of a certain win is infinite")
    logits = np.log(matrix) - np.log(matrix.T)
    values, vectors = np.linalg.eigh(1j * logits)
    half = len(matrix) // 2
    # Eigenvalues come in pairs ±λ; of +λ with vector x + iy, L (x + iy) = −iλ (x + iy).
    top = np.argsort(values)[::-1][:half]
    chosen = np.sqrt(2) * vectors[:, top]
    embedding = np.empty((len(matrix), 2 * half))
    embedding[:, 0::2], embedding[:, 1::2] = chosen.real, chosen.imag
    return embedding, values[top].clip(0)


def _pair_numbers(given: npt.ArrayLike | None, name: str, size: int) -> Array:
    if given is None:
        return np.ones((size, size))
    numbers = as_array(given, name)
    if numbers.shape != (size, size) or (numbers < 0).any() or not np.array_equal(numbers, numbers.T):
        raise ValueError(f"{name} must be a symmetric {size} × {size} matrix of numbers of at least 0")
    return numbers
