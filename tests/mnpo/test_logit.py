"""The principal branch against Gambit, which follows it by a program of its own."""

import numpy as np
import pytest

from mnpo import DenseTensor, Game, Heterogeneous, Pairwise, PlackettLuce, Rankings, solve
from mnpo.sim.catalogue import make_game
from support import random_matrix


@pytest.mark.parametrize(("players", "size"), [(2, 4), (3, 3), (4, 2)])
def test_general_sum_games_end_where_gambit_does(players, size):
    """With a uniform reference the equilibrium is the logit QRE at λ = 1/τ, along folds of the branch too."""
    pygambit = pytest.importorskip("pygambit")
    for seed in range(6, 11):  # seeds 8 and 9 with four players fold
        rng = np.random.default_rng(seed)
        tables = [rng.random((size,) * players) for _ in range(players)]
        payoffs = [np.moveaxis(table, 0, player) for player, table in enumerate(tables)]
        outside = pygambit.Game.from_arrays(*payoffs)
        for tau in (0.5, 0.1, 0.03):
            profile = pygambit.qre.logit_solve_lambda(outside, [1 / tau])[0].profile
            expected = [[profile[s] for s in player.strategies] for player in outside.players]
            found = solve(Game(Heterogeneous([DenseTensor(table) for table in tables]), players, tau))
            np.testing.assert_allclose(found.policies[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("seed", [187, 191, 347, 388, 677, 773, 12, 13, 14, 15])
def test_the_branch_is_not_left_where_long_strides_jump(seed):
    """Games with several equilibria on which a careless path lands on another branch."""
    pygambit = pytest.importorskip("pygambit")
    rng = np.random.default_rng(1000 + seed)
    players, size = 2 + seed % 2, int(rng.integers(2, 5))
    tables = [rng.random((size,) * players) for _ in range(players)]
    tau = 10 ** rng.uniform(-2.3, -1)
    outside = pygambit.Game.from_arrays(*[np.moveaxis(t, 0, i) for i, t in enumerate(tables)])
    profile = pygambit.qre.logit_solve_lambda(outside, [1 / tau])[0].profile
    expected = [[profile[s] for s in player.strategies] for player in outside.players]
    found = solve(Game(Heterogeneous([DenseTensor(t, players=players) for t in tables]), players, tau))
    np.testing.assert_allclose(found.policies[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("players", [2, 3, 4])
@pytest.mark.parametrize("kind", ["plackett-luce", "rankings"])
def test_group_oracles_end_where_gambit_does(players, kind):
    pygambit = pytest.importorskip("pygambit")
    rng = np.random.default_rng(players)
    oracle = (
        PlackettLuce(2 * rng.standard_normal(3))
        if kind == "plackett-luce"
        else Rankings([[0, 1, 2], [1, 2, 0], [2, 0, 1]], [0.4, 0.35, 0.25])
    )
    table = DenseTensor.from_oracle(oracle, players).tensor[0]
    outside = pygambit.Game.from_arrays(*[np.moveaxis(table, 0, player) for player in range(players)])
    for tau in (0.5, 0.1):
        profile = pygambit.qre.logit_solve_lambda(outside, [1 / tau])[0].profile
        expected = [[profile[s] for s in player.strategies] for player in outside.players]
        found = solve(Game(oracle, players, tau))
        np.testing.assert_allclose(found.policies[:, 0], expected, atol=1e-6)
        np.testing.assert_allclose(
            solve(Game(DenseTensor(table), players, tau)).policies, found.policies, atol=1e-12
        )


def test_general_sum_games_are_followed_to_small_tau():
    for players in (2, 4):
        for seed in range(5):
            found = solve(
                make_game(f"committee:conflict=3,seed={seed}", players=players).game(players, 0.001)
            )
            assert found.certificate.holds


def test_references_of_tiny_mass_do_not_stop_newton():
    for seed in (375, 3, 4):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(3, 30))
        matrix, reference = random_matrix(rng, size), np.ones(size)
        reference[rng.random(size) < 0.4] = 10.0 ** -rng.integers(6, 14)
        found = solve(Game(Pairwise(matrix), 2, 1e-4, reference / reference.sum()))
        assert found.certificate.holds


def test_a_start_near_the_solution_saves_the_branch():
    game = Game(Pairwise(random_matrix(np.random.default_rng(6), 8)), 2, 0.01)
    cold = solve(game)
    warm = solve(game, start=cold.policies)
    assert warm.iterations < cold.iterations
    np.testing.assert_allclose(warm.policies, cold.policies, atol=1e-13)
