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
    from mnpo.dynamics import Trajectory, run, update
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
        Reward,
    )
    from mnpo.presets import (
        RULES,
        comal,
        egpo,
        eo_mnpo,
        ht_mnpo,
        inpo,
        make_rule,
        mpo,
        mwu,
        nash_md,
        nash_prox,
        omwu,
        onpo,
        prox,
        regret_matching_plus,
        sppo,
        td_mnpo,
    )
    from mnpo.rules import UpdateRule

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
    "Reward",
    "Trajectory",
    "UpdateRule",
    "comal",
    "dual_gap",
    "egpo",
    "eo_mnpo",
    "exploitability",
    "ht_mnpo",
    "inpo",
    "make_rule",
    "mpo",
    "mwu",
    "nash_conv",
    "nash_md",
    "nash_prox",
    "omwu",
    "onpo",
    "prox",
    "regret_matching_plus",
    "run",
    "solve",
    "sppo",
    "td_mnpo",
    "update",
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
    "RULES": "mnpo.presets",
    "Rankings": "mnpo.oracles",
    "Reward": "mnpo.oracles",
    "Trajectory": "mnpo.dynamics",
    "UpdateRule": "mnpo.rules",
    "comal": "mnpo.presets",
    "dual_gap": "mnpo.gaps",
    "egpo": "mnpo.presets",
    "eo_mnpo": "mnpo.presets",
    "exploitability": "mnpo.gaps",
    "ht_mnpo": "mnpo.presets",
    "inpo": "mnpo.presets",
    "make_rule": "mnpo.presets",
    "mpo": "mnpo.presets",
    "mwu": "mnpo.presets",
    "nash_conv": "mnpo.gaps",
    "nash_md": "mnpo.presets",
    "nash_prox": "mnpo.presets",
    "omwu": "mnpo.presets",
    "onpo": "mnpo.presets",
    "prox": "mnpo.presets",
    "regret_matching_plus": "mnpo.presets",
    "run": "mnpo.dynamics",
    "solve": "mnpo.equilibria",
    "sppo": "mnpo.presets",
    "td_mnpo": "mnpo.presets",
    "update": "mnpo.dynamics",
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
