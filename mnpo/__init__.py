"""Exact n-player preference games and the update rules that train language models on them.

    from mnpo import Game, Pairwise, solve
    game = Game(Pairwise([[0.5, 0.7, 0.2], [0.3, 0.5, 0.9], [0.8, 0.1, 0.5]]), players=2, tau=0.1)
    solve(game).policies

The mathematics only: `mnpo.sim` reads games and runs studies, `mnpo.cli` is the command line.
"""

from mnpo.certificates import Certificate, verify
from mnpo.dynamics import Trajectory, run
from mnpo.equilibria import Equilibrium, solve
from mnpo.games import Game
from mnpo.gaps import GapUndefined, dual_gap, exploitability, nash_conv, worst_case_gap
from mnpo.logit import ConvergenceError
from mnpo.oracles import (
    DenseTensor,
    Heterogeneous,
    Mixture,
    Oracle,
    Pairwise,
    PlackettLuce,
    Population,
    Rankings,
)
from mnpo.rules import RULES, UpdateRule, inpo, make_rule, mwu, td_mnpo

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "Certificate",
    "ConvergenceError",
    "DenseTensor",
    "Equilibrium",
    "Game",
    "GapUndefined",
    "Heterogeneous",
    "Mixture",
    "Oracle",
    "Pairwise",
    "PlackettLuce",
    "Population",
    "Rankings",
    "Trajectory",
    "UpdateRule",
    "dual_gap",
    "exploitability",
    "inpo",
    "make_rule",
    "mwu",
    "nash_conv",
    "run",
    "solve",
    "td_mnpo",
    "verify",
    "worst_case_gap",
]
