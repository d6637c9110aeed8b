"""Players with oracles of their own."""

import numpy as np
from made_oracles import build

from mnpo import Heterogeneous
from support import random_policies


def test_heterogeneous_players_ask_their_own_oracle():
    rng = np.random.default_rng(4)
    parts = [build("pairwise", rng, 3)[0], build("weak", rng, 3)[0], build("plackett-luce", rng, 3)[0]]
    policies = random_policies(rng, 3, 1, 3)
    wins = Heterogeneous(parts).win_probabilities(policies)
    for i, part in enumerate(parts):
        np.testing.assert_allclose(wins[i], part.win_probabilities(policies)[i], atol=1e-15)
