"""Players who do not share an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from mnpo.numerics import Array
from mnpo.oracles.base import Contexts, Oracle


class Heterogeneous(Oracle):
    """Player i has oracle P_i: a general-sum game (HT-MNPO, 2509.23102).

    Args:
        oracles: one for each player, all with the same contexts and responses.

    Raises:
        ValueError: fewer than two oracles, shapes that differ, or one made for another number of players.
    """

    exchangeable = False

    def __init__(self, oracles: Sequence[Oracle]) -> None:
        if len(oracles) < 2:
            raise ValueError(f"a heterogeneous game needs at least two oracles; found {len(oracles)}")
        shapes = {(oracle.contexts, oracle.responses) for oracle in oracles}
        if len(shapes) > 1:
            raise ValueError(f"all oracles must have the same contexts and responses; found {sorted(shapes)}")
        self.oracles = tuple(oracles)
        self.players = len(oracles)
        for i, oracle in enumerate(oracles):
            if oracle.players not in (None, self.players):
                raise ValueError(
                    f"oracle {i} is made for {oracle.players} players; the game has {self.players}"
                )
        (self.contexts, self.responses) = shapes.pop()
        self.batch_shape = np.broadcast_shapes(*(oracle.batch_shape for oracle in oracles))

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`; asks the player's own oracle."""
        return self.oracles[player].against(opponents, counts=counts)

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`; asks the player's own oracle."""
        return self.oracles[player].gradient(opponents, counts=counts)

    @property
    def breadth(self) -> int:
        """See `Oracle.breadth`."""
        return max(oracle.breadth for oracle in self.oracles)

    def side_by_side(self, batch: tuple[int, ...]) -> Heterogeneous:
        """See `Oracle.side_by_side`."""
        part = copy(self)
        part.oracles = tuple(oracle.side_by_side(batch) for oracle in self.oracles)
        part.contexts, part.batch_shape = part.oracles[0].contexts, ()
        return part

    def at(self, contexts: Contexts) -> Heterogeneous:
        """See `Oracle.at`."""
        part = copy(self)
        part.oracles = tuple(oracle.at(contexts) for oracle in self.oracles)
        part.contexts = part.oracles[0].contexts
        return part
