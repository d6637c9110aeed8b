"""Gaps against their definitions, maximised by a general-purpose optimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, rel_entr

from mnpo import (
    DenseTensor,
    Game,
    GapUndefined,
    Heterogeneous,
    Pairwise,
    PlackettLuce,
    Rankings,
    dual_gap,
    exploitability,
    nash_conv,
    solve,
    worst_case_gap,
)
from support import random_matrix, random_policies


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def kl(p, q):
    return float(rel_entr(p, q).sum())


def best(function, size):
    """max over the simplex of a concave function, from several starts."""
    starts = [np.zeros(size), *(3 * np.eye(size))]
    return max(-minimize(lambda x: -function(softmax(x)), start, tol=1e-13).fun for start in starts)


@pytest.fixture
def two_player():
    rng = np.random.default_rng(0)
    matrix, reference = random_matrix(rng, 3), random_policies(rng, 3)
    tau = 0.2

    def payoff(first, second):
        return first @ matrix @ second - tau * kl(first, reference) + tau * kl(second, reference)

    return matrix, reference, tau, payoff, random_policies(rng, 3)


def test_exploitability_is_the_gain_of_a_best_response():
    rng = np.random.default_rng(1)
    game = Game(
        Heterogeneous(
            [Pairwise(random_matrix(rng, 3)), PlackettLuce(rng.standard_normal(3)), Rankings([[0, 1, 1]])]
        ),
        players=3,
        tau=[0.3, 0.1, 0.05],
        reference=random_policies(rng, 3, 1, 3),
    )
    policies = random_policies(rng, 3, 1, 3)
    payoffs = game.payoffs(policies)

    def payoff_of(i, policy):
        changed = policies.copy()
        changed[i, 0] = policy
        return float(game.payoffs(changed)[i])

    expected = [best(lambda p, i=i: payoff_of(i, p), 3) - payoffs[i] for i in range(3)]
    np.testing.assert_allclose(exploitability(game, policies), expected, atol=1e-9)
    np.testing.assert_allclose(nash_conv(game, policies), sum(expected), atol=1e-9)


def test_exploitability_without_regularisation_and_mixed():
    rng = np.random.default_rng(2)
    oracle, policies = Pairwise(random_matrix(rng, 4)), random_policies(rng, 2, 1, 4)
    wins = oracle.win_probabilities(policies)
    gains = wins.max(-1)[:, 0] - (policies * wins).sum(-1)[:, 0]
    np.testing.assert_allclose(exploitability(Game(oracle, 2, 0.0), policies), gains, atol=1e-15)
    mixed = exploitability(Game(oracle, 2, [0.0, 0.1]), policies)
    alone = exploitability(Game(oracle, 2, 0.1), policies)
    np.testing.assert_allclose(mixed, [gains[0], alone[1]], atol=1e-15)


def test_dual_gap_is_its_definition_and_twice_the_exploitability(two_player):
    """docs/concepts.md, (8)."""
    matrix, reference, tau, payoff, policy = two_player
    game = Game(Pairwise(matrix), 2, tau, reference)
    expected = best(lambda p: payoff(p, policy), 3) + best(lambda p: -payoff(policy, p), 3)
    assert dual_gap(game, policy) == pytest.approx(expected, abs=1e-9)
    assert dual_gap(game, policy) == pytest.approx(2 * exploitability(game, policy)[0], rel=1e-14)
    assert dual_gap(game, policy) == pytest.approx(nash_conv(game, policy), rel=1e-14)


@pytest.mark.parametrize("players", [2, 3, 5])
def test_worst_case_gap_is_its_definition(two_player, players):
    """docs/concepts.md, (9): the nested maximum and minimum over all the others, optimised as they stand."""
    matrix, reference, tau, payoff, policy = two_player
    n = players

    def worst_payoff(candidate):
        # min over π' of ⟨candidate, P π'⟩ + τ KL(π' ‖ π_ref) is a free energy.
        free = -tau * logsumexp(-(candidate @ matrix) / tau, b=reference)
        return free - tau * kl(candidate, reference)

    candidate = np.array([0.2, 0.5, 0.3])
    assert worst_payoff(candidate) == pytest.approx(-best(lambda p: -payoff(candidate, p), 3), abs=1e-9)

    def against_others(candidate):
        # All n−2 free opponents minimise the same mean, so they are one and the same policy.
        return (payoff(candidate, policy) + (n - 2) * worst_payoff(candidate)) / (n - 1)

    def objective(x):
        return -against_others(softmax(np.append(x, 0.0)))

    challenger = -min(
        minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).fun
        for start in ([0.0, 0.0], [2.0, -1.0])
    )
    expected = challenger + best(lambda p: -payoff(policy, p), 3)
    game = Game(Pairwise(matrix), n, tau, reference)
    assert worst_case_gap(game, policy) == pytest.approx(expected, abs=1e-8)
    if n == 2:
        assert worst_case_gap(game, policy) == pytest.approx(dual_gap(game, policy), abs=1e-12)


def test_worst_case_gap_without_regularisation(two_player):
    matrix, _, _, _, policy = two_player
    expected = {}
    for tau in (0.0, 1e-5):
        expected[tau] = worst_case_gap(Game(Pairwise(matrix), 4, tau), policy)
    assert expected[0.0] == pytest.approx(expected[1e-5], abs=2e-4)


def test_gaps_vanish_at_the_equilibrium(two_player):
    matrix, reference, tau, _, _ = two_player
    for players in (2, 4):
        game = Game(Pairwise(matrix), players, tau, reference)
        policy = solve(game).policies[:1]
        assert nash_conv(game, policy) < 1e-14
        assert dual_gap(game, policy) < 1e-14
        assert worst_case_gap(game, policy) < 1e-13


def test_undefined_gaps_are_refused_with_the_reason():
    rng = np.random.default_rng(3)
    group = Game(PlackettLuce(rng.standard_normal(3)), 3, 0.1)
    uniform = np.full(3, 1 / 3)
    with pytest.raises(GapUndefined, match="not pairwise"):
        dual_gap(group, uniform)
    with pytest.raises(GapUndefined, match="pairwise"):
        worst_case_gap(group, uniform)
    table = Game(DenseTensor(rng.random((3, 3))), 2, 0.1)
    with pytest.raises(GapUndefined, match="P \\+ Pᵀ = 1"):
        dual_gap(table, uniform)
    unlike = Game(Pairwise(random_matrix(rng, 3)), 2, [0.1, 0.2])
    with pytest.raises(GapUndefined, match="identical"):
        dual_gap(unlike, uniform)


def test_gaps_average_over_contexts_by_their_weights():
    rng = np.random.default_rng(4)
    matrix, policy, weights = random_matrix(rng, 3, 2), random_policies(rng, 2, 3), [0.25, 0.75]
    both = Game(Pairwise(matrix), 3, 0.1, context_weights=weights)
    alone = [exploitability(Game(Pairwise(matrix[x]), 3, 0.1), policy[x])[0] for x in range(2)]
    np.testing.assert_allclose(exploitability(both, policy), np.dot(weights, alone), atol=1e-15)


@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_the_worst_case_gap_averages_over_contexts_in_blocks_too(tau, monkeypatch):
    rng = np.random.default_rng(5)
    matrix, policy, weights = random_matrix(rng, 3, 3), random_policies(rng, 3, 3), np.array([0.2, 0.3, 0.5])
    game = Game(Pairwise(matrix), 4, tau, context_weights=weights)
    alone = [worst_case_gap(Game(Pairwise(matrix[x]), 4, tau), policy[x]) for x in range(3)]
    assert worst_case_gap(game, policy) == pytest.approx(weights @ alone, abs=1e-13)
    monkeypatch.setattr("mnpo.games.BLOCK", 2 * 3**2)
    assert worst_case_gap(game, policy) == pytest.approx(weights @ alone, abs=1e-13)
