"""Certificates: they hold at equilibria, fail elsewhere, and their bound is a bound."""

import numpy as np
import pytest

from mnpo import Game, Pairwise, Population, solve, verify
from support import random_matrix, random_policies


@pytest.fixture
def solved():
    game = Game(Pairwise(random_matrix(np.random.default_rng(8), 5)), 3, 0.1)
    return game, solve(game).policies


def test_a_certificate_fails_next_to_an_equilibrium(solved):
    game, policies = solved
    assert verify(game, policies).holds
    for size in (1e-1, 1e-2, 1e-3):
        moved = policies.copy()
        moved[1, 0] += size * np.array([1, -1, 0, 0, 0]) * policies[1, 0].min()
        certificate = verify(game, moved)
        assert not certificate.holds
        assert not certificate.checks[0].holds
    assert verify(game, moved, tolerance=1.0).holds


def test_no_policy_is_further_from_the_equilibrium_than_the_bound(solved):
    """√(NashConv/2τ), for any policies at all, bounds the distance from the equilibrium."""
    game, policies = solved
    rng = np.random.default_rng(9)
    for _ in range(20):
        other = 0.9 * policies + 0.1 * random_policies(rng, 3, 1, 5)
        certificate = verify(game, other, convex_program=False)
        assert np.abs(other - policies).sum(-1).max() / 2 <= certificate.distance_bound
    assert verify(game, policies).distance_bound < 1e-6


def test_the_distance_bound_allows_for_rounding(solved):
    game, policies = solved
    moved = policies.copy()
    moved[:, 0, 0] += 1e-9
    moved[:, 0, 1] -= 1e-9
    assert verify(game, moved, convex_program=False).distance_bound >= 1e-9


def test_a_failing_outside_solver_is_reported_not_raised(solved, monkeypatch):
    game, policies = solved

    def fails(*arguments):
        raise RuntimeError("the convex program failed: no reason")

    monkeypatch.setattr("mnpo.programs.convex_program", fails)
    certificate = verify(game, policies)
    assert certificate.holds
    assert ("convex_program", "the convex program failed: no reason") in certificate.not_checked
    for tau in (1e-6, 1e-9, 1e9):
        solve(Game(Pairwise(random_matrix(np.random.default_rng(0), 20)), 2, tau))


def test_the_tolerance_decides_what_holds_without_regularisation():
    game = Game(Pairwise([[0.5, 0.55], [0.45, 0.5]]), 2, 0.0)
    assert verify(game, [0.97, 0.03], tolerance=0.01).holds
    assert not verify(game, [0.97, 0.03], tolerance=0.001).holds


def test_every_check_can_fail(solved, monkeypatch):
    game, policies = solved
    names = {check.name for check in verify(game, policies).checks}
    assert names == {"exploitability", "nash_conv", "fixed_point", "value_identity", "convex_program"}

    def failing(certificate):
        return {check.name for check in certificate.checks if not check.holds}

    with monkeypatch.context() as patched:
        patched.setattr(Pairwise, "total_value", lambda self, players: players / 2 + 1e-6)
        assert failing(verify(game, policies)) == {"value_identity"}
    with monkeypatch.context() as patched:
        wrong = np.log(np.full((1, 5), 0.2))
        patched.setattr("mnpo.programs.convex_program", lambda *args: (wrong, 1e-10))
        assert failing(verify(game, policies)) == {"convex_program"}
    uniform = verify(game, np.full(5, 0.2))
    assert {"exploitability", "nash_conv", "fixed_point", "convex_program"} <= failing(uniform)


def test_population_wins_with_a_wrong_rule_of_ties_are_caught():
    """An oracle whose wins do not add up is no oracle: the value identity says so."""
    oracle = Population(levels=[[0, 0, 1], [1, 0, 2]])
    game = Game(oracle, 3, 0.1)
    policies = solve(game).policies
    oracle.oracles[0]._within = oracle.oracles[0]._below + 1  # ties no longer share
    assert not verify(game, policies).holds
