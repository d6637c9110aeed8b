"""What an oracle says of one prompt's responses: rewards or win probabilities, and group preferences from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp

from mnpo.numerics import Array


@dataclass(frozen=True)
class Judged:
    """One oracle's answers on one prompt.

    Attributes:
        weight: of the oracle.
        rewards: (N,), divided by their scale; None for an oracle of pairs.
        wins: (K, N), P(row ≻ column), NaN where it was not asked; None for an oracle of rewards.
    """

    weight: float
    rewards: Array | None = None
    wins: Array | None = None

    def matrix(self, own: int) -> Array:
        """Return (K, N) win probabilities: rewards are read as Bradley–Terry."""
        if self.wins is not None:
            return self.wins
        assert self.rewards is not None
        return np.asarray(expit(self.rewards[:own, None] - self.rewards[None, :]))

    def against(self, y: int, group: Sequence[int], own: int) -> float:
        """Return P(y ≻ group): rewards as Plackett–Luce, pairs as the mean over the group ((2), (3))."""
        if self.rewards is None or len(group) == 1:
            return float(self.matrix(own)[y, list(group)].mean())
        utilities = self.rewards[[y, *group]]
        return float(np.exp(utilities[0] - logsumexp(utilities)))
