"""Annotators who rank: ties, many players, and the quadrature."""

import numpy as np

from mnpo import Rankings
from support import enumerate_wins, population_win, random_policies, ranking_win


def test_pure_policies_take_the_path_without_division():
    # Zero factors take the path without division.
    levels = np.array([[0, 1, 2, 3], [2, 2, 0, 1]])
    policies = np.eye(4)[[3, 0, 0, 2, 1]]
    expected = enumerate_wins(population_win([ranking_win(row) for row in levels], np.ones(2)), policies)
    np.testing.assert_allclose(
        Rankings(levels).win_probabilities(policies[:, None])[:, 0], expected, atol=1e-15
    )


def test_many_players_need_fewer_nodes_without_losing_digits():
    """The quadrature of rankings stops at a proven bound; the exact number of nodes is the yardstick."""
    from mnpo.oracles import rankings

    rng = np.random.default_rng(0)
    oracle = Rankings(np.argsort(rng.random((50, 40)), axis=-1))
    policies = random_policies(rng, 40, 1, 40)
    fast = oracle.win_probabilities(policies)
    bound = rankings.QUADRATURE_ERROR
    try:
        rankings.QUADRATURE_ERROR = 0.0
        exact = oracle.win_probabilities(policies)
    finally:
        rankings.QUADRATURE_ERROR = bound
    np.testing.assert_allclose(fast, exact, atol=3e-16)


def test_a_thousand_players_win_at_known_odds():
    """One annotator, a strict order, all uniform: the best-placed response beats 999 others at known odds."""
    size, players = 5, 1000
    uniform = np.full((1, 1, size), 1 / size)
    wins = Rankings([np.arange(size)]).against(uniform, counts=(players - 1,))[0]
    top = np.arange(size, 0, -1) / size  # mass at or below each response
    exact = (top**players - (top - 1 / size) ** players) / (players / size)
    np.testing.assert_allclose(wins, exact, atol=1e-13)
