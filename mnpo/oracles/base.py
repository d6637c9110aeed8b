"""What every preference oracle answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mnpo.numerics import Array

#: Some contexts: a slice, or their places in any order.
Contexts = slice | Sequence[int] | npt.NDArray[np.intp]


class Oracle(ABC):
    """A preference oracle: P(y ≻ O), the probability that y is preferred to the whole group O.

    Axis names used throughout: `n` players, `m` = distinct opponents, `X` contexts, `A` responses, `...`
    leading batch axes (many games at once), which broadcast between oracle and policies.

    Win probabilities are affine in each single opponent's policy, the others held. Contexts do not interact.

    A subclass defines `against` and `gradient`. It should define `at` too if it holds data by context, so that a
    game of many contexts can be taken apart; everything is right without, but costs more.
    """

    #: X, number of contexts.
    contexts: int
    #: A, number of responses.
    responses: int
    #: The number of players the oracle is made for; None if it serves any number.
    players: int | None = None
    #: Whether all players are served alike and the order of the opponents is immaterial.
    exchangeable: bool = True
    #: Whether q against copies of one policy falls where the policy grows: ⟨π − π', q(π) − q(π')⟩ ≤ 0 for all π
    #: and π' (a contractive game, also called stable: Hofbauer & Sandholm 2009). For each τ > 0 identical players
    #: then have exactly one equilibrium in which they play alike (`mnpo.descent` says why).
    contractive: bool = False
    #: Leading axes of the oracle's own data; () for a single game.
    batch_shape: tuple[int, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # An inherited `at` would drop what a subclass adds to the answers that it takes apart, and what is known of
        # the inherited answers need not hold of others.
        if not _ANSWERS.isdisjoint(vars(cls)):
            for name in ("among", "at", "contractive", "pairwise_matrix", "side_by_side"):
                if name not in vars(cls):
                    setattr(cls, name, vars(Oracle)[name])

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

    def at(self, contexts: Contexts) -> Oracle:
        """Return the oracle of some contexts alone, in the order given.

        Its answers are this oracle's answers in those contexts. Unless a subclass defines it, the whole oracle is
        asked and the answers in other contexts are dropped: right, but as dear as all contexts.

        Args:
            contexts: a slice or places on the context axis.

        Returns:
            An oracle with as many contexts as are named, and the same batch axes.

        Raises:
            IndexError: a place that does not exist.
        """
        return _Selected(self, contexts)

    def among(self, places: npt.NDArray[np.intp]) -> Oracle:
        """Return the game of some of the responses, others in each context.

        A response that is named twice stands for two responses that are equal.

        Args:
            places: (X, K), which ones.

        Raises:
            ValueError: an oracle that holds a batch.
        """
        if self.batch_shape:
            raise ValueError(f"{type(self).__name__} holds a batch of games; responses are chosen in one")
        return _Among(self, places)

    def side_by_side(self, batch: tuple[int, ...]) -> Oracle:
        """Return the games of a batch as contexts of one game: context x of the b-th game has the place b·X + x.

        Args:
            batch: leading axes that this oracle's broadcast to.

        Raises:
            ValueError: an oracle that holds a batch and cannot be laid out.
        """
        if self.batch_shape:
            raise ValueError(f"{type(self).__name__} holds a batch of games that cannot be laid side by side")
        return self.at(np.tile(np.arange(self.contexts), math.prod(batch)))

    @property
    def breadth(self) -> int:
        """Roughly how many numbers the oracle handles at a time for each context."""
        return self.responses**2

    def win_probabilities(self, policies: Array) -> Array:
        """Return every player's win probabilities against all the others.

        Args:
            policies: (..., n, X, A).

        Returns:
            q of shape (..., n, X, A): q_i(y) = E_{y_j ∼ π_j, j ≠ i} P_i(y ≻ {y_j}) (docs/concepts.md, (1)).
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


_ANSWERS = frozenset({"against", "gradient", "win_probabilities"})


class _Selected(Oracle):
    """Some contexts of an oracle that cannot be taken apart: all are asked about, these are kept."""

    def __init__(self, whole: Oracle, contexts: Contexts) -> None:
        self._whole = whole
        self._places = np.arange(whole.contexts)[contexts]
        self.contexts, self.responses = self._places.size, whole.responses
        self.players, self.exchangeable = whole.players, whole.exchangeable
        self.contractive = whole.contractive
        self.batch_shape = whole.batch_shape

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`."""
        wins = self._whole.against(self._filled(opponents), counts=counts, player=player)
        return wins[..., self._places, :]

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`."""
        return self._whole.gradient(self._filled(opponents), counts=counts, player=player)[:, self._places]

    def win_probabilities(self, policies: Array) -> Array:
        """See `Oracle.win_probabilities`."""
        return self._whole.win_probabilities(self._filled(policies))[..., self._places, :]

    def at(self, contexts: Contexts) -> Oracle:
        """See `Oracle.at`."""
        return _Selected(self._whole, self._places[contexts])

    def total_value(self, players: int) -> float | None:
        """See `Oracle.total_value`."""
        return self._whole.total_value(players)

    def pairwise_matrix(self) -> Array:
        """See `Oracle.pairwise_matrix`."""
        return self._whole.pairwise_matrix()[..., self._places, :, :]

    def _filled(self, policies: Array) -> Array:
        """(..., C, A) -> (..., X, A): uniform in the contexts that are dropped."""
        filled = np.full((*policies.shape[:-2], self._whole.contexts, self.responses), 1.0 / self.responses)
        filled[..., self._places, :] = policies
        return filled


class _Among(Oracle):
    """Some responses of an oracle that cannot be taken apart: all are asked about, these may be played."""

    def __init__(self, whole: Oracle, places: npt.NDArray[np.intp]) -> None:
        self._whole, self._places = whole, places
        self.contexts, self.responses = places.shape
        self.players, self.exchangeable = whole.players, whole.exchangeable
        # ⟨Md, q(Mπ) − q(Mπ')⟩ with M the map that adds up equal responses.
        self.contractive = whole.contractive

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`."""
        wins = self._whole.against(self._spread(opponents), counts=counts, player=player)
        places = np.broadcast_to(self._places, (*wins.shape[:-2], *self._places.shape))
        return np.take_along_axis(wins, places, axis=-1)

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`."""
        slopes = self._whole.gradient(self._spread(opponents), counts=counts, player=player)
        context = np.arange(self.contexts)[:, None, None]
        return np.asarray(slopes[:, context, self._places[:, :, None], self._places[:, None, :]])

    def at(self, contexts: Contexts) -> Oracle:
        """See `Oracle.at`."""
        return _Among(self._whole.at(contexts), self._places[contexts])

    @property
    def breadth(self) -> int:
        """See `Oracle.breadth`."""
        return self._whole.breadth

    def total_value(self, players: int) -> float | None:
        """See `Oracle.total_value`."""
        return self._whole.total_value(players)

    def _spread(self, policies: Array) -> Array:
        """(..., X, K) -> (..., X, A)."""
        onto = np.zeros((self.contexts, self.responses, self._whole.responses))
        np.put_along_axis(onto, self._places[..., None], 1.0, axis=-1)
        return np.matmul(policies[..., None, :], onto)[..., 0, :]


def copies(opponents: Array, counts: Sequence[int] | None) -> tuple[int, ...]:
    """Return how many copies of each opponent there are, checked against the opponents' axis."""
    if counts is None:
        return (1,) * opponents.shape[-3]
    if len(counts) != opponents.shape[-3]:
        raise ValueError(f"counts must name all {opponents.shape[-3]} opponents; found {len(counts)}")
    return tuple(counts)


def laid_side_by_side(
    values: npt.NDArray[Any], batch: tuple[int, ...], own_axes: int, context: int
) -> npt.NDArray[Any]:
    """Lay the batch axes of an oracle's data along its context axis, (.., F, X, R) -> (F, B·X, R).

    Args:
        values: with the oracle's own batch axes in front.
        batch: what those broadcast to, B games in all.
        own_axes: how many they are.
        context: the context axis, counted from the end.
    """
    games = np.broadcast_to(values, (*batch, *values.shape[own_axes:]))
    moved = np.moveaxis(games.reshape(-1, *games.shape[len(batch) :]), 0, context - 1)
    return moved.reshape(*moved.shape[: context - 1], -1, *moved.shape[context + 1 :])
