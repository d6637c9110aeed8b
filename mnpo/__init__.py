"""Exact n-player preference games and the update rules that train language models on them.

    from mnpo import Game, Pairwise, solve
    game = Game(Pairwise([[0.5, 0.7, 0.2], [0.3, 0.5, 0.9], [0.8, 0.1, 0.5]]), players=2, tau=0.1)
    solve(game).policies

The mathematics only: `mnpo.sim` reads games and runs studies, `mnpo.cli` is the command line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Loaded when first used: `mnpo --help` and `import mnpo` start without scipy.
_HOMES = {
    "Certificate": "mnpo.certificates",
    "ConvergenceError": "mnpo.logit",
    "DenseTensor": "mnpo.oracles",
    "Equilibrium": "mnpo.equilibria",
    "Game": "mnpo.games",
    "GapUndefined": "mnpo.gaps",
    "Heterogeneous": "mnpo.oracles",
    "Mixture": "mnpo.oracles",
    "Oracle": "mnpo.oracles",
    "Pairwise": "mnpo.oracles",
    "PlackettLuce": "mnpo.oracles",
    "Population": "mnpo.oracles",
    "RULES": "mnpo.rules",
    "Rankings": "mnpo.oracles",
    "Trajectory": "mnpo.dynamics",
    "UpdateRule": "mnpo.rules",
    "dual_gap": "mnpo.gaps",
    "exploitability": "mnpo.gaps",
    "inpo": "mnpo.rules",
    "make_rule": "mnpo.rules",
    "mwu": "mnpo.rules",
    "nash_conv": "mnpo.gaps",
    "run": "mnpo.dynamics",
    "solve": "mnpo.equilibria",
    "td_mnpo": "mnpo.rules",
    "verify": "mnpo.certificates",
    "worst_case_gap": "mnpo.gaps",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
