"""One update against loops written out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from mnpo import Game, Heterogeneous, Pairwise, PlackettLuce, egpo, inpo, mpo, mwu, nash_md, run, td_mnpo
from support import random_matrix, random_policies


def normalised(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def test_mwu_is_equation_10():
    """π_i ∝ (Π_{j≠i} π_j)^{1/(n−1)} e^{η q_i} for three players with different starts."""
    rng = np.random.default_rng(0)
    matrix, start, eta = random_matrix(rng, 4), random_policies(rng, 3, 1, 4), 0.3
    policies = start[:, 0]
    for _ in range(5):
        logs, nexts = np.log(policies), []
        for i in range(3):
            others = [j for j in range(3) if j != i]
            wins = np.mean([matrix @ policies[j] for j in others], axis=0)
            nexts.append(normalised(np.mean(logs[others], axis=0) + eta * wins))
        policies = np.stack(nexts)
    found = run(Game(Pairwise(matrix), 3, 0.0), mwu(eta), 5, start=start)
    np.testing.assert_allclose(found.policies[:, 0], policies, atol=1e-14)


@pytest.mark.parametrize("advantage", ["current", "population"])
def test_td_mnpo_mixes_its_past_as_written_out_by_hand(advantage):
    """Weighted past policies as further players; before time 0 the past is the start."""
    rng = np.random.default_rng(1)
    utilities, reference, start = rng.standard_normal(5), random_policies(rng, 5), random_policies(rng, 5)
    tau, eta, weights = 0.1, 0.7, [0.5, 0.3, 0.2]
    oracle = PlackettLuce(utilities)

    def wins(policy):
        return oracle.win_probabilities(np.tile(policy, (4, 1, 1)))[0, 0]

    past = [start] * 3
    for _ in range(6):
        credit = (
            wins(past[0])
            if advantage == "current"
            else sum(w * wins(p) for w, p in zip(weights, past, strict=True))
        )
        logits = eta * tau * np.log(reference) + eta * credit
        logits = logits + (1 - eta * tau) * sum(w * np.log(p) for w, p in zip(weights, past, strict=True))
        past = [normalised(logits), *past[:2]]
    rule = td_mnpo(eta, tau, players=4, advantage=advantage, weights=weights)
    found = run(Game(oracle, 4, tau, reference), rule, 6, start=start)
    np.testing.assert_allclose(found.policies, np.tile(past[0], (4, 1, 1)), atol=1e-14)


def test_td_mnpo_of_two_players_is_inpo():
    game = Game(Pairwise(random_matrix(np.random.default_rng(2), 5)), 2, 0.1)
    np.testing.assert_array_equal(
        run(game, td_mnpo(0.5, 0.1, players=2), 50).policies, run(game, inpo(0.5, 0.1), 50).policies
    )


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("make", [mpo, nash_md, egpo])
def test_a_refreshed_reference_is_the_reference_of_every_point_of_the_rule(make, alike):
    """Refreshed every two updates, six updates are three runs of two, each from its own start as the reference."""
    rng = np.random.default_rng(3)
    oracle = (
        Pairwise(random_matrix(rng, 4)) if alike else Heterogeneous([Pairwise(random_matrix(rng, 4))] * 3)
    )
    game = Game(oracle, 2 if alike else 3, 0.2, random_policies(rng, 4))
    policies = np.tile(random_policies(rng, 1, 1, 4), (game.players, 1, 1))
    rule = replace(make(0.5, 0.2), refresh=None)
    found = run(game, replace(rule, refresh=2), 6, start=policies)
    for round_ in range(3):
        by_hand = replace(game, reference=policies) if round_ else game
        policies = run(by_hand, rule, 2, start=policies).policies
    np.testing.assert_allclose(found.policies, policies, atol=1e-14)
