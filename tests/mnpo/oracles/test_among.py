"""Games of some of an oracle's responses, others in each context."""

import numpy as np
import pytest

from mnpo import DenseTensor, Mixture, Pairwise, PlackettLuce, Population, Rankings
from mnpo.oracles import Oracle
from tests.helpers.support import random_matrix

PLACES = np.array([[0, 3, 3], [4, 1, 0], [2, 2, 2], [1, 4, 3]])
CONTEXTS = len(PLACES)


def oracles():
    rng = np.random.default_rng(0)
    levels = np.array([rng.permutation(5), [0, 1, 1, 2, 2], rng.permutation(5)])
    utilities = rng.standard_normal((2, CONTEXTS, 5))
    tensor = rng.random((5, 5, 5))
    return {
        "pairwise": Pairwise(np.stack([random_matrix(rng, 5) for _ in PLACES])),
        "rankings": Rankings(np.repeat(levels[:, None], CONTEXTS, axis=1), [1, 2, 3]),
        "plackett-luce": PlackettLuce(utilities, [1, 3]),
        "population": Population(levels, None, rng.standard_normal((2, 5))).at([0] * CONTEXTS),
        "mixture": Mixture([PlackettLuce(utilities), Pairwise(np.full((CONTEXTS, 5, 5), 0.5))], [2, 1]),
        "tensor": DenseTensor(np.stack([(tensor + tensor.swapaxes(-1, -2)) / 2] * CONTEXTS)),
    }


@pytest.mark.parametrize("name", oracles())
def test_some_responses_are_the_whole_game_played_by_few(name):
    """Against the whole oracle, whose opponents put the sum of equal responses' shares on the response."""
    whole = oracles()[name]
    part = whole.among(PLACES)
    assert (part.contexts, part.responses) == PLACES.shape
    policies = np.random.default_rng(1).dirichlet(np.ones(3), (7, 2, CONTEXTS))
    spread = np.zeros((7, 2, CONTEXTS, 5))
    for k in range(3):
        spread[..., np.arange(CONTEXTS), PLACES[:, k]] += policies[..., k]
    wins = whole.against(spread)
    expected = np.take_along_axis(wins, np.broadcast_to(PLACES, (7, *PLACES.shape)), axis=-1)
    assert np.abs(part.against(policies) - expected).max() < 1e-12
    # The derivative, which an equilibrium needs: along a direction, by a central difference.
    step = 1e-6 * (policies[1] - policies[0])
    slope = part.against(policies[2] + step) - part.against(policies[2] - step)
    # Opponents one at a time: the derivative is of each, summed.
    exact = np.einsum("jxyz,jxz->xy", part.gradient(policies[2]), 2 * step)
    assert np.abs(slope - exact).max() < 1e-12
    some = part.at([2, 0])
    assert np.abs(some.against(policies[:, :, [2, 0]]) - expected[:, [2, 0]]).max() < 1e-12


def test_a_batch_is_refused_and_a_subclass_is_not_bypassed():
    rng = np.random.default_rng(2)

    class Timid(PlackettLuce):
        def against(self, opponents, *, counts=None, player=0):
            return 0.5 * super().against(opponents, counts=counts, player=player)

    utilities = rng.standard_normal((1, CONTEXTS, 5))
    timid, bold = Timid(utilities).among(PLACES), PlackettLuce(utilities).among(PLACES)
    policy = np.full((1, CONTEXTS, 3), 1 / 3)
    assert np.abs(2 * timid.against(policy) - bold.against(policy)).max() < 1e-12

    class Held(Oracle):
        batch_shape, contexts, responses = (2,), 1, 3
        against = gradient = None

    with pytest.raises(ValueError, match="batch of games"):
        Held().among(PLACES)
