"""A reward in an oracle's place: a game in which nobody's opponents matter."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from mnpo.numerics import Array, as_array
from mnpo.oracles.base import Contexts, Oracle, copies, laid_side_by_side


class Reward(Oracle):
    """A reward r(y), whoever the opponents are: the game's equilibrium is RLHF's optimum, ∝ π_ref e^{r/τ}.

    A reward is no probability, but it stands where win probabilities do. A rule whose advantage is a reward, as in
    EO-MNPO, is a rule in this game.

    Args:
        rewards: r, (A,), (X, A) or (..., X, A) for a batch of games.

    Raises:
        ValueError: not finite.
    """

    contractive = True

    def __init__(self, rewards: npt.ArrayLike) -> None:
        given = as_array(rewards, "rewards")
        self.rewards: Array = (
            given.reshape((1,) * (2 - given.ndim) + given.shape) if given.ndim < 2 else given
        )
        self.contexts, self.responses = self.rewards.shape[-2:]
        self.batch_shape = self.rewards.shape[:-2]

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`."""
        batch = np.broadcast_shapes(opponents.shape[:-3], self.batch_shape)
        return np.broadcast_to(self.rewards, (*batch, self.contexts, self.responses))

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`: zero."""
        return np.zeros((len(copies(opponents, counts)), self.contexts, self.responses, self.responses))

    def at(self, contexts: Contexts) -> Reward:
        """See `Oracle.at`."""
        part = copy(self)
        part.rewards = self.rewards[..., contexts, :]
        part.contexts = part.rewards.shape[-2]
        return part

    def side_by_side(self, batch: tuple[int, ...]) -> Reward:
        """See `Oracle.side_by_side`."""
        part = copy(self)
        part.rewards = laid_side_by_side(self.rewards, batch, len(self.batch_shape), -2)
        part.contexts, part.batch_shape = part.rewards.shape[0], ()
        return part
