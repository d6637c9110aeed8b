"""Games: what is refused, and contexts taken apart."""

import numpy as np
import pytest

from mnpo import Game, Heterogeneous, Pairwise, PlackettLuce, Rankings, exploitability
from support import random_matrix, random_policies


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"players": 1}, "at least 2"),
        ({"tau": -0.1}, "tau must be at least 0"),
        ({"tau": [0.1, 0.1, 0.1]}, "tau must be one number or 2"),
        ({"reference": [0.5, 0.5, 0.0]}, "greater than 0"),
        ({"reference": [0.5, 0.5]}, "3 probabilities"),
        ({"reference": [0.5, 0.4, 0.3]}, "sum to 1"),
        ({"responses": ("a", "a", "b")}, "different names"),
    ],
)
def test_bad_games_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Game(Pairwise(np.full((3, 3), 0.5)), **options)


@pytest.mark.parametrize("shape", [None, (3,), (4, 3), (3, 4, 3), (3, 1, 3)])
def test_a_part_of_a_game_is_the_game_of_its_contexts(shape):
    """With references of every shape that a game takes."""
    rng = np.random.default_rng(0)
    levels, weights = rng.integers(0, 3, (5, 4, 3)), np.array([0.1, 0.2, 0.3, 0.4])
    reference = None if shape is None else random_policies(rng, *shape)
    game = Game(Rankings(levels), 3, [0.1, 0.2, 0.3], reference, weights, ("a", "b", "c"))
    places = [3, 1]
    chosen = reference if shape is None or len(shape) < 2 or shape[-2] == 1 else reference[..., places, :]
    alone = Game(Rankings(levels[:, places]), 3, [0.1, 0.2, 0.3], chosen, weights[places], ("a", "b", "c"))
    policies = random_policies(rng, 3, 2, 3)
    part = game.at(places)
    assert part.responses == alone.responses
    np.testing.assert_allclose(part.payoffs(policies), alone.payoffs(policies), atol=1e-15)
    np.testing.assert_allclose(exploitability(part, policies), exploitability(alone, policies), atol=1e-15)


def test_contexts_of_no_weight_are_a_game_as_well():
    game = Game(Pairwise(np.full((3, 2, 2), 0.5)), 2, 0.1, context_weights=[1.0, 0.0, 0.0])
    np.testing.assert_allclose(game.at([1, 2]).context_mean(np.array([1.0, 3.0])), 2.0)


def test_blocks_cover_every_context_once(monkeypatch):
    rng = np.random.default_rng(1)
    weights = rng.random(7)
    game = Game(PlackettLuce(rng.standard_normal((1, 7, 3))), 3, 0.1, context_weights=weights)
    ((block, share, whole),) = game.blocks()
    assert whole is game
    assert (block, share) == (slice(0, 7), 1.0)
    monkeypatch.setattr("mnpo.games.BLOCK", 2 * game.oracle.breadth)
    blocks = list(game.blocks())
    assert [part.contexts for _, _, part in blocks] == [2, 2, 2, 1]
    assert np.concatenate([np.arange(7)[block] for block, _, _ in blocks]).tolist() == list(range(7))
    for block, share, _ in blocks:
        assert share == pytest.approx(weights[block].sum() / weights.sum())


def test_gaps_of_a_batch_are_the_same_in_blocks(monkeypatch):
    rng = np.random.default_rng(2)
    oracle = Heterogeneous([Pairwise(random_matrix(rng, 3, 4, 5)) for _ in range(2)])
    game, policies = Game(oracle, 2, 0.1, context_weights=rng.random(5)), random_policies(rng, 4, 2, 5, 3)
    whole = exploitability(game, policies)
    monkeypatch.setattr("mnpo.games.BLOCK", 1)
    np.testing.assert_allclose(exploitability(game, policies), whole, atol=1e-15)
