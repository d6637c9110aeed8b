"""Equilibria: facts about real and made games, closed forms, and what each method refuses."""

import itertools

import numpy as np
import pytest

from mnpo import Game, Heterogeneous, Pairwise, PlackettLuce, Population, inpo, nash_conv, solve
from mnpo.numerics import entropy
from mnpo.oracles import Oracle
from mnpo.rates import frequencies, local_rate
from mnpo.sim.catalogue import CATALOGUE, make_game
from mnpo.sim.readers import read_game
from support import FOOTBALL, SUSHI, needs_data, random_matrix, random_policies

EFFECTIVE_SUSHI = {
    0.05: {2: 1.46, 3: 3.53, 4: 5.03, 6: 6.58, 10: 7.95},
    0.01: {2: 1.00, 3: 1.17, 4: 2.54, 6: 4.09, 10: 5.36},
}


@needs_data
@pytest.mark.parametrize("tau", [0.05, 0.01])
def test_sushi_spreads_as_players_are_added(tau):
    """docs/concepts.md, (4): two players collapse on the Condorcet winner, more spread over what minorities want."""
    spec = read_game(SUSHI)
    for players, expected in EFFECTIVE_SUSHI[tau].items():
        found = solve(spec.game(players, tau))
        assert found.certificate.holds
        assert float(np.exp(entropy(found.policies[0, 0]))) == pytest.approx(expected, abs=0.005)
        if tau == 0.05 and players in (3, 10):
            assert found.policies[0, 0].argmax() == 7 - 1  # item 7 of the file, which counts from 1
            assert found.policies[0, 0].max() == pytest.approx({3: 0.670, 10: 0.296}[players], abs=5e-4)


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_every_game_of_the_catalogue_is_solved(name):
    for players in (2, 3, 6):
        for tau in (0.1, 0.01, 0.001):
            found = solve(make_game(name, players=players).game(players, tau))
            assert found.exploitability.max() <= 1e-10
            assert found.certificate.holds, found.certificate.as_dict()
            assert found.certificate.exploitability.max() <= 1e-10


@needs_data
@pytest.mark.parametrize("path", [SUSHI, FOOTBALL], ids=["sushi", "football"])
def test_real_rankings_are_solved(path):
    spec = read_game(path)
    for players in (2, 3, 6):
        for tau in (0.1, 0.01, 0.001):
            found = solve(spec.game(players, tau))
            assert found.exploitability.max() <= 1e-10
            assert found.certificate.holds


def test_two_responses_have_a_closed_form():
    # q(0) − q(1) = m for every profile, so π(0)/π(1) = π_ref(0)/π_ref(1) · e^{m/τ}.
    margin, tau, reference = 0.3, 0.07, np.array([0.2, 0.8])
    matrix = [[0.5, 0.5 + margin], [0.5 - margin, 0.5]]
    ratio = reference[0] / reference[1] * np.exp(margin / tau)
    for players in (2, 5):
        found = solve(Game(Pairwise(matrix), players, tau, reference))
        np.testing.assert_allclose(found.policies[:, 0, 0], ratio / (1 + ratio), rtol=1e-13)


@pytest.mark.parametrize("players", [3, 7])
def test_the_number_of_players_changes_nothing_in_a_pairwise_game(players):
    """docs/concepts.md, (2): copies of an opponent give the same win probabilities as one."""
    rng = np.random.default_rng(2)
    oracle, reference = Pairwise(random_matrix(rng, 6)), random_policies(rng, 6)
    two, many = (solve(Game(oracle, n, 0.02, reference)) for n in (2, players))
    np.testing.assert_allclose(many.policies[0], two.policies[0], atol=1e-13)


def test_tiny_tau_keeps_the_digits():
    game = Game(Pairwise(random_matrix(np.random.default_rng(7), 10)), 2, 1e-6)
    found = solve(game)
    assert found.certificate.holds
    assert nash_conv(game, found.policies) < 1e-12


@pytest.mark.parametrize(
    ("game", "method", "words"),
    [
        (lambda: Game(PlackettLuce([0.0, 1.0]), 3, 0.1), "convex", "pairwise"),
        (lambda: Game(PlackettLuce([0.0, 1.0]), 3, 0.0), "auto", "small tau"),
        (lambda: Game(Pairwise(np.full((2, 2), 0.5)), 2, 0.0), "newton", "tau must be above 0"),
        (lambda: Game(Pairwise(np.full((2, 2), 0.5)), 2, 0.1), "linear", "every tau 0"),
        (lambda: Game(Pairwise(np.full((2, 2), 0.5)), 2, 0.1), "magic", "method must be"),
    ],
)
def test_methods_say_what_they_cannot_do(game, method, words):
    with pytest.raises(ValueError, match=words):
        solve(game(), method)


# --- contexts ------------------------------------------------------------------------------------------------

CONTEXTS, SIZE = 6, 4


def oracle_data(kind, rng):
    """Data with contexts on the last axis but one, and the oracle of such data."""
    if kind == "plackett-luce":
        return 2 * rng.standard_normal((2, CONTEXTS, SIZE)), PlackettLuce
    if kind == "population":
        return rng.integers(0, SIZE, (5, CONTEXTS, SIZE)), Population
    strength = rng.standard_normal((3, CONTEXTS, SIZE))

    def duels(part):
        return 1 / (1 + np.exp(part[..., None, :] - part[..., None]))

    if kind == "heterogeneous":
        return strength, lambda part: Heterogeneous([Pairwise(duels(each)) for each in part])
    # A sum of sigmoids is not transitive.
    return strength, lambda part: Pairwise(duels(2 * part).mean(axis=0))


@pytest.mark.parametrize(
    ("kind", "players"),
    [*itertools.product(["pairwise", "plackett-luce", "population"], [2, 3]), ("heterogeneous", 3)],
)
@pytest.mark.parametrize("at_once", [CONTEXTS, 4])
def test_contexts_are_solved_as_if_each_were_alone(kind, players, at_once, monkeypatch):
    """All at once or in blocks, with references and weights that differ."""
    rng = np.random.default_rng(5)
    (data, make), reference = oracle_data(kind, rng), random_policies(rng, CONTEXTS, SIZE)
    game = Game(make(data), players, 0.03, reference, rng.random(CONTEXTS))
    each = max(game.oracle.breadth, (game.slots * SIZE) ** 2)
    monkeypatch.setattr("mnpo.games.BLOCK", at_once * each)
    found = solve(game)
    alone = [solve(Game(make(data[..., x : x + 1, :]), players, 0.03, reference[x])) for x in range(CONTEXTS)]
    for x in range(CONTEXTS):
        np.testing.assert_allclose(found.policies[:, x], alone[x].policies[:, 0], rtol=0, atol=1e-13)
    assert found.certificate.holds
    assert found.iterations == sum(each.iterations for each in alone)
    values = np.stack([each.value for each in alone], axis=-1)
    np.testing.assert_allclose(found.value, game.context_mean(values), atol=1e-14)


def test_players_who_differ_in_one_context_only_are_solved_in_blocks(monkeypatch):
    rng = np.random.default_rng(6)
    reference = np.tile(random_policies(rng, 3, SIZE), (3, 1, 1))
    reference[0, 2] = random_policies(rng, SIZE)
    game = Game(Pairwise(random_matrix(rng, SIZE, 3)), 3, 0.05, reference)
    whole = solve(game)
    monkeypatch.setattr("mnpo.games.BLOCK", 1)
    for found in (solve(game), solve(game, start=whole.policies)):
        np.testing.assert_allclose(found.policies, whole.policies, atol=1e-13)
        assert found.certificate.holds


class Counted(Oracle):
    """An oracle that adds up the contexts it is asked about."""

    def __init__(self, inner, asked):
        self.inner, self.asked = inner, asked
        self.contexts, self.responses = inner.contexts, inner.responses

    def against(self, opponents, *, counts=None, player=0):
        self.asked.append(opponents[..., 0, :, 0].size)
        return self.inner.against(opponents, counts=counts)

    def gradient(self, opponents, *, counts=None, player=0):
        self.asked.append(opponents.shape[1])
        return self.inner.gradient(opponents, counts=counts)

    def at(self, contexts):
        return Counted(self.inner.at(contexts), self.asked)


@pytest.mark.parametrize("block", [1, 1 << 18])
@pytest.mark.parametrize("players", [2, 3])
def test_a_context_costs_in_a_large_game_what_it_costs_alone(players, block, monkeypatch):
    """Ten times the contexts, the same ones again and again, ask for ten times as much, not a hundred times."""
    monkeypatch.setattr("mnpo.games.BLOCK", block)
    utilities, work = np.random.default_rng(7).standard_normal((1, 5, SIZE)), []
    for times in (1, 10):
        asked = []
        game = Game(Counted(PlackettLuce(np.tile(utilities, (1, times, 1))), asked), players, 0.05)
        equilibrium = solve(game)
        assert equilibrium.certificate.holds
        local_rate(inpo(0.1, 0.05), game, equilibrium.policies[:1])
        frequencies(game, equilibrium.policies[:1])
        work.append(sum(asked))
    assert work[1] == 10 * work[0]
