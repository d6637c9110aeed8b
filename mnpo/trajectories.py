"""What an update rule did on a game."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnpo.games import Game
from mnpo.numerics import Array
from mnpo.rules import Rule


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a rule did on a game, or on a batch of games.

    Axes: R recorded steps, ... the batch, p = 1 for a symmetric profile or n, X contexts, A responses.

    Attributes:
        game: the game whose equilibrium the rule aims at, in which gaps are measured.
        rule: the rule.
        steps: (R,), numbers of updates after which the figures were taken.
        exploitability: (R, ..., p), of the last iterate.
        average_exploitability: (R, ..., p), of the mean of π^0..π^t, or None if not asked for.
        log_policies: (..., p, X, A), the last iterate.
        average: (..., p, X, A), the mean policy, or None.
        recorded_policies: (R, ..., p, X, A), or None if not asked for.
        recorded_averages: (R, ..., p, X, A), the mean policies, or None.
        oracle_calls: calls of the oracle per update.
        diverged: (...), whether an iterate was not finite, or the policies were still moving at the end with a
            gap above the first.
    """

    game: Game
    rule: Rule
    steps: npt.NDArray[np.int64]
    exploitability: Array
    average_exploitability: Array | None
    log_policies: Array
    average: Array | None
    recorded_policies: Array | None
    recorded_averages: Array | None
    oracle_calls: int
    diverged: npt.NDArray[np.bool_]

    @property
    def policies(self) -> Array:
        """(..., n, X, A), the last iterate of every player."""
        return np.array(self.game.everyone(np.exp(self.log_policies)))

    @property
    def gap(self) -> Array:
        """(R, ...), NashConv = Σ_i exploitability_i; of two symmetric players the duality gap."""
        return _sum_over_players(self.exploitability, self.game.players)

    @property
    def average_gap(self) -> Array | None:
        """(R, ...), NashConv of the mean policy."""
        if self.average_exploitability is None:
            return None
        return _sum_over_players(self.average_exploitability, self.game.players)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        average = self.average_gap
        return {
            "rule": self.rule.as_dict(),
            "players": self.game.players,
            "tau": self.game.player_tau.tolist(),
            "responses": list(self.game.responses),
            "steps": self.steps.tolist(),
            "gap": self.gap.tolist(),
            "average_gap": None if average is None else average.tolist(),
            "oracle_calls": (self.steps * self.oracle_calls).tolist(),
            "policies": self.policies.tolist(),
            "average_policies": None if self.average is None else self.game.everyone(self.average).tolist(),
            "diverged": self.diverged.tolist(),
            **self._paths(),
        }

    def _paths(self) -> dict[str, Any]:
        """Where the first player went, last and average iterate, if policies of one context were kept."""
        kept, means = self.recorded_policies, self.recorded_averages
        if kept is None or kept.ndim != 4 or kept.shape[-2] != 1:
            return {}
        return {
            "path": kept[:, 0, 0].tolist(),
            "average_path": None if means is None else means[:, 0, 0].tolist(),
        }


def _sum_over_players(values: Array, players: int) -> Array:
    total: Array = values.sum(axis=-1)
    return total * players if values.shape[-1] == 1 else total
