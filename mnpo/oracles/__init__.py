"""Who wins: the preference oracles of n-player games, one kind a file."""

from mnpo.oracles.base import Oracle
from mnpo.oracles.heterogeneous import Heterogeneous
from mnpo.oracles.pairwise import Pairwise
from mnpo.oracles.plackett_luce import PlackettLuce
from mnpo.oracles.population import Mixture, Population, levels_of, panel
from mnpo.oracles.rankings import Rankings
from mnpo.oracles.reward import Reward
from mnpo.oracles.tensor import DenseTensor

__all__ = [
    "DenseTensor",
    "Heterogeneous",
    "Mixture",
    "Oracle",
    "Pairwise",
    "PlackettLuce",
    "Population",
    "Rankings",
    "Reward",
    "levels_of",
    "panel",
]
