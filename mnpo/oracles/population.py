"""A weighted population of annotators."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from mnpo.numerics import Array, as_weights
from mnpo.oracles.base import Contexts, Oracle
from mnpo.oracles.plackett_luce import PlackettLuce
from mnpo.oracles.rankings import Rankings
from mnpo.values import shown


class Mixture(Oracle):
    """A member drawn from a population judges the group: P(y ≻ O) = Σ_v w_v P_v(y ≻ O) (docs/concepts.md, (4)).

    With two players this is a pairwise matrix, which can be non-transitive although every annotator is
    transitive. With more players it is not a function of that matrix.

    Args:
        oracles: what the population is made of; all with the same contexts and responses.
        weights: one each, normalised to sum 1; equal unless given.

    Raises:
        ValueError: no oracles, shapes that differ, or a member that serves players unlike.
    """

    def __init__(self, oracles: Sequence[Oracle], weights: npt.ArrayLike | None = None) -> None:
        if not oracles:
            raise ValueError("a population needs at least one member; found none")
        self.oracles = tuple(oracles)
        self.weights = as_weights(weights, len(oracles), "weights")
        shapes = {(oracle.contexts, oracle.responses) for oracle in oracles}
        if len(shapes) > 1:
            raise ValueError(f"all members must have the same contexts and responses; found {sorted(shapes)}")
        (self.contexts, self.responses) = shapes.pop()
        fixed = {oracle.players for oracle in oracles if oracle.players is not None}
        if len(fixed) > 1:
            raise ValueError(
                f"all members must be made for the same number of players; found {sorted(fixed)}"
            )
        self.players = fixed.pop() if fixed else None
        self.exchangeable = all(oracle.exchangeable for oracle in oracles)
        self.batch_shape = np.broadcast_shapes(*(oracle.batch_shape for oracle in oracles))

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`."""
        return self._mean([o.against(opponents, counts=counts, player=player) for o in self.oracles])

    def win_probabilities(self, policies: Array) -> Array:
        """See `Oracle.win_probabilities`."""
        return self._mean([oracle.win_probabilities(policies) for oracle in self.oracles])

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`."""
        return self._mean([o.gradient(opponents, counts=counts, player=player) for o in self.oracles])

    @property
    def contractive(self) -> bool:  # type: ignore[override]
        """See `Oracle.contractive`: if all members are."""
        return all(oracle.contractive for oracle in self.oracles)

    def side_by_side(self, batch: tuple[int, ...]) -> Mixture:
        """See `Oracle.side_by_side`."""
        part = copy(self)
        part.oracles = tuple(oracle.side_by_side(batch) for oracle in self.oracles)
        part.contexts, part.batch_shape = part.oracles[0].contexts, ()
        return part

    def at(self, contexts: Contexts) -> Mixture:
        """See `Oracle.at`."""
        part = copy(self)
        part.oracles = tuple(oracle.at(contexts) for oracle in self.oracles)
        part.contexts = part.oracles[0].contexts
        part.exchangeable = all(oracle.exchangeable for oracle in part.oracles)
        return part

    def among(self, places: npt.NDArray[np.intp]) -> Mixture:
        """See `Oracle.among`."""
        return Mixture([oracle.among(places) for oracle in self.oracles], self.weights)

    @property
    def breadth(self) -> int:
        """See `Oracle.breadth`."""
        return max(oracle.breadth for oracle in self.oracles)

    def pairwise_matrix(self) -> Array:
        """See `Oracle.pairwise_matrix`: the mean of the members' matrices."""
        return self._mean([oracle.pairwise_matrix() for oracle in self.oracles])

    def total_value(self, players: int) -> float | None:
        """Return the weighted sum of the members' values, if all have one."""
        values = [oracle.total_value(players) for oracle in self.oracles]
        known = [value for value in values if value is not None]
        return float(self.weights @ np.asarray(known)) if len(known) == len(values) else None

    def _mean(self, parts: list[Array]) -> Array:
        if len(parts) == 1:
            return parts[0]
        return np.asarray(sum(w * part for w, part in zip(self.weights, parts, strict=True)))


class Population(Mixture):
    """Annotators who rank and annotators with Plackett–Luce utilities, each with a weight (MNPO, 2509.23102).

    Args:
        levels: the ranking annotators, (V, A) or (V, X, A), as `Rankings` takes them; or None.
        level_weights: (V,), their weights; 1 each unless given.
        utilities: the annotators with utilities, (U, A) or (U, X, A); or None.
        utility_weights: (U,), their weights; 1 each unless given. All weights together are normalised.

    Raises:
        ValueError: no annotators, or what `Rankings` and `PlackettLuce` refuse.
    """

    def __init__(
        self,
        levels: npt.ArrayLike | None = None,
        level_weights: npt.ArrayLike | None = None,
        utilities: npt.ArrayLike | None = None,
        utility_weights: npt.ArrayLike | None = None,
    ) -> None:
        parts: list[Oracle] = []
        shares: list[float] = []
        if levels is not None:
            ranked = Rankings(levels, level_weights)
            parts.append(ranked)
            shares.append(_total(level_weights, ranked.weights.size))
        if utilities is not None:
            array = np.asarray(utilities, dtype=np.float64)
            valued = PlackettLuce(array[:, None, :] if array.ndim == 2 else array, utility_weights)
            parts.append(valued)
            shares.append(_total(utility_weights, valued.weights.size))
        super().__init__(parts, shares or None)


def panel(members: Sequence[Oracle], weights: npt.ArrayLike) -> Oracle:
    """Return the population of some members; those of Plackett–Luce become one oracle, which is faster.

    Args:
        members: Plackett–Luce oracles and others, without batch axes.
        weights: one each.
    """
    shares = as_weights(weights, len(members), "weights")
    if len(members) == 1:
        return members[0]
    valued = [(part, w) for part, w in zip(members, shares, strict=True) if isinstance(part, PlackettLuce)]
    others = [
        (part, w) for part, w in zip(members, shares, strict=True) if not isinstance(part, PlackettLuce)
    ]
    if valued:
        utilities = np.concatenate([part.utilities for part, _ in valued])
        each = np.concatenate([w * part.weights for part, w in valued])
        others.insert(0, (PlackettLuce(utilities, each), sum(w for _, w in valued)))
    parts, totals = zip(*others, strict=True)
    return Mixture(parts, totals) if len(parts) > 1 else parts[0]


def levels_of(ranking: Sequence[Sequence[int]], responses: int) -> npt.NDArray[np.int64]:
    """Return the class of each response in a weak order, the unranked together one class below.

    Args:
        ranking: tie classes from best to worst, each a list of response indices.
        responses: A.

    Returns:
        (A,) integers, 0 the best class.

    Raises:
        ValueError: an index out of range or named twice.
    """
    levels = np.full(responses, len(ranking), dtype=np.int64)
    seen: set[int] = set()
    for level, tied in enumerate(ranking):
        for response in tied:
            if isinstance(response, bool) or not isinstance(response, int | np.integer):
                raise ValueError(f"ranking must hold response indices; found {shown(response)}")
            if not 0 <= response < responses:
                raise ValueError(f"ranking must name responses 0 to {responses - 1}; found {shown(response)}")
            if response in seen:
                raise ValueError(f"ranking must name each response once; found {response} twice")
            seen.add(int(response))
            levels[response] = level
    return levels


def _total(weights: npt.ArrayLike | None, count: int) -> float:
    return float(count) if weights is None else float(np.sum(np.asarray(weights, dtype=np.float64)))
