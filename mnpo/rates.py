"""Local convergence: how fast a rule approaches its stationary point, and at which frequencies a game turns.

The largest modulus of a linearised rule's eigenvalues is the factor by which the distance shrinks in one update.
The gap, which is quadratic in the distance, shrinks by its square (docs/concepts.md, (13)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnpo.dynamics import target_game
from mnpo.equilibria import solve
from mnpo.games import Game
from mnpo.jacobians import log_win_jacobian
from mnpo.linearisation import Complex, Linearisation
from mnpo.numerics import Array
from mnpo.rules import UpdateRule
from mnpo.steps import external_logs


@dataclass(frozen=True, eq=False)
class Rate:
    """How fast a rule converges near its stationary point.

    Attributes:
        radius: largest |z|; below 1 the point is stable and the distance shrinks by this factor an update.
        modes: all z of all contexts, largest first.
        policies: (p, X, A), the stationary point.
    """

    radius: float
    modes: Complex
    policies: Array

    @property
    def stable(self) -> bool:
        """Whether small deviations die out."""
        return self.radius < 1.0

    def updates(self, shrink: float) -> float:
        """Return how many updates multiply the gap, which is quadratic, by `shrink`; infinite if not stable."""
        if not self.stable:
            return float("inf")
        return max(1.0, float(np.log(shrink) / (2 * np.log(self.radius)))) if self.radius > 0 else 1.0


def local_rate(
    rule: UpdateRule,
    game: Game,
    equilibrium: npt.ArrayLike | None = None,
    *,
    externals: Sequence[npt.ArrayLike] = (),
) -> Rate:
    """Return the rule's local rate (spectral radius and modes) at its stationary point.

    Args:
        rule: a rule with plain numbers (no batch). One that refreshes its reference is taken between two
            refreshments.
        game: a single game with every τ above 0, or whose equilibrium is given.
        equilibrium: (p, X, A), where to linearise (identical players alike); otherwise the game is solved.
            If the rule does not stand still there (Nash-MD, HT-MNPO anchored on its opponents) the stationary
            point next to it is found by Newton's method.
        externals: as for `mnpo.dynamics.run`.

    Raises:
        ValueError: a batch, or an equilibrium that does not fit the game.
        ConvergenceError: no stationary point near the equilibrium.
    """
    if game.batch_shape:
        raise ValueError("local_rate takes one game at a time; found a batch")
    aim = target_game(game, rule, externals)
    if equilibrium is None:
        equilibrium = solve(aim).policies[: game.slots]
    profile = game.profile(equilibrium)
    if game.symmetric:
        profile = profile[:1]
    elif profile.shape[0] == 1:
        profile = np.array(game.everyone(profile))
    if any(number.ndim and number.shape[-1] > 1 for number in rule.numbers()) and game.symmetric:
        raise ValueError("rates of players with numbers of their own need a game whose players differ")
    outside = external_logs(game, rule, externals)
    found, settled = [], []
    for x in range(game.contexts):
        part = game if game.contexts == 1 else game.at([x])
        linear = Linearisation(part, rule, [logs[:, x : x + 1] for logs in outside])
        settled.append(linear.settle(profile[:, x : x + 1]))
        found.append(linear.modes(settled[-1]))
    modes = np.concatenate(found)
    modes = modes[np.argsort(-np.abs(modes))]
    return Rate(float(np.abs(modes[0])) if modes.size else 0.0, modes, np.concatenate(settled, axis=1))


def frequencies(game: Game, equilibrium: npt.ArrayLike | None = None) -> Array:
    """Return ω ≥ 0, the moduli of the imaginary eigenvalues of the advantage's Jacobian, largest first.

    Args:
        game: a symmetric game.
        equilibrium: (1, X, A), if it is at hand.
    """
    profile = game.profile(solve(game).policies if equilibrium is None else equilibrium)[: game.slots]
    slopes = [log_win_jacobian(part, profile[:, block]) for block, _, part in game.blocks()]
    found = [np.linalg.eigvals(slope).imag.ravel() for slope in slopes]
    return np.sort(np.abs(np.concatenate(found)))[::-1]
