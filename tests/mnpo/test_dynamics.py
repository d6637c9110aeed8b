"""Trajectories: where rules go, with how many players, in batches, and what is recorded."""

import numpy as np
import pytest

from mnpo import (
    Game,
    Heterogeneous,
    Pairwise,
    Rankings,
    egpo,
    inpo,
    make_rule,
    mwu,
    nash_conv,
    onpo,
    run,
    solve,
    td_mnpo,
)
from mnpo.rates import local_rate
from support import random_matrix, random_policies


def test_the_number_of_players_changes_nothing_in_pairwise_updates():
    """docs/concepts.md, (2): from a common start every update of the n-player game is the two-player one."""
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


def test_steps_that_are_too_long_are_reported_as_diverged():
    rps = Pairwise([[0.5, 0.0, 1.0], [1.0, 0.5, 0.1], [0.0, 0.9, 0.5]])
    found = run(Game(rps, 2, 0.01), inpo(50.0, 0.01), 200)
    assert found.diverged
    assert np.isfinite(found.gap).all()


def test_figures_are_recorded_at_the_start_at_intervals_and_at_the_end():
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


def test_ht_mnpo_settles_at_a_consensus_that_is_no_equilibrium():
    """docs/concepts.md, "Players who want different things": anchored on the opponents it does not reach an equilibrium, on itself it does."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        game = Game(Heterogeneous([Pairwise(random_matrix(rng, 6)) for _ in range(3)]), 3, 0.05)
        ends = {
            anchor: run(game, make_rule("ht-mnpo", eta=0.5, tau=0.05, anchor=anchor), 4000, every=1000)
            for anchor in ("opponents", "own")
        }
        assert ends["own"].exploitability[-1].max() < 1e-12
        np.testing.assert_allclose(ends["own"].policies, solve(game).policies, atol=1e-6)
        assert ends["opponents"].exploitability[-1].max() > 0.01
        consensus = local_rate(make_rule("ht-mnpo", eta=0.5, tau=0.05), game)
        np.testing.assert_allclose(consensus.policies, ends["opponents"].policies, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "best", "updates"),
    [
        (lambda eta: inpo(eta, 0.01), None, 6300),
        (lambda eta: td_mnpo(eta, 0.01, 3), None, 2000),
        (lambda eta: td_mnpo(eta, 0.01, 4), None, 330),
        (lambda eta: onpo(eta, 0.01), None, 400),
        (lambda eta: egpo(eta, 0.01), None, 150),
    ],
    ids=["inpo", "td-mnpo-3", "td-mnpo-4", "onpo", "egpo"],
)
def test_updates_to_a_gap_of_1e_9_are_as_many_as_stated(build, best, updates):
    """docs/concepts.md, (13), on one instance: A = 10, random P and π_ref, τ = 0.01. Within a factor of two of its figures."""
    rng = np.random.default_rng(0)
    game = Game(Pairwise(random_matrix(rng, 10)), 2, 0.01, random_policies(rng, 10))
    fewest = np.inf
    for eta in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10):
        gap = run(game, build(eta), 7000, every=10).gap
        reached = np.flatnonzero(gap < 1e-9)
        fewest = min(fewest, 10 * reached[0] if reached.size else np.inf)
    assert updates / 2 <= fewest <= 2 * updates
