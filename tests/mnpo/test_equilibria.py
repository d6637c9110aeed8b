"""Equilibria against outside solvers: Gambit, HiGHS, the exponential cone, closed forms."""

import numpy as np
import pytest
from scipy.optimize import linprog

from mnpo import (
    DenseTensor,
    Game,
    Heterogeneous,
    Pairwise,
    PlackettLuce,
    Population,
    Rankings,
    nash_conv,
    solve,
    verify,
)
from mnpo.numerics import entropy
from mnpo.programs import convex_program
from mnpo.sim.catalogue import CATALOGUE, make_game
from mnpo.sim.readers import read_game
from support import FOOTBALL, SUSHI, needs_data, random_matrix, random_policies

EFFECTIVE_SUSHI = {
    0.05: {2: 1.46, 3: 3.53, 4: 5.03, 6: 6.58, 10: 7.95},
    0.01: {2: 1.00, 3: 1.17, 4: 2.54, 6: 4.09, 10: 5.36},
}


@needs_data
@pytest.mark.parametrize("tau", [0.05, 0.01])
def test_sushi(tau):
    """Fact (spec §4): two players collapse on the Condorcet winner, more spread over the minorities' wishes."""
    spec = read_game(SUSHI)
    for players, expected in EFFECTIVE_SUSHI[tau].items():
        found = solve(spec.game(players, tau))
        assert found.certificate.holds
        assert float(np.exp(entropy(found.policies[0, 0]))) == pytest.approx(expected, abs=0.005)
        if tau == 0.05 and players in (3, 10):
            assert found.policies[0, 0].argmax() == 7 - 1  # item 7 of the file, which counts from 1
            assert found.policies[0, 0].max() == pytest.approx({3: 0.670, 10: 0.296}[players], abs=5e-4)


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_catalogue_is_solved(name):
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


@pytest.mark.parametrize(("players", "size"), [(2, 4), (3, 3), (4, 2)])
def test_gambit_agrees_on_general_sum_games(players, size):
    """With a uniform reference the equilibrium is the logit QRE at λ = 1/τ, along folds of the branch too."""
    pygambit = pytest.importorskip("pygambit")
    for seed in range(6, 11):  # seeds 8 and 9 with four players fold
        rng = np.random.default_rng(seed)
        tables = [rng.random((size,) * players) for _ in range(players)]
        payoffs = [np.moveaxis(table, 0, player) for player, table in enumerate(tables)]
        outside = pygambit.Game.from_arrays(*payoffs)
        for tau in (0.5, 0.1, 0.03):
            profile = pygambit.qre.logit_solve_lambda(outside, [1 / tau])[0].profile
            expected = [[profile[s] for s in player.strategies] for player in outside.players]
            found = solve(Game(Heterogeneous([DenseTensor(table) for table in tables]), players, tau))
            np.testing.assert_allclose(found.policies[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("seed", [187, 191, 347, 388, 677, 773, 12, 13, 14, 15])
def test_gambit_agrees_where_long_strides_jump(seed):
    """Games with several equilibria on which a careless path lands on another branch."""
    pygambit = pytest.importorskip("pygambit")
    rng = np.random.default_rng(1000 + seed)
    players, size = 2 + seed % 2, int(rng.integers(2, 5))
    tables = [rng.random((size,) * players) for _ in range(players)]
    tau = 10 ** rng.uniform(-2.3, -1)
    outside = pygambit.Game.from_arrays(*[np.moveaxis(t, 0, i) for i, t in enumerate(tables)])
    profile = pygambit.qre.logit_solve_lambda(outside, [1 / tau])[0].profile
    expected = [[profile[s] for s in player.strategies] for player in outside.players]
    found = solve(Game(Heterogeneous([DenseTensor(t, players=players) for t in tables]), players, tau))
    np.testing.assert_allclose(found.policies[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("players", [2, 3, 4])
@pytest.mark.parametrize("kind", ["plackett-luce", "rankings"])
def test_gambit_agrees_on_group_oracles(players, kind):
    pygambit = pytest.importorskip("pygambit")
    rng = np.random.default_rng(players)
    oracle = (
        PlackettLuce(2 * rng.standard_normal(3))
        if kind == "plackett-luce"
        else Rankings([[0, 1, 2], [1, 2, 0], [2, 0, 1]], [0.4, 0.35, 0.25])
    )
    table = DenseTensor.from_oracle(oracle, players).tensor[0]
    outside = pygambit.Game.from_arrays(*[np.moveaxis(table, 0, player) for player in range(players)])
    for tau in (0.5, 0.1):
        profile = pygambit.qre.logit_solve_lambda(outside, [1 / tau])[0].profile
        expected = [[profile[s] for s in player.strategies] for player in outside.players]
        found = solve(Game(oracle, players, tau))
        np.testing.assert_allclose(found.policies[:, 0], expected, atol=1e-6)
        np.testing.assert_allclose(
            solve(Game(DenseTensor(table), players, tau)).policies, found.policies, atol=1e-12
        )


@pytest.mark.parametrize("tau", [0.5, 0.05, 0.005])
def test_convex_program_agrees_with_newton(tau):
    rng = np.random.default_rng(0)
    for size in (2, 5, 12):
        game = Game(Pairwise(random_matrix(rng, size)), 2, tau, random_policies(rng, size))
        newton, convex = solve(game), solve(game, "convex")
        assert newton.method == "newton"
        assert convex.method == "convex"
        np.testing.assert_allclose(convex.policies, newton.policies, atol=2e-5)
        _, value = convex_program(game.pairwise_matrix()[0], game.log_reference[:, 0], np.array([tau]))
        # Fact (spec §4): the optimum is 0, and elsewhere the objective is NashConv.
        assert value == pytest.approx(0.0, abs=1e-8)


def test_unequal_players_of_a_pairwise_game():
    """The same sum over players is convex for polymatrix constant-sum games."""
    rng = np.random.default_rng(1)
    game = Game(Pairwise(random_matrix(rng, 4)), 3, [0.3, 0.1, 0.05], reference=random_policies(rng, 3, 1, 4))
    newton, convex = solve(game), solve(game, "convex")
    assert newton.exploitability.max() < 1e-14
    np.testing.assert_allclose(convex.policies, newton.policies, atol=1e-5)


def test_unequal_tau_alone_makes_players_unlike():
    """The reference shared, τ not: the certificate must solve the program of unlike players."""
    game = Game(Pairwise(random_matrix(np.random.default_rng(1), 6)), 2, [0.05, 0.5])
    found = solve(game)
    assert found.certificate.holds, found.certificate.as_dict()
    np.testing.assert_allclose(solve(game, "convex").policies, found.policies, atol=1e-4)
    with pytest.raises(ValueError, match="one for each reference"):
        convex_program(game.pairwise_matrix()[0], game.log_reference[:, 0], np.array([0.05, 0.5]))


def test_references_of_tiny_mass():
    for seed in (375, 3, 4):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(3, 30))
        matrix, reference = random_matrix(rng, size), np.ones(size)
        reference[rng.random(size) < 0.4] = 10.0 ** -rng.integers(6, 14)
        found = solve(Game(Pairwise(matrix), 2, 1e-4, reference / reference.sum()))
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
def test_players_change_nothing_in_a_pairwise_game(players):
    """Fact (spec §3)."""
    rng = np.random.default_rng(2)
    oracle, reference = Pairwise(random_matrix(rng, 6)), random_policies(rng, 6)
    two, many = (solve(Game(oracle, n, 0.02, reference)) for n in (2, players))
    np.testing.assert_allclose(many.policies[0], two.policies[0], atol=1e-13)


def test_without_regularisation_the_linear_program_of_highs():
    rng = np.random.default_rng(3)
    for size in (3, 6, 15):
        matrix = random_matrix(rng, size)
        found = solve(Game(Pairwise(matrix), 2, 0.0))
        assert found.method == "linear"
        assert found.certificate.holds
        # Random margins are generic, so the equilibrium is unique and any correct solver finds it.
        outside = linprog(
            np.append(np.zeros(size), -1.0),
            A_ub=np.hstack([-matrix.T, np.ones((size, 1))]),
            b_ub=np.zeros(size),
            A_eq=np.append(np.ones(size), 0)[None],
            b_eq=[1],
            bounds=[(0, None)] * size + [(None, None)],
            method="highs",
        )
        np.testing.assert_allclose(found.policies[0, 0], outside.x[:size], atol=1e-6)
        # and the regularised equilibria tend to it (spec §3: the maximal lottery)
        near = solve(Game(Pairwise(matrix), 2, 1e-6))
        np.testing.assert_allclose(near.policies[0, 0], found.policies[0, 0], atol=1e-3)


def test_biased_rock_paper_scissors_is_known():
    # Each response is played in proportion to the margin between the other two.
    found = solve(make_game("rps:bias=0.2,strength=0.25").game(4, 0.0))
    np.testing.assert_allclose(found.policies[0, 0], np.array([0.25, 0.45, 0.25]) / 0.95, atol=1e-14)


def test_several_optima_give_the_one_of_maximum_entropy():
    tied = np.array([[0.5, 0.5, 0.9], [0.5, 0.5, 0.6], [0.1, 0.4, 0.5]])
    np.testing.assert_allclose(solve(Game(Pairwise(tied), 2, 0.0)).policies[0, 0], [0.5, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(
        solve(Game(Pairwise(np.full((4, 4), 0.5)), 2, 0.0)).policies[0, 0], np.full(4, 0.25), atol=1e-12
    )
    # A copied response shares what it had alone.
    index = [0, 1, 2, 0]
    rps = make_game("rps:bias=0").oracle.matrix[0][np.ix_(index, index)]
    np.testing.assert_allclose(
        solve(Game(Pairwise(rps), 2, 0.0)).policies[0, 0], [1 / 6, 1 / 3, 1 / 3, 1 / 6], atol=1e-12
    )


@pytest.mark.parametrize("margins", [(0.5, 0.4, 1e-8), (0.5, 1e-8, 1e-8), (1e-9, 2e-9, 3e-9)])
def test_tiny_margins_are_no_obstacle(margins):
    first, second, third = margins
    skew = np.array([[0, -first, third], [first, 0, -second], [-third, second, 0]])
    found = solve(Game(Pairwise(0.5 + skew), 2, 0.0)).policies[0, 0]
    expected = np.array([second, third, first]) / sum(margins)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_many_copies_share_evenly():
    rng = np.random.default_rng(0)
    plain, index = random_matrix(rng, 60), rng.integers(0, 60, 120)
    found = solve(Game(Pairwise(plain[np.ix_(index, index)]), 2, 0.0))
    assert found.certificate.holds
    for kind in np.unique(index):
        assert np.ptp(found.policies[0, 0, index == kind]) < 1e-12


def test_general_sum_games_are_followed_to_small_tau():
    for players in (2, 4):
        for seed in range(5):
            found = solve(
                make_game(f"committee:conflict=3,seed={seed}", players=players).game(players, 0.001)
            )
            assert found.certificate.holds


def test_contexts_are_solved_one_by_one():
    rng = np.random.default_rng(5)
    levels = rng.integers(0, 4, size=(6, 2, 4))
    both = solve(Game(Rankings(levels), 3, 0.05))
    for x in range(2):
        alone = solve(Game(Rankings(levels[:, x]), 3, 0.05))
        np.testing.assert_allclose(both.policies[:, x], alone.policies[:, 0], atol=1e-13)


def test_a_start_near_the_solution_saves_the_branch():
    game = Game(Pairwise(random_matrix(np.random.default_rng(6), 8)), 2, 0.01)
    cold = solve(game)
    warm = solve(game, start=cold.policies)
    assert warm.iterations < cold.iterations
    np.testing.assert_allclose(warm.policies, cold.policies, atol=1e-13)


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


# --- certificates --------------------------------------------------------------------------------------------


@pytest.fixture
def solved():
    game = Game(Pairwise(random_matrix(np.random.default_rng(8), 5)), 3, 0.1)
    return game, solve(game).policies


def test_certificates_refuse_what_is_no_equilibrium(solved):
    game, policies = solved
    assert verify(game, policies).holds
    for size in (1e-1, 1e-2, 1e-3):
        moved = policies.copy()
        moved[1, 0] += size * np.array([1, -1, 0, 0, 0]) * policies[1, 0].min()
        certificate = verify(game, moved)
        assert not certificate.holds
        assert not certificate.checks[0].holds
    assert verify(game, moved, tolerance=1.0).holds


def test_distance_bound_is_a_bound(solved):
    """√(NashConv/2τ), for any policies at all, bounds the distance from the equilibrium."""
    game, policies = solved
    rng = np.random.default_rng(9)
    for _ in range(20):
        other = 0.9 * policies + 0.1 * random_policies(rng, 3, 1, 5)
        certificate = verify(game, other, convex_program=False)
        assert np.abs(other - policies).sum(-1).max() / 2 <= certificate.distance_bound
    assert verify(game, policies).distance_bound < 1e-6


def test_distance_bound_allows_for_rounding(solved):
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


def test_nearly_equilibria_without_regularisation():
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
