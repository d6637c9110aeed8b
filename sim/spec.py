"""A game before its players, τ and reference are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.numerics import Array
from mnpo.oracles import Heterogeneous, Oracle

#: Used where neither the command nor the game says.
DEFAULT_PLAYERS = 2
DEFAULT_TAU = 0.1


@dataclass(frozen=True, eq=False)
class GameSpec:
    """What a catalogue entry or a file describes.

    Attributes:
        name: as the user gave it.
        oracle: who wins.
        responses: (A,) names.
        players: n, if the source fixes or proposes it.
        tau: τ, one number or (n,), if the source proposes it.
        reference: (A,), (X, A) or (n, X, A), if the source proposes it.
        votes: of how many votes a pair's win rate is the share, if the source is votes: the harmonic mean over the
            pairs that have any.
        notes: what the reader of the source should know (pairs without votes, ..).
    """

    name: str
    oracle: Oracle
    responses: tuple[str, ...] = ()
    players: int | None = None
    tau: float | tuple[float, ...] | None = None
    reference: Array | None = None
    votes: int | None = None
    notes: tuple[str, ...] = ()

    def game(
        self,
        players: int | None = None,
        tau: npt.ArrayLike | None = None,
        reference: npt.ArrayLike | None = None,
    ) -> Game:
        """Build the game; what is not given comes from the source, else n = 2, τ = 0.1, uniform reference.

        Raises:
            ValueError: values that do not fit the oracle.
        """
        chosen = players if players is not None else (self.players or self.oracle.players or DEFAULT_PLAYERS)
        strength = tau if tau is not None else self.tau
        return Game(
            self.oracle,
            players=chosen,
            tau=DEFAULT_TAU if strength is None else strength,
            reference=reference if reference is not None else self.reference,
            responses=self.responses,
        )

    def win_matrix(self) -> Array:
        """Return the pairwise win probabilities (X, A, A); of players with different oracles their mean.

        Raises:
            ValueError: the oracle has no two-player form.
        """
        if isinstance(self.oracle, Heterogeneous):
            return np.asarray(np.mean([oracle.pairwise_matrix() for oracle in self.oracle.oracles], axis=0))
        return self.oracle.pairwise_matrix()
