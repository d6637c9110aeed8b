"""When do more players help? Three answers in one record: the headline figure's data.

Pairwise oracle: not at all. The player's own history as further players: faster, and stable at larger steps. A
population of annotators: another, more diverse equilibrium.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnpo.common.progress import Progress
from mnpo.dynamics import run
from mnpo.equilibria import solve
from mnpo.gaps import dual_gap
from mnpo.presets import inpo, td_mnpo
from mnpo.sim.catalogue import make_game
from mnpo.sim.studies import effective_responses
from mnpo.tuning import tune

#: The pairwise game of the first two panels; the population of the third is the default study's.
PAIRWISE = "random:responses=10"
PAIRWISE_TAU = 0.01
#: Updates shown.
STEPS = 1500
GOAL = 1e-9


def headline(
    population: str,
    tau: float,
    players: Sequence[int],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compute the three panels.

    Args:
        population: the game of the third panel.
        tau: its KL strength.
        players: numbers of players.
        seed: of both games.
        progress: called with what is done, and how many of how many.

    Returns:
        A record with the rows of the table and the curves of the figure.
    """
    duel = make_game(PAIRWISE, seed=seed)
    game = duel.game(players=2, tau=PAIRWISE_TAU)
    exact = solve(game).policies
    step = tune(lambda eta: inpo(eta, PAIRWISE_TAU), game, equilibrium=exact).eta
    every = math.ceil(STEPS / 300)
    rows = []
    for number, n in enumerate(players):
        if progress:
            progress(f"headline figure, n = {n}", number, len(players))
        crowd = run(duel.game(players=n, tau=PAIRWISE_TAU), inpo(step, PAIRWISE_TAU), STEPS, every=every)

        def build(eta: float, n: int = n) -> Any:
            return td_mnpo(eta, PAIRWISE_TAU, players=n)

        best = tune(build, game, equilibrium=exact)
        past = run(game, best.rule, STEPS, every=every)
        spread = solve(make_game(population, seed=seed).game(players=n, tau=tau))
        rows.append(
            {
                "players": n,
                "pairwise_gap": (crowd.gap * 2 / n).tolist(),
                "history_step": best.eta,
                "history_rate": best.rate.radius,
                "history_gap": past.gap.tolist(),
                "history_updates": _first_below(past.gap, past.steps),
                "effective_responses": effective_responses(spread.policies, spread.game),
                "verified": spread.certificate.holds,
            }
        )
    equal = max(
        float(np.abs(np.asarray(row["pairwise_gap"]) - np.asarray(rows[0]["pairwise_gap"])).max())
        for row in rows
    )
    start = np.full(game.actions, 1.0 / game.actions)
    return {
        "pairwise": PAIRWISE,
        "pairwise_tau": PAIRWISE_TAU,
        "pairwise_step": step,
        "pairwise_difference": equal,
        "first_gap": float(dual_gap(game, start)),
        "population": population,
        "population_tau": tau,
        "steps": past.steps.tolist(),
        "rows": rows,
    }


def _first_below(gaps: Any, steps: Any) -> int | None:
    reached = np.flatnonzero(np.asarray(gaps) < GOAL)
    return int(steps[reached[0]]) if reached.size else None
