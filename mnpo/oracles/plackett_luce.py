"""Plackett–Luce group preferences in time linear in the number of players."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from mnpo.numerics import Array, as_array, as_weights, check_memory, integer_power, products_of_others
from mnpo.oracles.base import Contexts, Oracle, copies, laid_side_by_side

#: Spacing of the trapezoid rule in t, and where it may end: x = e^{t − e^{−t − shift}} is e^{−38} on the left and
#: e^{3.75} over the smallest rate on the right, both beyond rounding.
SPACING, LEFT, RIGHT = 0.25, 3.5, 3.75
#: Utilities further apart than this are moved together: e^{-40} is below the rounding of a probability.
WIDEST_GAP = 40.0
#: Larger ones are refused: their differences must be numbers.
LARGEST_UTILITY = 1e100


class PlackettLuce(Oracle):
    """P(y ≻ O) = e^{r(y)} / (e^{r(y)} + Σ_j e^{r(y_j)}) (MNPO, 2509.23102; docs/concepts.md, (3)).

    With two players it is the Bradley–Terry model.

    Exact payoffs without a tensor in n: each response is called after an exponential time of rate e^r, and the
    first one wins, P(y ≻ O) = ∫ e^{r(y)} e^{−e^{r(y)} x} Π_j E_{y_j∼π_j}[e^{−e^{r(y_j)} x}] dx over x > 0, by a
    quadrature with K nodes (`_nodes`). A call costs O(n·A·K) for one annotator; K grows with the utilities' range.

    Args:
        utilities: r, (A,), (X, A), (V, X, A) for V annotators, or (..., V, X, A) for a batch of games.
        weights: (V,), the annotators' weights; equal unless given.

    Raises:
        ValueError: not finite, or of the wrong shape; when first asked, tables that do not fit in memory.
    """

    # The responses' times until they are called are independent, and the first wins: see `mnpo.descent`.
    contractive = True

    def __init__(self, utilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        given = as_array(utilities, "utilities")
        if given.ndim == 0:
            raise ValueError("utilities must be a list of numbers, one for each response")
        if np.abs(given).max() > LARGEST_UTILITY:
            raise ValueError(
                f"utilities must be at most {LARGEST_UTILITY:g} in size; found {np.abs(given).max():g}"
            )
        given = given.reshape((1,) * (3 - given.ndim) + given.shape) if given.ndim < 3 else given
        self.utilities: Array = given
        *batch, annotators, self.contexts, self.responses = given.shape
        self.batch_shape = tuple(batch)
        self.weights = as_weights(weights, annotators, "weights")
        self._tables: dict[int, tuple[Array, Array]] = {}

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`."""
        numbers = copies(opponents, counts)
        tables = self.tables_for(sum(numbers) + 1)
        survival = _survival(opponents, tables)
        group: Array | None = None
        for j, count in enumerate(numbers):
            factor = integer_power(survival[..., j, :], count)
            group = factor if group is None else group * factor
        assert group is not None
        return self._win(group[..., None, :], tables)[..., 0, :, :]

    def win_probabilities(self, policies: Array) -> Array:
        """See `Oracle.win_probabilities`. Linear in n: prefix times suffix products."""
        tables = self.tables_for(policies.shape[-3])
        return self._win(products_of_others(_survival(policies, tables), axis=-2), tables)

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`."""
        numbers = copies(opponents, counts)
        survives, called = tables = self.tables_for(sum(numbers) + 1)
        survival = _survival(opponents, tables)
        powers = np.stack([integer_power(survival[..., j, :], c) for j, c in enumerate(numbers)], axis=-2)
        rest = products_of_others(powers, axis=-2)
        out = np.empty((len(numbers), self.contexts, self.responses, self.responses))
        for j, count in enumerate(numbers):
            others = count * integer_power(survival[..., j, :], count - 1) * rest[..., j, :]
            others = others * self.weights[:, None, None]
            # (V, X, A, K) @ (V, X, K, A), summed over annotators.
            out[j] = np.matmul(called * others[..., None, :], survives.swapaxes(-1, -2)).sum(axis=0)
        return out

    def at(self, contexts: Contexts) -> PlackettLuce:
        """See `Oracle.at`."""
        part = copy(self)
        part.utilities = self.utilities[..., contexts, :]
        part.contexts = part.utilities.shape[-2]
        part._tables = {
            grade: (survives[..., contexts, :, :], called[..., contexts, :, :])
            for grade, (survives, called) in self._tables.items()
        }
        return part

    def among(self, places: npt.NDArray[np.intp]) -> PlackettLuce:
        """See `Oracle.among`."""
        places = np.broadcast_to(places, (*self.utilities.shape[:-2], *places.shape))
        return PlackettLuce(np.take_along_axis(self.utilities, places, axis=-1), self.weights)

    def side_by_side(self, batch: tuple[int, ...]) -> PlackettLuce:
        """See `Oracle.side_by_side`."""
        part = copy(self)
        part.utilities = laid_side_by_side(self.utilities, batch, len(self.batch_shape), -2)
        part.contexts, part.batch_shape, part._tables = part.utilities.shape[-2], (), {}
        return part

    def pairwise_matrix(self) -> Array:
        """Return Σ_v w_v σ(r_v(y) − r_v(y')), the mixture of Bradley–Terry models."""
        matrix: Array | float = 0.0
        for v, weight in enumerate(self.weights):
            utility = self.utilities[..., v, :, :]
            matrix = matrix + weight * expit(utility[..., :, None] - utility[..., None, :])
        return np.asarray(matrix)

    @property
    def breadth(self) -> int:
        """See `Oracle.breadth`: a table of all annotators."""
        utilities = self.utilities
        widest = float((utilities.max(axis=-1) - utilities.min(axis=-1)).max())
        nodes = (2 * LEFT + RIGHT + min(widest, WIDEST_GAP * self.responses)) / SPACING
        return int(utilities.shape[-3] * self.responses * nodes)

    def total_value(self, players: int) -> float:
        """Return 1: somebody wins."""
        return 1.0

    def tables_for(self, players: int) -> tuple[Array, Array]:
        """Return two tables (..., V, X, A, K), made when first asked: `at` may come before, in parts.

        The first is the chance that y has not yet been called at a node, the second the chance that it is called
        within the node's cell. They serve groups of up to 4, 16, 64, .. responses.
        """
        grade = max(1, math.ceil(math.log2(players) / 2))
        if grade not in self._tables:
            utility = _without_wide_gaps(self.utilities)
            log_nodes, cells = _nodes(float(-utility.min()), 4**grade)
            check_memory((4, *utility.shape, cells.size), "the table of Plackett–Luce survival probabilities")
            # Each array is as large as the tables: they are worked on in place.
            called = utility[..., :, None] + log_nodes
            # Beyond e^50 calls per unit of time nobody survives; the cap only keeps infinities out.
            np.exp(np.minimum(called, 50.0, out=called), out=called)
            survives = np.negative(called)
            np.exp(survives, out=survives)
            called *= cells
            called *= survives
            self._tables[grade] = survives, called
        return self._tables[grade]

    def _win(self, group: Array, tables: tuple[Array, Array]) -> Array:
        """(..., V, X, n, K) -> (..., n, X, A): integrate against each response's calls, average annotators."""
        wins = np.matmul(group, tables[1].swapaxes(-1, -2))
        if self.weights.size == 1:
            return wins[..., 0, :, :, :].swapaxes(-2, -3)
        return np.einsum("v,...vxna->...nxa", self.weights, wins)


def _survival(policies: Array, tables: tuple[Array, Array]) -> Array:
    """(..., m, X, A) -> (..., V, X, m, K): the chance that a policy's response is not yet called."""
    return np.matmul(policies.swapaxes(-2, -3)[..., None, :, :, :], tables[0])


def _nodes(span: float, players: int) -> tuple[Array, Array]:
    """Return nodes log x, (K,), and weights over x, (K,), for ∫ f dx over x > 0.

    Payoffs are convex combinations of ∫ e^{r(y)} e^{−λx} dx = e^{r(y)}/λ, where λ, the sum of the group's rates,
    lies between e^{−span} and n. So the rule has to be right for these, relative to 1/λ, and it is to 1e-15. It is
    the trapezoid rule in t after x = e^{t − e^{−t − shift}} (Takahasi & Mori 1974), whose tails vanish doubly
    exponentially on both sides. At times that count, from 1/n on, the map is e^t up to a small turn. There
    |Im t| < π/2 would keep every factor below one, which makes the error about e^{−π²/spacing}.

    Args:
        span: how far utilities lie apart; the largest is 0.
        players: the largest group, n.
    """
    shift = 1.0 + math.log(players)
    t = np.arange(-shift - LEFT, span + RIGHT + SPACING, SPACING)
    pull = np.exp(-t - shift)
    return t - pull, SPACING * (1.0 + pull)


def _without_wide_gaps(utilities: Array) -> Array:
    """Shift each annotator's best utility to 0 and shrink gaps wider than `WIDEST_GAP` to that width."""
    shifted = utilities - utilities.max(axis=-1, keepdims=True)
    if shifted.min() >= -WIDEST_GAP:
        return np.asarray(shifted)
    order = np.argsort(utilities, axis=-1)
    ascending = np.take_along_axis(utilities, order, axis=-1)
    gaps = np.minimum(np.diff(ascending, axis=-1), WIDEST_GAP)
    from_top = np.zeros_like(utilities)
    from_top[..., :-1] = -np.cumsum(gaps[..., ::-1], axis=-1)[..., ::-1]
    result = np.empty_like(utilities)
    np.put_along_axis(result, order, from_top, axis=-1)
    return result
