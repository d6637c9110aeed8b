"""Annotators who rank: exact group payoffs in time linear in the number of responses and annotators."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mnpo.numerics import Array, as_array, as_weights, check_memory, integer_power, products_of_others
from mnpo.oracles.base import Contexts, Oracle, copies, laid_side_by_side

#: Annotators are taken in blocks of about this many numbers, so that a block stays in the processor's cache.
BLOCK = 1 << 17
#: Largest error allowed to the quadrature when it uses fewer nodes than make it exact.
QUADRATURE_ERROR = 1e-16
#: A product of factors is divided by one of them only above this; below, prefix and suffix products are taken.
SAFE_DIVISOR = 1e-100


class Rankings(Oracle):
    """Annotators with a strict or weak order each, who pick the best-ranked response (docs/concepts.md, (4)).

    Responses in one tie class share evenly, as identical copies do. With b_j(y) the mass that π_j puts
    strictly below y and e_j(y) the mass in y's own class,
    P(y ≻ O) = Σ_v w_v ∫_0^1 Π_j (b_j(y) + s·e_j(y)) ds. The integrand is a polynomial of degree n − 1, so
    Gauss–Legendre with ⌈n/2⌉ nodes is exact; fewer are used where a bound on the remainder allows it.
    A call costs O(n·V·A) per node: one cumulative sum per annotator and opponent.

    Args:
        levels: (V, A), (V, X, A) or (..., V, X, A), each annotator's class of each response: 0 the best,
            equal numbers tied. Any integers will do; only their order counts.
        weights: (V,), the annotators' weights; equal unless given.

    Raises:
        ValueError: levels not integers or of the wrong shape; weights negative or of the wrong length.
    """

    # As if each response drew a place within its class, and the highest won: see `mnpo.descent`.
    contractive = True

    def __init__(self, levels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        given = as_array(levels, "levels")
        if given.ndim < 2 or not np.array_equal(given, np.rint(given)):
            raise ValueError(
                f"levels must be integers of shape (V, A) or (V, X, A); found shape {given.shape}"
            )
        if given.ndim == 2:
            given = given[:, None, :]
        *batch, annotators, self.contexts, self.responses = given.shape
        self.batch_shape = tuple(batch)
        self.weights = as_weights(weights, annotators, "weights")
        self._order = np.argsort(-given, axis=-1, kind="stable")
        ascending = np.take_along_axis(-given, self._order, axis=-1)
        starts_class = np.ones(given.shape, dtype=bool)
        starts_class[..., 1:] = np.diff(ascending, axis=-1) > 0
        ends_class = np.roll(starts_class, -1, axis=-1)
        place = np.arange(self.responses)
        first = np.maximum.accumulate(np.where(starts_class, place, 0), axis=-1)
        last = np.minimum.accumulate(np.where(ends_class, place, self.responses)[..., ::-1], axis=-1)[
            ..., ::-1
        ]
        self.strict = bool(starts_class.all())
        #: How many responses an annotator places strictly below y, and in or below y's class.
        self._below = np.empty(given.shape, dtype=np.intp)
        self._within = np.empty(given.shape, dtype=np.intp)
        np.put_along_axis(self._below, self._order, first, axis=-1)
        np.put_along_axis(self._within, self._order, last + 1, axis=-1)

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`."""
        numbers = copies(opponents, counts)
        total: Array | float = 0.0
        for block, below, tied in self._blocks(opponents):
            picked: Array | float = 0.0
            for s, weight in _nodes(below, tied, numbers):
                factors = below + s * tied
                term: Array | float = weight
                for j, count in enumerate(numbers):
                    term = term * integer_power(factors[j], count)
                picked = picked + term
            total = total + self._average(np.asarray(picked), block)
        return np.asarray(total)

    def win_probabilities(self, policies: Array) -> Array:
        """See `Oracle.win_probabilities`. Linear in n at each node."""
        total: Array | float = 0.0
        numbers = (1,) * policies.shape[-3]
        for block, below, tied in self._blocks(policies):
            picked = np.zeros(below.shape)
            factors = np.empty(below.shape)
            divide = None
            for s, weight in _nodes(below, tied, numbers, one_left_out=True):
                np.add(below, np.multiply(tied, s, out=None if self.strict else factors), out=factors)
                if divide is None:  # nodes ascend, and factors grow with s: the first decides for all
                    divide = factors.min() > SAFE_DIVISOR
                if divide:
                    picked += np.divide(weight * np.multiply.reduce(factors, axis=0), factors, out=factors)
                else:
                    picked += weight * products_of_others(factors, axis=0)
            total = total + self._average(picked, block)
        return np.moveaxis(np.asarray(total), 0, -3)

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`."""
        numbers = copies(opponents, counts)
        out = np.zeros((len(numbers), self.contexts, self.responses, self.responses))
        for block, below, tied in self._blocks(opponents):
            # ∂/∂π_j(z): weight `strictly` if the annotator has z below y, `sharing` if z is in y's class.
            strictly = np.zeros_like(below)
            sharing = np.zeros_like(below)
            for s, weight in _rule_on_unit_interval(_exact_number(sum(numbers))):
                factors = below + s * tied
                powers = np.stack([integer_power(factors[j], c) for j, c in enumerate(numbers)])
                rest = products_of_others(powers, axis=0)
                for j, count in enumerate(numbers):
                    one = weight * count * integer_power(factors[j], count - 1) * rest[j]
                    strictly[j] += one
                    sharing[j] += s * one
            strictly *= self.weights[block, None, None]
            sharing *= self.weights[block, None, None]
            place = self._below[block]
            for y in range(self.responses):
                here = place[:, :, y, None]
                out[:, :, y, :] += np.einsum("jvx,vxz->jxz", strictly[..., y], (place < here).astype(float))
                if self.strict:
                    out[:, :, y, y] += sharing[..., y].sum(axis=1)
                else:
                    same = (place == here).astype(float)
                    out[:, :, y, :] += np.einsum("jvx,vxz->jxz", sharing[..., y], same)
        return out

    def at(self, contexts: Contexts) -> Rankings:
        """See `Oracle.at`."""
        part = copy(self)
        part._order, part._below, part._within = (
            places[..., contexts, :] for places in (self._order, self._below, self._within)
        )
        part.contexts = part._order.shape[-2]
        part.strict = bool((part._within - part._below == 1).all())
        return part

    def among(self, places: npt.NDArray[np.intp]) -> Rankings:
        """See `Oracle.among`: equal responses are tied, and share as copies do."""
        places = np.broadcast_to(places, (*self._below.shape[:-2], *places.shape))
        return Rankings(-np.take_along_axis(self._below, places, axis=-1), self.weights)

    def side_by_side(self, batch: tuple[int, ...]) -> Rankings:
        """See `Oracle.side_by_side`."""
        part = copy(self)
        part._order, part._below, part._within = (
            laid_side_by_side(places, batch, len(self.batch_shape), -2)
            for places in (self._order, self._below, self._within)
        )
        part.contexts, part.batch_shape = part._order.shape[-2], ()
        return part

    @property
    def breadth(self) -> int:
        """See `Oracle.breadth`."""
        return self.weights.size * self.responses

    def pairwise_matrix(self) -> Array:
        """Return Σ_v w_v ([v places y' below y] + ½ [v ties them])."""
        rows = []
        for y in range(self.responses):
            here = self._below[..., y, None]
            wins = (self._below < here) + 0.5 * (self._below == here)
            rows.append(np.einsum("v,...vxz->...xz", self.weights, wins))
        return np.stack(rows, axis=-2)

    def annotator_matrices(self) -> Array:
        """Return each annotator's own P(y ≻ z), (..., V, X, A, A): 0, ½ (of one class) or 1."""
        below = self._below
        return np.asarray(0.5 + 0.5 * np.sign(below[..., :, None] - below[..., None, :]))

    def total_value(self, players: int) -> float:
        """Return 1: somebody is picked."""
        return 1.0

    def _average(self, picked: Array, block: slice) -> Array:
        """(..., V, X, A) -> (..., X, A): the weighted sum over a block of annotators."""
        rows = picked.reshape(*picked.shape[:-2], -1)
        return np.matmul(self.weights[block], rows).reshape(*picked.shape[:-3], *picked.shape[-2:])

    def _blocks(self, policies: Array) -> Iterator[tuple[slice, Array, Array]]:
        """Yield blocks of annotators with b and e.

        Args:
            policies: (..., m, X, A).

        Yields:
            The block, b of shape (m, ..., V, X, A) and e of that shape, or with V = 1 where every annotator's
            classes are single responses.
        """
        size = max(1, BLOCK // policies.size)
        batch = np.broadcast_shapes(policies.shape[:-3], self.batch_shape)
        policies = np.broadcast_to(policies, (*batch, *policies.shape[-3:]))
        # Rows of one number per opponent: gathering a row costs little more than gathering a number.
        opponents = policies.shape[-3]
        rows = np.broadcast_to(
            np.moveaxis(policies, -3, -1), (*batch, self.contexts, self.responses, opponents)
        )
        rows = rows.reshape(-1, opponents)
        games = np.arange(int(np.prod(batch, dtype=np.intp)), dtype=np.intp).reshape(*batch, 1, 1, 1)
        context = np.arange(self.contexts)[:, None]
        mine = np.moveaxis(policies, -3, 0)[..., None, :, :]
        for start in range(0, self.weights.size, size):
            block = slice(start, min(start + size, self.weights.size))
            order = self._order[..., block, :, :]
            ascending = rows[(games * self.contexts + context) * self.responses + order]
            cumulative = np.zeros((*ascending.shape[:-2], self.responses + 1, opponents))
            np.cumsum(ascending, axis=-2, out=cumulative[..., 1:, :])
            flat = cumulative.reshape(-1, opponents)
            firsts = np.arange(0, flat.shape[0], self.responses + 1).reshape(*ascending.shape[:-2], 1)
            below = np.ascontiguousarray(np.moveaxis(flat[firsts + self._below[..., block, :, :]], -1, 0))
            if self.strict:
                yield block, below, mine
            else:
                within = np.moveaxis(flat[firsts + self._within[..., block, :, :]], -1, 0)
                yield block, below, within - below


def _nodes(
    below: Array, tied: Array, counts: Sequence[int], *, one_left_out: bool = False
) -> list[tuple[float, float]]:
    """Return Gauss–Legendre nodes and weights on [0, 1] for Π_j (b_j + s e_j)^{c_j}, as few as suffice.

    About the midpoint the integrand is Π_j m_j (1 + x r_j) with m_j = b_j + e_j/2, r_j = e_j/(2 b_j + e_j)
    and |x| ≤ 1. Maclaurin's inequality bounds its coefficient of x^d by Π m_j · C(N, d) (Σ r_j / N)^d, and
    the rule's error on x^d is known, so their sum over d bounds the error of a rule with fewer nodes.

    Args:
        below: b, (m, ..., V, X, A).
        tied: e, broadcasting with it.
        counts: (m,), c.
        one_left_out: the products are of all factors but one, whichever.
    """
    factors = sum(counts)
    number = _exact_number(factors - 1 if one_left_out else factors)
    check_memory((2, number, number), f"the quadrature of {factors} opponents")
    if number > 2:
        half = 0.5 * tied
        middle = below + half
        if middle.min() > SAFE_DIVISOR:
            scale: Array | float = 1.0
            for j, count in enumerate(counts):
                scale = scale * integer_power(middle[j], count)
            if one_left_out:
                scale = scale / middle.min(axis=0)
            spread = np.tensordot(np.asarray(counts, dtype=np.float64), half / middle, axes=1)
            square = spread * spread
            for fewer in range(2, number):
                if (scale * np.polyval(_error_bound(fewer, factors), square)).max() < QUADRATURE_ERROR:
                    number = fewer
                    break
    return _rule_on_unit_interval(number)


def _exact_number(degree: int) -> int:
    """The nodes with which Gauss–Legendre integrates a polynomial exactly."""
    return degree // 2 + 1


def _rule_on_unit_interval(number: int) -> list[tuple[float, float]]:
    nodes, weights = _rule(number)
    return [((1 + float(x)) / 2, float(w) / 2) for x, w in zip(nodes, weights, strict=True)]


@lru_cache(maxsize=256)
def _rule(number: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return nodes, weights


@lru_cache(maxsize=1024)
def _error_bound(number: int, degree: int) -> Array:
    """Return the polynomial in (Σ r)² that bounds the error of `number` nodes, highest power first.

    Odd powers of x are integrated exactly, by symmetry.
    """
    nodes, weights = _rule(number)
    coefficients = np.zeros(degree // 2 + 1)
    for power in range(2 * number, degree + 1, 2):
        error = abs(1.0 / (power + 1) - float(weights @ nodes**power) / 2)
        choose = math.lgamma(degree + 1) - math.lgamma(power + 1) - math.lgamma(degree - power + 1)
        coefficients[power // 2] = error * math.exp(choose - power * math.log(degree)) * 1.000001
    return coefficients[::-1]
