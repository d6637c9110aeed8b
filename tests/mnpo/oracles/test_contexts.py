"""Oracles taken apart by context: a part answers as the whole does there."""

import numpy as np
import pytest

from mnpo import DenseTensor, Heterogeneous, Mixture, Pairwise, PlackettLuce, Population, Rankings, Reward
from mnpo.oracles import Oracle
from support import random_matrix, random_policies

CONTEXTS, SIZE, PLAYERS = 5, 3, 3


class Undivided(Oracle):
    """Somebody's own oracle, which knows nothing of `at`."""

    def __init__(self, matrix):
        self.inner = Pairwise(matrix)
        self.contexts, self.responses = CONTEXTS, SIZE

    def against(self, opponents, *, counts=None, player=0):
        return self.inner.against(opponents, counts=counts) ** 2

    def gradient(self, opponents, *, counts=None, player=0):
        wins = self.inner.against(opponents, counts=counts)
        return 2 * wins[..., None] * self.inner.gradient(opponents, counts=counts)


class Louder(Pairwise):
    """A pairwise oracle with an addition by context, which the inherited `at` would not take apart."""

    bonus = np.linspace(0.0, 0.1, CONTEXTS)[:, None]

    def against(self, opponents, *, counts=None, player=0):
        return super().against(opponents, counts=counts) + self.bonus


def made(kind, rng, *batch):
    matrix = random_matrix(rng, SIZE, *batch, CONTEXTS)
    levels = rng.integers(0, SIZE, size=(*batch, 4, CONTEXTS, SIZE))
    utilities = 2 * rng.standard_normal((*batch, 2, CONTEXTS, SIZE))
    return {
        "pairwise": lambda: Pairwise(matrix),
        "plackett-luce": lambda: PlackettLuce(utilities, [1, 2]),
        "rankings": lambda: Rankings(levels),
        "strict": lambda: Rankings(np.argsort(rng.random(levels.shape), axis=-1)),
        "population": lambda: Population(levels, None, utilities, [1, 2]),
        "mixture": lambda: Mixture([Pairwise(matrix), Rankings(levels)], [1, 2]),
        "heterogeneous": lambda: Heterogeneous([Pairwise(matrix), Rankings(levels), PlackettLuce(utilities)]),
        "reward": lambda: Reward(rng.standard_normal((*batch, CONTEXTS, SIZE))),
        "tensor": lambda: DenseTensor(rng.random((CONTEXTS, *(SIZE,) * PLAYERS)), PLAYERS),
        "somebody's own": lambda: Undivided(matrix),
        "louder": lambda: Louder(matrix),
    }[kind]()


KINDS = ("pairwise", "plackett-luce", "rankings", "strict", "population", "mixture", "heterogeneous", "reward",
         "tensor", "somebody's own", "louder")  # fmt: skip
CHOICES = ([3], [4, 1], slice(1, 4), np.array([0, 0, 2]))


@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_answers_as_the_whole_does(kind, asked_before):
    """Also if tables were made before (asked_before), and if what is taken apart is a part itself."""
    rng = np.random.default_rng(0)
    oracle = made(kind, rng)
    policies = random_policies(rng, PLAYERS, CONTEXTS, SIZE)
    if asked_before:
        oracle.win_probabilities(policies)
    parts = [(oracle.at(places), np.arange(CONTEXTS)[places]) for places in CHOICES]
    parts.append((oracle.at([4, 2, 0]).at([2, 1]), np.array([0, 2])))
    for part, places in parts:
        assert (part.contexts, part.responses) == (places.size, SIZE)
        assert (part.players, part.batch_shape) == (oracle.players, oracle.batch_shape)
        assert part.total_value(PLAYERS) == oracle.total_value(PLAYERS)
        there = policies[:, places]
        for found, whole in (
            (part.win_probabilities(there), oracle.win_probabilities(policies)[:, places]),
            (part.against(there[1:], player=2), oracle.against(policies[1:], player=2)[places]),
            (part.gradient(there[1:], player=2), oracle.gradient(policies[1:], player=2)[:, places]),
        ):
            np.testing.assert_allclose(found, whole, rtol=0, atol=2e-15)
        if oracle.exchangeable and oracle.players is None:
            np.testing.assert_allclose(
                part.pairwise_matrix(), oracle.pairwise_matrix()[places], rtol=0, atol=2e-15
            )


@pytest.mark.parametrize(
    "kind", ["pairwise", "plackett-luce", "rankings", "reward", "mixture", "heterogeneous"]
)
def test_a_part_of_a_batch_is_a_batch_of_parts(kind):
    rng = np.random.default_rng(1)
    oracle = made(kind, rng, 2)
    policies = random_policies(rng, 2, PLAYERS, CONTEXTS, SIZE)
    found = oracle.at([3, 1]).win_probabilities(policies[..., [3, 1], :])
    np.testing.assert_allclose(found, oracle.win_probabilities(policies)[..., [3, 1], :], rtol=0, atol=2e-15)


def test_a_place_that_does_not_exist_is_refused():
    for kind in KINDS:
        with pytest.raises(IndexError):
            made(kind, np.random.default_rng(2)).at([CONTEXTS])


def test_parts_of_an_ordered_tensor_may_be_exchangeable():
    """The order of the opponents matters in the second context alone."""
    rng = np.random.default_rng(3)
    table = rng.random((2, SIZE, SIZE, SIZE))
    table[0] = (table[0] + table[0].swapaxes(1, 2)) / 2
    oracle = DenseTensor(table, PLAYERS)
    assert not oracle.exchangeable
    assert oracle.at([0]).exchangeable
    assert not oracle.at([1]).exchangeable
