"""The sample game: against plain games with the pair left out, over all draws; K → ∞; collapse; what is refused."""

import itertools

import numpy as np
import pytest
from scipy.stats import multinomial

from mnpo import Game, Mixture, Pairwise, PlackettLuce, Population, Rankings, prox, solve, update
from mnpo.sample_game import sample_game
from tests.helpers.support import random_matrix, random_policies

STRENGTH = 3.0


def _among(kind, responses):
    """A rule-of-thumb oracle of three actions, asked about a list of responses drawn from them."""
    rng = np.random.default_rng(0)
    matrix, utilities = random_matrix(rng, 3), 2 * rng.standard_normal((2, 3))
    levels = np.argsort(rng.random((4, 3)), axis=-1)
    if kind == "pairwise":
        return Pairwise(matrix[..., responses[..., :, None], responses[..., None, :]])
    valued = PlackettLuce(np.moveaxis(utilities[:, responses], 0, -3)[..., :, :, :])
    if kind == "plackett-luce":
        return valued
    return Mixture([valued, Rankings(np.moveaxis(levels[:, responses], 0, -3))], [0.3, 0.7])


def _plainly(kind, draws, weights, pair, players):
    """Play the games of the others by themselves, one a draw, and ask about the pair with them."""
    others = [k for k in range(draws.shape[1]) if k not in pair]
    alone, count = _among(kind, draws[:, others]), (players - 1,)
    policy = np.zeros(draws.shape)
    policy[:, others] = _settled(weights[:, others], STRENGTH, lambda p: alone.against(p[None], counts=count))
    return _among(kind, draws).against(policy[None], counts=count)[:, list(pair)]


def _settled(weights, strength, wins):
    """The equilibrium by small steps towards the best response: no Newton, no branch."""
    logs = weights
    for _ in range(400):
        policy = np.exp(logs - np.logaddexp.reduce(logs, axis=-1, keepdims=True))
        logs = 0.8 * logs + 0.2 * (weights + strength * wins(policy))
    return policy


@pytest.mark.parametrize(("kind", "players"), [
    ("pairwise", 2), ("pairwise", 5), ("plackett-luce", 2), ("plackett-luce", 3), ("population", 2), ("population", 4),
])  # fmt: skip
def test_expectation_over_all_draws(kind, players):
    """All draws of K = 4 from three actions, each as likely as it is: the advantages and what regression makes of them."""
    policy, target = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    draws = np.array(list(itertools.product(range(3), repeat=4)))
    likely = policy[draws].prod(axis=1)
    logs = np.log(target / policy)[draws]
    pairs = list(itertools.combinations(range(4), 2))
    found = sample_game(_among(kind, draws), logs, pairs, strength=STRENGTH, players=players)
    plain = np.stack([_plainly(kind, draws, logs, pair, players) for pair in pairs], axis=1)
    assert np.abs(found.advantages - plain).max() < 1e-12
    assert np.abs(np.einsum("x,xms->ms", likely, found.advantages - plain)).max() < 1e-12
    weights = np.exp(logs)
    assert np.allclose(found.effective, weights.sum(1) ** 2 / (weights**2).sum(1), rtol=1e-12)


def test_many_responses_tend_to_the_implicit_step():
    """The bias falls as 1/K: the slope of its logarithm is −1."""
    rng, eta, tau = np.random.default_rng(1), 4.0, 0.05
    game = Game(Pairwise(random_matrix(rng, 3)), 2, tau, reference=[0.2, 0.3, 0.5])
    policy = random_policies(rng, 3)
    after = update(game, prox(eta, tau), [policy])
    exact = game.win_probabilities(np.exp(after))[0, 0]
    weights = eta * tau * (game.log_reference[0, 0] - np.log(policy))
    sizes, errors = [6, 12, 24, 48], []
    for size in sizes:
        # What is expected of a pair: the others are counted, not listed, and all their counts are gone through.
        counts = np.array([(i, j, size - 2 - i - j) for i in range(size - 1) for j in range(size - 1 - i)])
        likely = multinomial.pmf(counts, size - 2, policy)
        reference = np.log(np.maximum(counts, 1e-300)) + weights
        others = _settled(reference, eta, lambda p: p @ game.oracle.matrix[0].T)
        total = likely @ others @ game.oracle.matrix[0].T
        assert likely.sum() == pytest.approx(1.0)
        gaps = (total - exact) - (total - exact).mean()
        errors.append(np.abs(gaps).max())
        if size == 6:  # the same by drawing, with the function itself
            draws = rng.choice(3, (40_000, size), p=policy)
            pairs = [(0, 1), (2, 3), (4, 5)]
            got = sample_game(Pairwise(game.oracle.matrix[0][draws[:, :, None], draws[:, None]]), weights[draws], pairs,
                              strength=eta)  # fmt: skip
            for action in range(3):
                said = got.advantages[:, :, 0][draws[:, [0, 2, 4]] == action]
                assert said.mean() == pytest.approx(
                    total[action], abs=5 * said.std() / np.sqrt(said.size / 3)
                )
    slope = np.polyfit(np.log(np.array(sizes) - 2), np.log(errors), 1)[0]  # K − 2 stand for the policy
    assert slope == pytest.approx(-1.0, abs=0.05)


def test_a_response_repeated_is_credited_alike():
    credits = sample_game(
        Pairwise(np.full((1, 5, 5), 0.5)), np.zeros((1, 5)), [(0, 1), (2, 4)], strength=10.0
    )
    assert np.array_equal(credits.advantages, np.full((1, 2, 2), 0.5))
    assert credits.effective == pytest.approx([5.0])


def test_collapsed_weights_are_told():
    rng = np.random.default_rng(0)
    weights = np.array([[0.0, 0.0, 0.0, 0.0], [40.0, 0.0, 0.0, 0.0]])
    credits = sample_game(Pairwise(random_matrix(rng, 4, 2)), weights, [(0, 1)], strength=2.0)
    assert credits.collapsed.tolist() == [False, True]
    assert np.isfinite(credits.advantages).all()


def test_hard_games_are_solved_as_well():
    """Certain wins, heavy weights and long steps: the fast solver's answers are those of `solve`."""
    rng = np.random.default_rng(3)
    wins = np.round(random_matrix(rng, 7, 40))
    wins = np.where(np.eye(7, dtype=bool), 0.5, wins)
    weights = 8 * rng.standard_normal((40, 7))
    credits = sample_game(Pairwise(wins), weights, [(2, 5)], strength=60.0)
    others = [0, 1, 3, 4, 6]
    for x in range(40):
        logs = weights[x, others]
        reference = np.exp(logs - np.logaddexp.reduce(logs))
        policy = solve(Game(Pairwise(wins[x][np.ix_(others, others)]), 2, 1 / 60, reference)).policies[0, 0]
        assert credits.advantages[x, 0] == pytest.approx(wins[x][[2, 5]][:, others] @ policy, abs=1e-9)


@pytest.mark.parametrize(
    ("weights", "size", "words"),
    [
        (np.zeros((1, 2)), 2, "at least 3 responses"),
        (np.zeros((1, 4)), 3, "finite numbers"),
        (np.full((1, 3), np.nan), 3, "finite numbers"),
    ],
)
def test_what_is_no_sample_game(weights, size, words):
    with pytest.raises(ValueError, match=words):
        sample_game(Pairwise(np.full((1, size, size), 0.5)), weights, [(0, 1)], strength=1.0)


def test_populations_of_one_matrix():
    """A population of rankings with two players is the pairwise game of its matrix."""
    rng = np.random.default_rng(2)
    people = Population(levels=np.argsort(rng.random((9, 3, 6)), axis=-1))
    weights, pairs = rng.standard_normal((3, 6)), [(0, 5), (1, 2)]
    one = sample_game(people, weights, pairs, strength=5.0)
    other = sample_game(Pairwise(people.pairwise_matrix()), weights, pairs, strength=5.0)
    assert np.abs(one.advantages - other.advantages).max() < 1e-12
