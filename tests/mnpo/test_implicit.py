"""Implicit steps: each is an equilibrium, found apart from the step, and shrinks as docs/concepts.md, (14) says."""

import numpy as np
import pytest

from mnpo import (
    Game,
    Heterogeneous,
    Mixture,
    Pairwise,
    PlackettLuce,
    Population,
    Reward,
    UpdateRule,
    comal,
    egpo,
    inpo,
    make_rule,
    nash_prox,
    prox,
    run,
    solve,
    update,
)
from mnpo.rates import frequencies, local_rate
from mnpo.rules import Next, Own, Reference, WinRate, WinRateAt, rule_from_dict
from tests.helpers.support import random_matrix, random_policies

TAU = 0.1


def _oracles(rng, *batch):
    levels = np.argsort(rng.random((*batch, 5, 1, 6)), axis=-1)
    return {
        "pairwise": Pairwise(random_matrix(rng, 6, *batch, 1)),
        "plackett-luce": PlackettLuce(2 * rng.standard_normal((*batch, 1, 1, 6))),
        "population": Mixture(
            [Population(levels=levels), PlackettLuce(rng.standard_normal((*batch, 3, 1, 6)))]
        ),
    }


@pytest.mark.parametrize("players", [2, 3, 6])
@pytest.mark.parametrize("kind", ["pairwise", "plackett-luce", "population"])
def test_the_longest_step_arrives_at_once(kind, players):
    rng = np.random.default_rng(players)
    game = Game(_oracles(rng)[kind], players, TAU, reference=random_policies(rng, 6))
    arrived = run(game, prox(1 / TAU, TAU), 1, start=random_policies(rng, 6)).policies
    assert np.abs(arrived - solve(game).policies).max() < 1e-12


@pytest.mark.parametrize("kind", ["pairwise", "plackett-luce", "population"])
def test_a_step_is_what_it_says(kind):
    """log π' − Σ λ log μ − η q(π') is constant, whoever solved for it; players who differ and past policies too."""
    rng = np.random.default_rng(5)
    game = Game(_oracles(rng)[kind], 3, TAU, reference=random_policies(rng, 3, 1, 6))
    history = [random_policies(rng, 3, 1, 6) for _ in range(3)]
    eta, weights = 4.0, (0.5, 0.2, 0.3)
    after = update(game, prox(eta, TAU, history=3, weights=weights), history)
    explicit = eta * TAU * game.log_reference
    explicit = explicit + (1 - eta * TAU) * sum(w * np.log(p) for w, p in zip(weights, history, strict=True))
    left = after - explicit - eta * game.win_probabilities(np.exp(after))
    assert np.ptp(left, axis=-1).max() < 1e-11


@pytest.mark.parametrize("kind", ["pairwise", "plackett-luce", "population"])
def test_a_batch_of_games_and_steps_is_each_by_itself(kind):
    etas, rng = np.array([[0.5], [2.0], [2.0]]), np.random.default_rng(1)
    oracle = _oracles(rng, 3)[kind]
    together = run(Game(oracle, 3, TAU), prox(etas, TAU), 4, start=random_policies(rng, 6))
    rng = np.random.default_rng(1)
    _oracles(rng, 3)
    begun = random_policies(rng, 6)
    side = oracle.side_by_side((3,))
    for b, eta in enumerate(etas[:, 0]):
        alone = run(Game(side.at([b]), 3, TAU), prox(float(eta), TAU), 4, start=begun)
        assert np.abs(together.log_policies[b] - alone.log_policies).max() < 1e-11


@pytest.mark.parametrize("eta", [5.0, 20.0, 50.0])
def test_modes_shrink_as_the_fact_says(eta):
    rng, tau = np.random.default_rng(3), 0.01
    game = Game(Pairwise(random_matrix(rng, 10)), 2, tau)
    exact = solve(game)
    rate = local_rate(prox(eta, tau), game, exact.policies)
    omega = frequencies(game, exact.policies)
    expected = (1 - eta * tau) / np.sqrt(1 + (eta * omega) ** 2)
    # The constants' mode, of frequency 0, is no mode of policies.
    assert np.allclose(np.sort(np.abs(rate.modes)), np.sort(expected)[:-1], rtol=1e-9)


@pytest.mark.parametrize("players", [2, 4])
@pytest.mark.parametrize("kind", ["pairwise", "plackett-luce", "population"])
@pytest.mark.parametrize("history", [1, 3])
def test_rates_are_the_slopes_of_runs(kind, players, history):
    """To 2%: the gap, quadratic in the distance, shrinks by the square of the rate."""
    game = Game(_oracles(np.random.default_rng(7))[kind], players, 0.05)
    rule = prox(4.0, 0.05, history=history)
    rate = local_rate(rule, game)
    assert _slope(run(game, rule, 120).gap) == pytest.approx(rate.radius, rel=0.02)


def test_rates_of_players_who_differ():
    rng = np.random.default_rng(2)
    game = Game(Heterogeneous([Pairwise(random_matrix(rng, 4)) for _ in range(3)]), 3, 0.3)
    rule = prox(1.5, 0.3)
    assert _slope(run(game, rule, 60).gap) == pytest.approx(local_rate(rule, game).radius, rel=0.02)


def _slope(gaps):
    """By what an update multiplies the distance, where the gap is small and no rounding yet."""
    late = np.flatnonzero((gaps < 1e-9) & (gaps > 1e-15))
    return np.exp(np.polyfit(late, np.log(gaps[late]), 1)[0] / 2)


def test_inner_steps_approach_the_implicit_one():
    """One is INPO, two are EGPO (Nash Mirror Prox), many are Prox where ηω < 1."""
    rng = np.random.default_rng(0)
    game, start = Game(Pairwise(random_matrix(rng, 6)), 2, TAU), random_policies(rng, 6)

    def step(rule):
        return update(game, rule, [start])

    assert np.array_equal(step(nash_prox(1.0, TAU, inner=1)), step(inpo(1.0, TAU)))
    assert np.array_equal(step(nash_prox(1.0, TAU)), step(egpo(1.0, TAU)))
    errors = [np.abs(step(nash_prox(1.0, TAU, inner=k)) - step(prox(1.0, TAU))).max() for k in (1, 4, 40)]
    assert errors[0] > 1e-3 > errors[1] > 1e-6
    assert errors[2] < 1e-12


def test_comal_reaches_the_maximal_lottery():
    game = Game(Pairwise([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]]), 2, 0.0)
    found = run(game, comal(20.0), 300, start=[0.2, 0.3, 0.5])
    assert np.abs(found.policies - solve(game).policies).max() < 1e-6


def test_a_reward_needs_no_equilibrium():
    rewards = np.array([0.3, -1.0, 2.0])
    game = Game(Reward(rewards), 2, TAU)
    wanted = np.exp(rewards / TAU - np.logaddexp.reduce(rewards / TAU))
    assert np.allclose(run(game, prox(1 / TAU, TAU), 1).policies[0, 0], wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: prox(1.0, 0.1, history=0), "history must be at least 1"),
        (lambda: prox(1.0, 0.1, history=2, weights=[1.0]), "2 numbers"),
        (lambda: prox(20.0, 0.1), "at most 1/tau"),
        (lambda: nash_prox(1.0, 0.1, inner=0), "inner must be at least 1"),
        (lambda: UpdateRule("x", 1.0, ((Own(), 1.0),), ((WinRateAt(Next()), -1.0),)), "once, with a coefficient"),
        (lambda: UpdateRule("x", 1.0, ((Own(), 1.0),), ((WinRateAt(Next()), 1.0),) * 2), "once"),
        (lambda: rule_from_dict({"eta": 1.0, "anchors": [{"source": "own"}], "advantage": [
            {"source": "win-rate", "at": {"source": "ahead"}}]}), "cannot be read"),
    ],
)  # fmt: skip
def test_bad_implicit_rules_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_implicit_rule_is_written_and_read():
    rule = make_rule("prox", eta=2.0, tau=0.1, history=2)
    again = rule_from_dict(rule.as_dict())
    assert again.as_dict() == rule.as_dict()
    assert isinstance(again.advantage[0][0].point, Next)


def test_explicit_terms_may_stand_beside():
    """A step that is half implicit, with an optimistic rest: still what it says."""
    rng = np.random.default_rng(4)
    game = Game(Pairwise(random_matrix(rng, 5)), 2, TAU)
    rule = UpdateRule(
        "half", 2.0, ((Reference(), 0.2), (Own(1), 0.8)), ((WinRateAt(Next()), 0.5), (WinRate(), 0.5))
    )
    now, before = random_policies(rng, 5), random_policies(rng, 5)
    after = update(game, rule, [now, before])[0, 0]

    def q(policy):
        return game.win_probabilities(policy[None, None])[0, 0]

    left = after - 0.2 * game.log_reference[0, 0] - 0.8 * np.log(before) - q(np.exp(after)) - q(now)
    assert np.ptp(left) < 1e-12


def test_feedback_that_cannot_teach_it_is_refused():
    game = Game(Pairwise(np.full((2, 2), 0.5)), 2, TAU)
    with pytest.raises(ValueError, match="sampled_game"):
        update(game, prox(1.0, TAU), [np.full(2, 0.5)], feedback=lambda *_: np.zeros((1, 1, 2)))
