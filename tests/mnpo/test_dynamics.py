"""Update rules as data, and the tabular executor against loops written out by hand."""

import numpy as np
import pytest

from mnpo import (
    Game,
    Heterogeneous,
    Pairwise,
    PlackettLuce,
    Rankings,
    UpdateRule,
    inpo,
    make_rule,
    mwu,
    nash_conv,
    run,
    solve,
    td_mnpo,
)
from mnpo.rules import Own, Reference, WinRate
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
def test_td_mnpo_by_hand(advantage):
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


def test_two_players_of_td_mnpo_are_inpo():
    game = Game(Pairwise(random_matrix(np.random.default_rng(2), 5)), 2, 0.1)
    np.testing.assert_array_equal(
        run(game, td_mnpo(0.5, 0.1, players=2), 50).policies, run(game, inpo(0.5, 0.1), 50).policies
    )


def test_players_change_nothing_in_pairwise_updates():
    """Fact (spec §3): from a common start every update of the n-player game is the two-player one."""
    rng = np.random.default_rng(3)
    oracle, reference = Pairwise(random_matrix(rng, 5)), random_policies(rng, 5)
    for rule in (inpo(0.4, 0.05), mwu(0.4)):
        two, many = (run(Game(oracle, n, 0.05, reference), rule, 40) for n in (2, 6))
        np.testing.assert_allclose(many.policies[0], two.policies[0], atol=1e-14)
        np.testing.assert_allclose(many.gap / 6, two.gap / 2, atol=1e-15)


def test_symmetric_play_is_the_play_of_all_players():
    """One policy iterated for all equals all iterated separately (the reference written out per player)."""
    rng = np.random.default_rng(4)
    oracle = Rankings(rng.integers(0, 4, size=(7, 4)))
    game = Game(oracle, 3, 0.1)
    start = np.tile(random_policies(rng, 4), (3, 1, 1))
    shared = run(game, td_mnpo(0.5, 0.1, players=3), 30, start=start)
    assert shared.log_policies.shape[-3] == 1
    nearly = start.copy()
    nearly[0, 0] += 1e-15 * np.array([1, -1, 0, 0])
    separate = run(game, td_mnpo(0.5, 0.1, players=3), 30, start=nearly)
    assert separate.log_policies.shape[-3] == 3
    np.testing.assert_allclose(separate.policies, shared.policies, atol=1e-13)


@pytest.mark.parametrize("players", [2, 4])
def test_rules_stand_still_at_the_equilibrium_and_reach_it(players):
    rng = np.random.default_rng(5)
    oracle = Rankings(rng.integers(0, 5, size=(9, 5)))
    game = Game(oracle, players, 0.1, random_policies(rng, 5))
    exact = solve(game).policies
    for rule in (inpo(0.5, 0.1), td_mnpo(0.5, 0.1, players), td_mnpo(0.2, 0.1, players, "population")):
        assert np.isclose(rule.tau, 0.1)
        still = run(game, rule, 10, start=exact)
        np.testing.assert_allclose(still.policies, exact, atol=1e-13)
        assert not still.diverged
        moving = run(game, rule, 3000, every=100)
        np.testing.assert_allclose(moving.policies, exact, atol=1e-9)
        assert moving.gap[-1] == pytest.approx(nash_conv(game, moving.policies), abs=1e-15)


def test_heterogeneous_players_reach_their_equilibrium():
    rng = np.random.default_rng(6)
    game = Game(Heterogeneous([Pairwise(random_matrix(rng, 4)) for _ in range(3)]), 3, [0.2, 0.1, 0.15])
    found = run(game, inpo(0.5, game.player_tau), 3000, every=500)
    assert found.gap[-1] < 1e-12
    np.testing.assert_allclose(found.policies, solve(game).policies, atol=1e-6)


def test_the_average_of_mwu_converges_and_the_last_iterate_does_not():
    rps = Pairwise([[0.5, 0.25, 0.95], [0.75, 0.5, 0.25], [0.05, 0.75, 0.5]])
    found = run(Game(rps, 2, 0.0), mwu(0.02), 20_000, every=2000, average=True)
    assert found.average_gap[-1] < 0.01
    assert found.gap[-1] > found.gap[0]
    assert found.diverged
    # and the mean is the mean of the iterates
    short = run(Game(rps, 2, 0.0), mwu(0.02), 7, average=True, keep_policies=True)
    np.testing.assert_allclose(short.average, short.recorded_policies.mean(axis=0), atol=1e-15)


def test_a_batch_is_many_games_and_many_steps():
    rng = np.random.default_rng(7)
    matrices = random_matrix(rng, 4, 3, 1)  # three games, one context
    etas = np.array([0.1, 0.5, 1.0])
    batch = Game(Pairwise(matrices), 2, 0.05)
    together = run(batch, td_mnpo(etas[:, None], 0.05, 3), 25, every=5)
    assert together.gap.shape == (6, 3)
    for b in range(3):
        alone = run(Game(Pairwise(matrices[b]), 2, 0.05), td_mnpo(etas[b], 0.05, 3), 25, every=5)
        np.testing.assert_allclose(together.policies[b], alone.policies, atol=1e-15)
        np.testing.assert_allclose(together.gap[:, b], alone.gap, atol=1e-15)


def test_batches_of_steps_and_starts_on_one_game():
    rng = np.random.default_rng(8)
    game = Game(Pairwise(random_matrix(rng, 4)), 2, 0.05)
    starts = random_policies(rng, 6, 1, 1, 4)
    found = run(game, inpo(np.linspace(0.1, 1, 6)[:, None], 0.05), 10, start=starts)
    assert found.policies.shape == (6, 2, 1, 4)
    for b in range(6):
        alone = run(game, inpo(0.1 + 0.18 * b, 0.05), 10, start=starts[b])
        np.testing.assert_allclose(found.policies[b], alone.policies, atol=1e-14)


def test_steps_too_long_are_reported():
    rps = Pairwise([[0.5, 0.0, 1.0], [1.0, 0.5, 0.1], [0.0, 0.9, 0.5]])
    found = run(Game(rps, 2, 0.01), inpo(50.0, 0.01), 200)
    assert found.diverged
    assert np.isfinite(found.gap).all()


def test_recording():
    game = Game(Pairwise(np.full((2, 2), 0.5)), 2, 0.1)
    seen = []
    found = run(game, inpo(0.5, 0.1), 25, every=10, progress=seen.append)
    assert found.steps.tolist() == seen == [0, 10, 20, 25]
    assert found.gap.shape == (4,)
    assert run(game, inpo(0.5, 0.1), 0).steps.tolist() == [0]
    with pytest.raises(ValueError, match="every"):
        run(game, inpo(0.5, 0.1), 5, every=0)
    with pytest.raises(ValueError, match="greater than 0"):
        run(game, inpo(0.5, 0.1), 5, start=[1.0, 0.0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: inpo(-1.0, 0.1), "eta must be above 0"),
        (lambda: inpo(20.0, 0.1), "at most 1/tau"),
        (lambda: td_mnpo(0.5, 0.1, players=1), "at least 2"),
        (lambda: td_mnpo(0.5, 0.1, 3, weights=[1.0]), "2 numbers"),
        (lambda: td_mnpo(0.5, 0.1, 3, advantage="curent"), "did you mean 'current'"),
        (lambda: make_rule("td-mpno", eta=1, tau=0.1), "did you mean 'td-mnpo'"),
        (lambda: make_rule("inpo", eta=1, tau=0.1, advantage="current"), "takes no advantage"),
        (lambda: UpdateRule("x", 1.0, ((Reference(), 0.5), (Own(), 0.4)), ((WinRate(), 1.0),)), "sum to 1"),
        (lambda: UpdateRule("x", 1.0, ((Own(-1), 1.0),), ((WinRate(), 1.0),)), "lags"),
    ],
)
def test_bad_rules_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_published_configuration_aims_at_tau():
    """Spec §5: inverse step 0.0075 and ratio 1/3 are η = 133.3, λ_ref = 1/3, τ = 0.0025."""
    rule = td_mnpo(1 / 0.0075, 0.0025, players=3)
    assert rule.reference_weight == pytest.approx(1 / 3)
    assert rule.tau == pytest.approx(0.0025)
    assert rule.depth == 2
