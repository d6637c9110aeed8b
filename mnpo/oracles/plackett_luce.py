"""Plackett–Luce group preferences in time linear in the number of players."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mnpo.numerics import Array, as_array, as_weights, check_memory, integer_power, products_of_others
from mnpo.oracles.base import Contexts, Oracle, copies

#: Spacing of the trapezoid rule. Its error is at most 2 e^{−2πθ/h}/cos θ for any θ < π/2 and any number of
#: players (the integrand is analytic in |Im t| < π/2, where every factor is bounded by one): 1e-15 at 0.25.
SPACING = 0.25
#: Utilities further apart than this are moved together: e^{-40} is below the rounding of a probability.
WIDEST_GAP = 40.0


class PlackettLuce(Oracle):
    """P(y ≻ O) = e^{r(y)} / (e^{r(y)} + Σ_j e^{r(y_j)}) (MNPO, 2509.23102; docs/concepts.md, (3)).

    With two players it is the Bradley–Terry model.

    Exact payoffs without a tensor in n: with u = e^t,
    P(y ≻ O) = ∫ e^{r(y)+t} e^{−e^{r(y)+t}} Π_j E_{y_j∼π_j}[e^{−e^{r(y_j)+t}}] dt, by the trapezoid rule with K
    nodes. A call costs O(n·A·K) for one annotator; K grows with the range of the utilities.

    Args:
        utilities: r, (A,), (X, A), (V, X, A) for V annotators, or (..., V, X, A) for a batch of games.
        weights: (V,), the annotators' weights; equal unless given.

    Raises:
        ValueError: not finite, or of the wrong shape; when first asked, tables that do not fit in memory.
    """

    # The responses' times until they are called are independent, and the first wins: see docs/concepts.md.
    contractive = True

    def __init__(self, utilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        given = as_array(utilities, "utilities")
        if given.ndim == 0:
            raise ValueError("utilities must be a list of numbers, one for each response")
        given = given.reshape((1,) * (3 - given.ndim) + given.shape) if given.ndim < 3 else given
        self.utilities: Array = given
        *batch, annotators, self.contexts, self.responses = given.shape
        self.batch_shape = tuple(batch)
        self.weights = as_weights(weights, annotators, "weights")

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`."""
        survival = self._survival(opponents)
        group: Array | None = None
        for j, count in enumerate(copies(opponents, counts)):
            factor = integer_power(survival[..., j, :], count)
            group = factor if group is None else group * factor
        assert group is not None
        return self._win(group[..., None, :])[..., 0, :, :]

    def win_probabilities(self, policies: Array) -> Array:
        """See `Oracle.win_probabilities`. Linear in n: prefix times suffix products."""
        return self._win(products_of_others(self._survival(policies), axis=-2))

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`."""
        survives, called = self._tables
        survival = self._survival(opponents)
        numbers = copies(opponents, counts)
        powers = np.stack([integer_power(survival[..., j, :], c) for j, c in enumerate(numbers)], axis=-2)
        rest = products_of_others(powers, axis=-2)
        out = np.empty((len(numbers), self.contexts, self.responses, self.responses))
        for j, count in enumerate(numbers):
            others = count * integer_power(survival[..., j, :], count - 1) * rest[..., j, :]
            others = others * self.weights[:, None, None]
            # (V, X, A, K) @ (V, X, K, A), summed over annotators.
            weighted = called.swapaxes(-1, -2) * others[..., None, :]
            out[j] = np.matmul(weighted, survives.swapaxes(-1, -2)).sum(axis=0)
        return out

    def at(self, contexts: Contexts) -> PlackettLuce:
        """See `Oracle.at`."""
        part = copy(self)
        part.utilities = self.utilities[..., contexts, :]
        part.contexts = part.utilities.shape[-2]
        if "_tables" in vars(self):
            survives, called = self._tables
            vars(part)["_tables"] = survives[..., contexts, :, :], called[..., contexts, :, :]
        return part

    def total_value(self, players: int) -> float:
        """Return 1: somebody wins."""
        return 1.0

    @cached_property
    def _tables(self) -> tuple[Array, Array]:
        """Return (..., V, X, A, K) and (..., V, X, K, A), made when first asked: `at` may come before, in parts.

        A node's time passes for y with rate e^r: the first is the chance that y has not yet been called, the second
        the chance that it is called within the node's cell. The first call wins the group.
        """
        utility = _without_wide_gaps(self.utilities)
        nodes = np.arange(-38.0, -utility.min() + 4.0 + SPACING, SPACING)
        check_memory((4, *utility.shape, nodes.size), "the table of Plackett–Luce survival probabilities")
        # Beyond e^50 calls per unit of time nobody survives; the cap only keeps infinities out.
        rate = np.exp(np.minimum(utility[..., :, None] + nodes, 50.0))
        survives = np.exp(-rate)
        return survives, np.ascontiguousarray((SPACING * rate * survives).swapaxes(-1, -2))

    def _survival(self, policies: Array) -> Array:
        """(..., m, X, A) -> (..., V, X, m, K): the chance that a policy's response is not yet called."""
        return np.matmul(policies.swapaxes(-2, -3)[..., None, :, :, :], self._tables[0])

    def _win(self, group: Array) -> Array:
        """(..., V, X, n, K) -> (..., n, X, A): integrate against each response's calls, average annotators."""
        wins = np.matmul(group, self._tables[1])
        if self.weights.size == 1:
            return wins[..., 0, :, :, :].swapaxes(-2, -3)
        return np.einsum("v,...vxna->...nxa", self.weights, wins)


def _without_wide_gaps(utilities: Array) -> Array:
    """Shift each annotator's best utility to 0 and shrink gaps wider than `WIDEST_GAP` to that width."""
    order = np.argsort(utilities, axis=-1)
    ascending = np.take_along_axis(utilities, order, axis=-1)
    gaps = np.minimum(np.diff(ascending, axis=-1), WIDEST_GAP)
    from_top = np.zeros_like(utilities)
    from_top[..., :-1] = -np.cumsum(gaps[..., ::-1], axis=-1)[..., ::-1]
    result = np.empty_like(utilities)
    np.put_along_axis(result, order, from_top, axis=-1)
    return result
