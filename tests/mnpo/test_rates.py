"""Predicted local rates against measured trajectories."""

import numpy as np
import pytest

from mnpo import Game, Heterogeneous, Pairwise, Rankings, make_rule, run, td_mnpo
from mnpo.rates import frequencies, local_rate
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
    for number in range(18):
        start = policies * np.exp(1e-4 * direction / np.abs(direction).max())
        start /= start.sum(-1, keepdims=True)
        found = run(game, rule, steps, start=start, externals=externals, keep_policies=True)
        deviation = (np.log(found.recorded_policies) - np.log(policies)).reshape(steps + 1, -1)
        distance = np.linalg.norm(deviation, axis=1)
        last = int(np.argmax(distance < 1e-8 * distance[0]) or steps)
        direction = deviation[last].reshape(policies.shape)
        if number >= 6:
            shrunk += np.log(distance[last] / distance[20])
            walked += last - 20
    return shrunk / walked


@pytest.mark.parametrize(("name", "options"), RULES, ids=lambda value: str(value))
def test_the_predicted_rate_is_the_measured_slope(name, options):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        games = [
            Game(Pairwise(random_matrix(rng, 5)), 2, 0.1, random_policies(rng, 5)),
            Game(Rankings(rng.integers(0, 5, (6, 5))), 4, 0.1, random_policies(rng, 5)),
            Game(Heterogeneous([Pairwise(random_matrix(rng, 4)) for _ in range(3)]), 3, 0.2),
        ]
        game = games[seed]
        tau = float(game.player_tau[0])
        externals = list(random_policies(rng, 2, game.actions)) if name == "eo-mnpo" else []
        rule = make_rule(name, eta=0.25, tau=tau, **options)
        predicted = local_rate(rule, game, externals=externals)
        assert predicted.stable
        steps = int(-11 / np.log(predicted.radius))
        measured = measured_rate(game, rule, predicted.policies, externals, steps)
        assert measured == pytest.approx(np.log(predicted.radius), rel=0.02)


@pytest.mark.parametrize(("name", "stable"), [("mwu", False), ("sppo", False), ("omwu", True)])
def test_the_predicted_rate_without_regularisation_is_the_measured_slope(name, stable):
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


def test_modes_of_identical_players_are_modes_of_the_full_profile():
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


def test_the_frequency_of_a_cycle_is_its_margin_over_root_three(cycle):
    matrix, omega, uniform = cycle
    assert frequencies(Game(Pairwise(matrix), 2, 0.1), uniform)[0] == pytest.approx(omega, rel=1e-12)


@pytest.mark.parametrize("name", ["nash-md", "egpo", "ht-mnpo", "eo-mnpo"])
def test_modes_of_many_contexts_are_those_of_each_alone(name):
    """With a reference and external policies that differ between contexts."""
    rng = np.random.default_rng(4)
    matrix, reference, outside = (
        random_matrix(rng, 4, 3),
        random_policies(rng, 3, 4),
        random_policies(rng, 3, 4),
    )
    options = {"external_tau": [0.1]} if name == "eo-mnpo" else {}
    rule = make_rule(name, eta=0.3, tau=0.2, **options)

    def rate(places):
        externals = [outside[places]] if name == "eo-mnpo" else []
        return local_rate(
            rule, Game(Pairwise(matrix[places]), 2, 0.2, reference[places]), externals=externals
        )

    together, alone = rate([0, 1, 2]), [rate([x]) for x in range(3)]
    moduli = np.sort(np.abs(np.concatenate([each.modes for each in alone])))[::-1]
    np.testing.assert_allclose(np.abs(together.modes), moduli, atol=1e-7)
    for x in range(3):
        np.testing.assert_allclose(together.policies[:, x], alone[x].policies[:, 0], atol=1e-12)
