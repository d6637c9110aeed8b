"""Predicted local rates against measured trajectories, and the stable steps of the theory."""

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
    onpo,
    run,
    solve,
    td_mnpo,
)
from mnpo.logit import ConvergenceError
from mnpo.rates import frequencies, local_rate, stable_steps, tune
from support import random_matrix, random_policies

RULES = [
    ("inpo", {}),
    ("nash-md", {}),
    ("onpo", {}),
    ("egpo", {}),
    ("td-mnpo", {"players": 3}),
    ("td-mnpo", {"players": 4, "weights": [0.5, 0.3, 0.2]}),
    ("td-mnpo", {"players": 3, "advantage": "population"}),
    ("ht-mnpo", {"anchor": "opponents"}),
    ("ht-mnpo", {"anchor": "own"}),
    ("eo-mnpo", {"external_tau": [0.05, 0.1]}),
    ("mpo", {"refresh": 10**9}),
]


def measured_rate(game, rule, policies, externals, steps):
    """The mean slope of log distance against updates over a long walk in the linear regime.

    When a run has shrunk the distance by eight digits its end, enlarged, starts the next: the slowest modes are
    left, and rotations (which may take longer than one run) average out. The first updates of each run, in which
    the history is still the start, are not counted, nor are the first runs.
    """
    direction = np.random.default_rng(0).standard_normal(policies.shape)
    shrunk, walked = 0.0, 0
    for number in range(30):
        start = policies * np.exp(1e-4 * direction / np.abs(direction).max())
        start /= start.sum(-1, keepdims=True)
        found = run(game, rule, steps, start=start, externals=externals, keep_policies=True)
        deviation = (np.log(found.recorded_policies) - np.log(policies)).reshape(steps + 1, -1)
        distance = np.linalg.norm(deviation, axis=1)
        last = int(np.argmax(distance < 1e-8 * distance[0]) or steps)
        direction = deviation[last].reshape(policies.shape)
        if number >= 10:
            shrunk += np.log(distance[last] / distance[20])
            walked += last - 20
    return shrunk / walked


@pytest.mark.parametrize(("name", "options"), RULES, ids=lambda value: str(value))
def test_predicted_rate_is_the_measured_slope(name, options):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        games = [
            Game(Pairwise(random_matrix(rng, 5)), 2, 0.1, random_policies(rng, 5)),
            Game(Rankings(rng.integers(0, 5, (6, 5))), 4, 0.1, random_policies(rng, 5)),
            Game(Heterogeneous([Pairwise(random_matrix(rng, 4)) for _ in range(3)]), 3, 0.2),
        ]
        game = games[seed % 3]
        tau = float(game.player_tau[0])
        externals = list(random_policies(rng, 2, game.actions)) if name == "eo-mnpo" else []
        rule = make_rule(name, eta=0.25, tau=tau, **options)
        predicted = local_rate(rule, game, externals=externals)
        assert predicted.stable
        steps = int(-11 / np.log(predicted.radius))
        measured = measured_rate(game, rule, predicted.policies, externals, steps)
        assert measured == pytest.approx(np.log(predicted.radius), rel=0.02)


@pytest.mark.parametrize(("name", "stable"), [("mwu", False), ("sppo", False), ("omwu", True)])
def test_predicted_rate_without_regularisation(name, stable):
    """At the mixed equilibrium of a cycle: multiplicative weights spiral out, optimistic ones in, as predicted."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        up, right, down = rng.uniform(0.1, 0.5, 3)
        skew = np.array([[0, -up, down], [up, 0, -right], [-down, right, 0]])
        game, rule = Game(Pairwise(0.5 + skew), 2, 0.0), make_rule(name, eta=0.5)
        predicted = local_rate(rule, game)
        assert predicted.stable == stable
        start = predicted.policies * np.exp(1e-7 * rng.standard_normal((1, 1, 3)))
        steps = min(4000, int(abs(6.0 / np.log(predicted.radius))))
        found = run(game, rule, steps, start=start / start.sum(), keep_policies=True)
        deviation = np.log(found.recorded_policies / predicted.policies).reshape(steps + 1, -1)
        # The one pair of modes rotates evenly in the metric that the linear map preserves up to its modulus.
        places = np.arange(steps // 6, steps)
        distance = np.linalg.norm(deviation * np.sqrt(predicted.policies[0, 0]), axis=1)[places]
        assert np.polyfit(places, np.log(distance), 1)[0] == pytest.approx(np.log(predicted.radius), rel=0.02)


def test_matrices_and_modes_agree():
    """The companion of identical players, mode by mode, is that of the full profile on symmetric deviations."""
    rng = np.random.default_rng(3)
    oracle = Rankings(rng.integers(0, 4, (5, 4)))
    game = Game(oracle, 3, 0.1)
    # Players that differ by a rounding unit of τ are no longer treated as identical.
    unlike = Game(oracle, 3, [0.1, 0.1, 0.1 * (1 + 1e-15)])
    rule = td_mnpo(0.5, 0.1, 3)
    few, many = local_rate(rule, game), local_rate(rule, unlike)
    for z in few.modes:
        assert np.abs(many.modes - z).min() < 1e-7


@pytest.fixture
def cycle():
    """Symmetric rock-paper-scissors, with the frequency ω = s/√3 of its one pair of modes."""
    margin = 0.3
    matrix = 0.5 + margin * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return matrix, margin / np.sqrt(3), np.full((1, 1, 3), 1 / 3)


def test_frequency(cycle):
    matrix, omega, uniform = cycle
    assert frequencies(Game(Pairwise(matrix), 2, 0.1), uniform)[0] == pytest.approx(omega, rel=1e-12)


@pytest.mark.parametrize(("players", "bound"), [(2, None), (3, None), (4, 4 / 3), (5, 1.0)])
def test_stability_without_regularisation(cycle, players, bound):
    """Fact (spec §6): τ → 0, equal weights, "current": n = 2, 3 never stable, 4 to 4/3, 5 to 1."""
    matrix, omega, uniform = cycle
    tau = 1e-9
    found = stable_steps(
        lambda eta: td_mnpo(eta, tau, players), Game(Pairwise(matrix), 2, tau), equilibrium=uniform
    )
    if bound is None:
        assert found == []
    else:
        assert found[0][0] == 0.0
        assert found[0][1] * omega == pytest.approx(bound, rel=1e-5)


@pytest.mark.parametrize(("players", "largest"), [(2, 0.0998), (3, 0.42), (4, 1.31), (5, 1.00)])
def test_stability_with_regularisation(cycle, players, largest):
    """Fact (spec §6) at τ/ω = 0.05. For n = 2 it is §6's 2τ/(τ² + ω²), 0.0998 (printed there as 0.09)."""
    matrix, omega, uniform = cycle
    tau = 0.05 * omega
    game = Game(Pairwise(matrix), 2, tau)
    ((low, high),) = stable_steps(lambda eta: td_mnpo(eta, tau, players), game, equilibrium=uniform)
    assert low == 0.0
    assert high * omega == pytest.approx(largest, abs=0.0055)
    if players == 2:
        assert high == pytest.approx(2 * tau / (tau**2 + omega**2), rel=1e-5)
    for eta, stable in ((0.97 * high, True), (1.03 * high, False)):
        assert local_rate(td_mnpo(eta, tau, players), game, uniform).stable == stable
        start = np.array([0.33, 0.33, 0.34])
        gap = run(game, td_mnpo(eta, tau, players), 4000, start=start, every=500).gap
        assert (gap[-1] < gap[0]) == stable


def test_population_advantage_loses_the_stability(cycle):
    """Fact (spec §6): with the "population" advantage the gain of past policies is lost."""
    matrix, _, uniform = cycle
    game = Game(Pairwise(matrix), 2, 1e-9)
    assert (
        stable_steps(lambda eta: td_mnpo(eta, 1e-9, 4, advantage="population"), game, equilibrium=uniform)
        == []
    )


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
def test_updates_to_a_gap_of_1e_9(build, best, updates):
    """Fact (spec §6), one instance: A = 10, random P and π_ref, τ = 0.01. Within a factor of two of its figures."""
    rng = np.random.default_rng(0)
    game = Game(Pairwise(random_matrix(rng, 10)), 2, 0.01, random_policies(rng, 10))
    fewest = np.inf
    for eta in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10):
        gap = run(game, build(eta), 7000, every=10).gap
        reached = np.flatnonzero(gap < 1e-9)
        fewest = min(fewest, 10 * reached[0] if reached.size else np.inf)
    assert updates / 2 <= fewest <= 2 * updates


def test_tune_finds_the_best_step_and_weights(cycle):
    matrix, omega, uniform = cycle
    tau = 0.05 * omega
    game = Game(Pairwise(matrix), 2, tau)
    best = tune(lambda eta: td_mnpo(eta, tau, 4), game, equilibrium=uniform)
    around = [
        local_rate(td_mnpo(best.eta * f, tau, 4), game, uniform).radius
        for f in (0.5, 0.9, 0.99, 1.01, 1.1, 2)
    ]
    assert best.rate.radius <= min(around)
    free = tune(
        lambda eta, weights=None: td_mnpo(eta, tau, 4, weights=weights), game, history=3, equilibrium=uniform
    )
    assert free.rate.radius < best.rate.radius
    assert sum(free.weights) == pytest.approx(1)
    gap = run(game, best.rule, 400, start=[0.3, 0.3, 0.4]).gap
    reached = int(np.argmax(gap < 1e-20 * gap[0]))
    assert best.rate.updates(1e-20) == pytest.approx(reached, rel=0.3)


def test_no_stable_step_is_said():
    game = Game(Pairwise([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]]), 2, 1e-9)
    with pytest.raises(ConvergenceError, match="no step"):
        tune(lambda eta: inpo(eta, 1e-9), game, equilibrium=np.full((1, 1, 3), 1 / 3))


def test_ht_mnpo_settles_at_a_consensus_that_is_no_equilibrium():
    """Fact (spec §5): anchored on the opponents it does not reach an equilibrium, on itself it does."""
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
