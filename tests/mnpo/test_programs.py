"""The convex and the linear program against Newton's method, HiGHS and known mixtures."""

import numpy as np
import pytest
from scipy.optimize import linprog

from mnpo import Game, Pairwise, solve
from mnpo.programs import convex_program
from mnpo.sim.catalogue import make_game
from support import random_matrix, random_policies


@pytest.mark.parametrize("tau", [0.5, 0.05, 0.005])
def test_the_convex_program_ends_where_newton_does(tau):
    rng = np.random.default_rng(0)
    for size in (2, 5, 12):
        game = Game(Pairwise(random_matrix(rng, size)), 2, tau, random_policies(rng, size))
        newton, convex = solve(game), solve(game, "convex")
        assert newton.method == "newton"
        assert convex.method == "convex"
        np.testing.assert_allclose(convex.policies, newton.policies, atol=2e-5)
        _, value = convex_program(game.pairwise_matrix()[0], game.log_reference[:, 0], np.array([tau]))
        # The objective is NashConv, docs/concepts.md (7): its optimum is 0.
        assert value == pytest.approx(0.0, abs=1e-8)


def test_the_convex_program_takes_unlike_players():
    """The same sum over players is convex for polymatrix constant-sum games."""
    rng = np.random.default_rng(1)
    game = Game(Pairwise(random_matrix(rng, 4)), 3, [0.3, 0.1, 0.05], reference=random_policies(rng, 3, 1, 4))
    newton, convex = solve(game), solve(game, "convex")
    assert newton.exploitability.max() < 1e-14
    np.testing.assert_allclose(convex.policies, newton.policies, atol=1e-5)


def test_unequal_tau_alone_makes_players_unlike():
    """The reference shared, τ not: the certificate must solve the program of unlike players."""
    game = Game(Pairwise(random_matrix(np.random.default_rng(1), 6)), 2, [0.05, 0.5])
    found = solve(game)
    assert found.certificate.holds, found.certificate.as_dict()
    np.testing.assert_allclose(solve(game, "convex").policies, found.policies, atol=1e-4)
    with pytest.raises(ValueError, match="one for each reference"):
        convex_program(game.pairwise_matrix()[0], game.log_reference[:, 0], np.array([0.05, 0.5]))


def test_without_regularisation_the_maximin_policy_of_highs_is_found():
    rng = np.random.default_rng(3)
    for size in (3, 6, 15):
        matrix = random_matrix(rng, size)
        found = solve(Game(Pairwise(matrix), 2, 0.0))
        assert found.method == "linear"
        assert found.certificate.holds
        # Random margins are generic, so the equilibrium is unique and any correct solver finds it.
        outside = linprog(
            np.append(np.zeros(size), -1.0),
            A_ub=np.hstack([-matrix.T, np.ones((size, 1))]),
            b_ub=np.zeros(size),
            A_eq=np.append(np.ones(size), 0)[None],
            b_eq=[1],
            bounds=[(0, None)] * size + [(None, None)],
            method="highs",
        )
        np.testing.assert_allclose(found.policies[0, 0], outside.x[:size], atol=1e-6)
        # and the regularised equilibria tend to it
        near = solve(Game(Pairwise(matrix), 2, 1e-6))
        np.testing.assert_allclose(near.policies[0, 0], found.policies[0, 0], atol=1e-3)


def test_biased_rock_paper_scissors_has_its_known_mixture():
    # Each response is played in proportion to the margin between the other two.
    found = solve(make_game("rps:bias=0.2,strength=0.25").game(4, 0.0))
    np.testing.assert_allclose(found.policies[0, 0], np.array([0.25, 0.45, 0.25]) / 0.95, atol=1e-14)


def test_of_several_optima_the_one_of_maximum_entropy_is_found():
    tied = np.array([[0.5, 0.5, 0.9], [0.5, 0.5, 0.6], [0.1, 0.4, 0.5]])
    np.testing.assert_allclose(solve(Game(Pairwise(tied), 2, 0.0)).policies[0, 0], [0.5, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(
        solve(Game(Pairwise(np.full((4, 4), 0.5)), 2, 0.0)).policies[0, 0], np.full(4, 0.25), atol=1e-12
    )
    # A copied response shares what it had alone.
    index = [0, 1, 2, 0]
    rps = make_game("rps:bias=0").oracle.matrix[0][np.ix_(index, index)]
    np.testing.assert_allclose(
        solve(Game(Pairwise(rps), 2, 0.0)).policies[0, 0], [1 / 6, 1 / 3, 1 / 3, 1 / 6], atol=1e-12
    )


@pytest.mark.parametrize("margins", [(0.5, 0.4, 1e-8), (0.5, 1e-8, 1e-8), (1e-9, 2e-9, 3e-9)])
def test_tiny_margins_are_no_obstacle(margins):
    first, second, third = margins
    skew = np.array([[0, -first, third], [first, 0, -second], [-third, second, 0]])
    found = solve(Game(Pairwise(0.5 + skew), 2, 0.0)).policies[0, 0]
    expected = np.array([second, third, first]) / sum(margins)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_many_copies_share_evenly():
    rng = np.random.default_rng(0)
    plain, index = random_matrix(rng, 60), rng.integers(0, 60, 120)
    found = solve(Game(Pairwise(plain[np.ix_(index, index)]), 2, 0.0))
    assert found.certificate.holds
    for kind in np.unique(index):
        assert np.ptp(found.policies[0, 0, index == kind]) < 1e-12
