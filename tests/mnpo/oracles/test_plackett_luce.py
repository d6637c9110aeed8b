"""Plackett–Luce payoffs: the error of the quadrature, and utilities far apart."""

import numpy as np
import pytest
from scipy.special import gammaln

from mnpo import PlackettLuce, Rankings
from mnpo.oracles import levels_of
from mnpo.oracles.plackett_luce import _nodes
from support import enumerate_wins, plackett_luce_win, random_policies


@pytest.mark.parametrize("players", [4, 64, 1024])
@pytest.mark.parametrize("span", [0.0, 1.3, 6.1, 40.0])
def test_the_quadrature_is_right_for_every_group(players, span):
    """Payoffs are convex combinations of e^r/λ: what the rule makes of 1/λ for every λ bounds every error."""
    log_nodes, cells = _nodes(span, players)
    total = np.exp(np.linspace(-span, np.log(players), 2001))
    times = np.exp(log_nodes)
    found = np.exp(-total[:, None] * times) @ (times * cells)
    np.testing.assert_allclose(found, 1 / total, rtol=1e-15 * max(1.0, span / 10), atol=0)


def test_payoffs_are_those_of_all_groups():
    rng = np.random.default_rng(1)
    for _ in range(10):
        utilities, policies = 3 * rng.standard_normal(5), random_policies(rng, 4, 5)
        brute = enumerate_wins(plackett_luce_win(utilities), policies)
        ours = PlackettLuce(utilities).win_probabilities(policies[:, None])[:, 0]
        np.testing.assert_allclose(ours, brute, rtol=0, atol=2e-15)


@pytest.mark.parametrize("players", [2, 17, 300])
def test_two_responses_are_a_binomial_sum(players):
    utilities, chance = np.array([0.0, -2.5]), 0.3
    ones = np.arange(players)
    likely = np.exp(
        gammaln(players) - gammaln(ones + 1) - gammaln(players - ones)
        + ones * np.log(chance) + (players - 1 - ones) * np.log(1 - chance)
    )  # fmt: skip
    rates = np.exp(utilities)
    others = (players - 1 - ones) * rates[0] + ones * rates[1]
    expected = [(likely * rate / (rate + others)).sum() for rate in rates]
    policy = np.array([[[1 - chance, chance]]])
    found = PlackettLuce(utilities).against(policy, counts=(players - 1,))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_utilities_far_apart_are_a_ranking():
    utilities = np.array([0.0, 800.0, -2000.0, 1e6])
    policies = random_policies(np.random.default_rng(0), 3, 1, 4)
    ranked = Rankings([levels_of([[3], [1], [0], [2]], 4)])
    np.testing.assert_allclose(
        PlackettLuce(utilities).win_probabilities(policies), ranked.win_probabilities(policies), atol=1e-13
    )
