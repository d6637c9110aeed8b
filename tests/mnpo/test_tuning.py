"""Stable steps against the theory and against runs on both sides of the edge; the best step and weights."""

import numpy as np
import pytest

from mnpo import Game, Pairwise, inpo, run, td_mnpo
from mnpo.logit import ConvergenceError
from mnpo.rates import local_rate
from mnpo.tuning import stable_steps, tune


@pytest.fixture
def cycle():
    """Symmetric rock-paper-scissors, with the frequency ω = s/√3 of its one pair of modes."""
    margin = 0.3
    matrix = 0.5 + margin * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return matrix, margin / np.sqrt(3), np.full((1, 1, 3), 1 / 3)


@pytest.mark.parametrize(("players", "bound"), [(2, None), (3, None), (4, 4 / 3), (5, 1.0)])
def test_stable_steps_without_regularisation_end_where_the_theory_says(cycle, players, bound):
    """docs/concepts.md, (13): τ → 0, equal weights, "current": n = 2, 3 never stable, 4 to 4/3, 5 to 1."""
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
def test_steps_are_stable_up_to_the_edge_and_no_further(cycle, players, largest):
    """docs/concepts.md, (13), at τ/ω = 0.05. For n = 2 the edge has the formula 2τ/(τ² + ω²)."""
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


def test_the_population_advantage_is_stable_at_no_step(cycle):
    """docs/concepts.md, (13): with the "population" advantage the gain of past policies is lost."""
    matrix, _, uniform = cycle
    game = Game(Pairwise(matrix), 2, 1e-9)
    assert (
        stable_steps(lambda eta: td_mnpo(eta, 1e-9, 4, advantage="population"), game, equilibrium=uniform)
        == []
    )


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


def test_tune_says_that_no_step_is_stable():
    game = Game(Pairwise([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]]), 2, 1e-9)
    with pytest.raises(ConvergenceError, match="no step"):
        tune(lambda eta: inpo(eta, 1e-9), game, equilibrium=np.full((1, 1, 3), 1 / 3))
