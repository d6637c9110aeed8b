"""Oracles whose win probabilities fall where a policy grows, and what follows: one equilibrium, however it is reached."""

import numpy as np
import pytest

from mnpo import (
    DenseTensor,
    Game,
    Heterogeneous,
    Mixture,
    Pairwise,
    PlackettLuce,
    Population,
    Rankings,
    Reward,
    solve,
)
from mnpo.implicit import GamePayoffs
from mnpo.logit import solve_logit
from mnpo.oracles import Oracle
from support import random_matrix, random_policies

SIZE = 5


def made(kind, rng):
    levels, utilities = rng.integers(0, SIZE, (4, SIZE)), 3 * rng.standard_normal((3, 1, SIZE))
    return {
        "pairwise": lambda: Pairwise(random_matrix(rng, SIZE)),
        "plackett-luce": lambda: PlackettLuce(utilities),
        "rankings": lambda: Rankings(levels),
        "population": lambda: Population(levels, None, utilities[:, 0]),
        "mixture": lambda: Mixture([Pairwise(random_matrix(rng, SIZE)), Rankings(levels)], [1, 3]),
        "reward": lambda: Reward(rng.standard_normal(SIZE)),
    }[kind]()


KINDS = ("pairwise", "plackett-luce", "rankings", "population", "mixture", "reward")


def slope(oracle, players, rng):
    """⟨π − π', q(π) − q(π')⟩ of two random policies."""
    policies = rng.dirichlet(np.full(oracle.responses, 0.3), size=2)
    wins = [oracle.against(policy[None, None], counts=(players - 1,))[0] for policy in policies]
    return float((policies[0] - policies[1]) @ (wins[0] - wins[1]))


@pytest.mark.parametrize("kind", KINDS)
def test_win_probabilities_fall_where_a_policy_grows(kind):
    """`mnpo.descent` has the proof; here it is tried on random policies."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        oracle = made(kind, rng)
        assert oracle.contractive
        assert all(slope(oracle, players, rng) < 1e-15 for players in (2, 3, 6))


def test_others_are_not_taken_for_contractive():
    """A response that wins by being like the others has two equilibria."""

    class Louder(Rankings):
        def against(self, opponents, *, counts=None, player=0):
            return 2 * super().against(opponents, counts=counts)

    liked = DenseTensor(np.eye(2), players=2)
    assert slope(liked, 2, np.random.default_rng(0)) > 0
    assert not liked.contractive
    assert not Heterogeneous([Rankings([[0, 1]]), Rankings([[1, 0]])]).contractive
    louder = Louder([[0, 1]])
    assert not louder.contractive
    assert not Mixture([louder]).contractive
    np.testing.assert_allclose(louder.pairwise_matrix()[0], [[1.0, 2.0], [0.0, 1.0]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_two_player_matrix_is_what_single_responses_win(kind):
    oracle = made(kind, np.random.default_rng(1))
    np.testing.assert_allclose(oracle.pairwise_matrix(), Oracle.pairwise_matrix(oracle), rtol=0, atol=2e-15)


@pytest.mark.parametrize("tau", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("kind", ["plackett-luce", "rankings", "population"])
def test_the_one_equilibrium_is_the_branch_from_strong_regularisation(kind, tau):
    """Straight from the reference, or from elsewhere, Newton's method ends where the followed branch does."""
    rng = np.random.default_rng(2)
    for players in (3, 5):
        game = Game(made(kind, rng), players, tau, random_policies(rng, SIZE))
        followed = solve_logit(GamePayoffs(game), np.array(game.log_reference), np.array([tau]))
        for start in (None, rng.dirichlet(np.full(SIZE, 0.2))):
            found = solve(game, start=start)
            assert found.certificate.holds
            np.testing.assert_allclose(found.policies[:1], np.exp(followed.log_policies), rtol=0, atol=1e-12)
        assert solve(game).iterations < followed.iterations.sum() / 3


def test_where_long_steps_fail_the_branch_is_followed(monkeypatch):
    """The branch is the last resort: with no step of the damped method allowed the result is the same."""
    game = Game(made("population", np.random.default_rng(3)), 3, 0.01)
    expected = solve(game)
    monkeypatch.setattr("mnpo.descent.STEPS", 1)
    found = solve(game)
    assert found.certificate.holds
    np.testing.assert_allclose(found.policies, expected.policies, rtol=0, atol=1e-13)
