"""Equilibria around given policies, many games and contexts at once: implicit steps (docs/concepts.md, (14)).

log π_i = log ν_i + s_i q_i(π) − log Z_i is the equilibrium of an oracle's game with reference ν and KL strength
1/s. `mnpo.equilibria` asks for it with a game's reference, an update rule with the weighted sum of its anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnpo.games import Game
from mnpo.jacobians import win_jacobian
from mnpo.logit import LogitSolution, solve_logit
from mnpo.newton import Places
from mnpo.numerics import Array, normalise_log
from mnpo.oracles import Oracle


@dataclass(frozen=True, eq=False)
class GamePayoffs:
    """A game's win probabilities as `mnpo.logit.solve_logit` takes them."""

    game: Game

    def at(self, contexts: Places) -> GamePayoffs:
        """See `mnpo.newton.Payoffs`."""
        return GamePayoffs(self.game.at(contexts))

    def wins(self, policies: Array) -> Array:
        """See `mnpo.newton.Payoffs`."""
        return self.game.win_probabilities(policies)

    def jacobian(self, policies: Array) -> Array:
        """See `mnpo.newton.Payoffs`."""
        return win_jacobian(self.game, policies)


def equilibrium_around(
    game: Game, log_reference: Array, tau: Array, start: Array | None = None
) -> LogitSolution:
    """Return the logit equilibrium of a game's players around other references than its own.

    Args:
        game: who wins; its τ and reference play no part.
        log_reference: (p, X, A), normalised; p = 1 for players who all play alike, else n.
        tau: (p,), all above 0.
        start: (p, X, A), log-policies near the solution.

    Raises:
        ConvergenceError: the branch from the reference was lost.
    """
    alike = log_reference.shape[0] == 1 and game.oracle.contractive
    return solve_logit(GamePayoffs(game), log_reference, tau, unique=alike or game.is_pairwise, start=start)


class ImplicitStep:
    """The policies π ∝ ν exp(s q(π)) for any batch of ν.

    Args:
        game: a game or a batch of games; its τ and reference play no part.
        strength: s > 0, a number or (..., p), which broadcasts with the batch and the players.
    """

    def __init__(self, game: Game, strength: float | Array) -> None:
        self._game, self._strength = game, np.asarray(strength, dtype=np.float64)
        self._laid_out: dict[tuple[int, ...], Game] = {}

    def __call__(self, logits: Array) -> tuple[Array, Array]:
        """Return log-policies and policies, each (..., p, X, A).

        Args:
            logits: log ν up to constants, (..., p, X, A).

        Raises:
            ConvergenceError: an equilibrium was not found; in general-sum games only.
        """
        *batch, slots, contexts, size = logits.shape
        # (p, B, X, A): games of the batch side by side.
        references = np.moveaxis(normalise_log(logits)[0].reshape(-1, slots, contexts, size), 0, 1)
        strengths = np.broadcast_to(self._strength, (*batch, slots)).reshape(-1, slots)
        game, found = self._side_by_side(tuple(batch)), np.empty_like(references)
        for strength in np.unique(strengths, axis=0):
            which = np.flatnonzero((strengths == strength).all(axis=-1))
            part = game
            if which.size < len(strengths):
                part = game.at((which[:, None] * contexts + np.arange(contexts)).ravel())
            around = references[:, which].reshape(slots, -1, size)
            solved = [
                equilibrium_around(block.by_matrix(), around[:, here], 1 / strength).log_policies
                for here, _, block in part.blocks()
            ]
            found[:, which] = np.concatenate(solved, axis=1).reshape(slots, which.size, contexts, size)
        return normalise_log(np.moveaxis(found, 1, 0).reshape(logits.shape))

    def _side_by_side(self, batch: tuple[int, ...]) -> Game:
        """The games of a batch as contexts of one."""
        if batch not in self._laid_out:
            oracle: Oracle = self._game.oracle.side_by_side(batch) if batch else self._game.oracle
            self._laid_out[batch] = Game(oracle, self._game.players)
        return self._laid_out[batch]
