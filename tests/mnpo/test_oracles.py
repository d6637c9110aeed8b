"""Win probabilities against brute force, and the identities that every oracle keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnpo import DenseTensor, Heterogeneous, Mixture, Pairwise, PlackettLuce, Population, Rankings, Reward
from mnpo.oracles import Oracle, levels_of
from support import (
    enumerate_wins,
    pairwise_win,
    plackett_luce_win,
    population_win,
    random_matrix,
    random_policies,
    ranking_win,
)

KINDS = ("pairwise", "plackett-luce", "strict", "weak", "population")


def build(kind: str, rng: np.random.Generator, size: int):
    """An oracle and the P(y ≻ O) that it claims to average."""
    if kind == "pairwise":
        matrix = random_matrix(rng, size)
        return Pairwise(matrix), pairwise_win(matrix)
    if kind == "plackett-luce":
        utilities = 3 * rng.standard_normal(size)
        return PlackettLuce(utilities), plackett_luce_win(utilities)
    levels = rng.integers(0, max(2, size - 1), size=(4, size))
    if kind == "strict":
        levels = np.argsort(rng.random((4, size)), axis=-1)
    weights = rng.random(4) + 0.1
    if kind in ("strict", "weak"):
        return Rankings(levels, weights), population_win([ranking_win(row) for row in levels], weights)
    utilities, more = 2 * rng.standard_normal((2, size)), rng.random(2) + 0.1
    wins = [ranking_win(row) for row in levels] + [plackett_luce_win(row) for row in utilities]
    return (
        Population(levels, weights, utilities, more),
        population_win(wins, np.concatenate([weights, more])),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("players", [2, 3, 4])
def test_wins_equal_enumeration(kind, players):
    rng = np.random.default_rng(players)
    oracle, group_win = build(kind, rng, 4)
    policies = random_policies(rng, players, 4)
    expected = enumerate_wins(group_win, policies)
    np.testing.assert_allclose(oracle.win_probabilities(policies[:, None])[:, 0], expected, atol=2e-15)
    for i in range(players):
        alone = oracle.against(np.delete(policies, i, axis=0)[:, None], player=i)
        np.testing.assert_allclose(alone[0], expected[i], atol=2e-15)


def test_wins_with_pure_policies_and_zeros():
    # Zero factors take the path without division.
    levels = np.array([[0, 1, 2, 3], [2, 2, 0, 1]])
    policies = np.eye(4)[[3, 0, 0, 2, 1]]
    expected = enumerate_wins(population_win([ranking_win(row) for row in levels], np.ones(2)), policies)
    np.testing.assert_allclose(
        Rankings(levels).win_probabilities(policies[:, None])[:, 0], expected, atol=1e-15
    )


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.integers(2, 6),
    players=st.integers(2, 14),
    contexts=st.integers(1, 2),
    seed=st.integers(0, 2**31),
    sharpness=st.sampled_from([0.02, 1.0, 50.0]),
)
def test_value_is_constant(kind, size, players, contexts, seed, sharpness):
    """Fact (spec §2): Σ_i E q_i is n/2 or 1 for every profile, peaked or flat."""
    rng = np.random.default_rng(seed)
    oracle, _ = build(kind, rng, size)
    if contexts == 2:
        policies = rng.dirichlet(np.full(size, sharpness), size=(2, players, 1))  # a batch instead
    else:
        policies = rng.dirichlet(np.full(size, sharpness), size=(players, 1))
    total = (policies * oracle.win_probabilities(policies)).sum(axis=(-1, -2, -3))
    np.testing.assert_allclose(total, oracle.total_value(players), atol=1e-13 * players)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), size=st.integers(2, 6), seed=st.integers(0, 2**31))
def test_two_players_sum_to_one(kind, size, seed):
    oracle, _ = build(kind, np.random.default_rng(seed), size)
    matrix = oracle.pairwise_matrix()[0]
    np.testing.assert_allclose(matrix + matrix.T, 1.0, atol=1e-14)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(("pairwise", "plackett-luce", "rankings")),
    size=st.integers(2, 6),
    players=st.integers(2, 6),
    seed=st.integers(0, 2**31),
)
def test_renaming_responses_renames_wins(kind, size, players, seed):
    rng = np.random.default_rng(seed)
    policies, order = random_policies(rng, players, 1, size), rng.permutation(size)
    oracles: tuple[Oracle, Oracle]
    if kind == "pairwise":
        matrix = random_matrix(rng, size)
        oracles = Pairwise(matrix), Pairwise(matrix[np.ix_(order, order)])
    elif kind == "plackett-luce":
        utilities = rng.standard_normal(size)
        oracles = PlackettLuce(utilities), PlackettLuce(utilities[order])
    else:
        levels = rng.integers(0, size, size=(5, size))
        oracles = Rankings(levels), Rankings(levels[:, order])
    wins, renamed = oracles[0].win_probabilities(policies), oracles[1].win_probabilities(policies[..., order])
    np.testing.assert_allclose(renamed, wins[..., order], atol=1e-14)
    # The order of the players is only a naming as well.
    turned = oracles[0].win_probabilities(policies[::-1])
    np.testing.assert_allclose(turned[::-1], wins, atol=1e-14)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(("pairwise", "plackett-luce", "rankings")),
    size=st.integers(2, 5),
    players=st.integers(2, 12),
    seed=st.integers(0, 2**31),
)
def test_copies_share(kind, size, players, seed):
    """A copy of response 0 wins what 0 wins, and mass moved between copies changes nothing."""
    rng = np.random.default_rng(seed)
    index = np.append(np.arange(size), 0)
    if kind == "pairwise":
        matrix = random_matrix(rng, size)
        plain, copied = Pairwise(matrix), Pairwise(matrix[np.ix_(index, index)])
    elif kind == "plackett-luce":
        utilities = rng.standard_normal(size)
        plain, copied = PlackettLuce(utilities), PlackettLuce(utilities[index])
    else:
        levels = rng.integers(0, size, size=(5, size))
        plain, copied = Rankings(levels), Rankings(levels[:, index])
    split = random_policies(rng, players, 1, size + 1)
    merged = split[..., :-1].copy()
    merged[..., 0] += split[..., -1]
    expected = plain.win_probabilities(merged)
    np.testing.assert_allclose(copied.win_probabilities(split), expected[..., index], atol=1e-13)


@pytest.mark.parametrize("kind", [*KINDS, "tensor", "mixture"])
@pytest.mark.parametrize("counts", [(1, 1, 1), (3,), (2, 1)])
def test_gradient_is_the_derivative(kind, counts):
    rng = np.random.default_rng(5)
    size = 4
    if kind == "tensor":
        oracle: Oracle = DenseTensor(rng.random((size,) * 4))
    elif kind == "mixture":
        oracle = Mixture([build("weak", rng, size)[0], build("pairwise", rng, size)[0]], [2, 1])
    else:
        oracle, _ = build(kind, rng, size)
    opponents = random_policies(rng, len(counts), 1, size)
    gradient = oracle.gradient(opponents, counts=counts)
    step = 1e-5
    for j in range(len(counts)):
        for z in range(size):
            up, down = opponents.copy(), opponents.copy()
            up[j, 0, z] += step
            down[j, 0, z] -= step
            slope = (oracle.against(up, counts=counts) - oracle.against(down, counts=counts)) / (2 * step)
            # Win probabilities are affine in a policy's own axis only after normalisation for `pairwise`
            # means, so the derivative is compared as it is defined: on the raw vector.
            np.testing.assert_allclose(gradient[j, 0, :, z], slope[0], atol=2e-9)


def test_counts_are_copies():
    rng = np.random.default_rng(3)
    for kind in KINDS:
        oracle, _ = build(kind, rng, 5)
        pair = random_policies(rng, 2, 1, 5)
        written_out = pair[[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
        np.testing.assert_allclose(
            oracle.against(pair, counts=(3, 9)), oracle.against(written_out), atol=1e-15
        )


def test_many_players_need_fewer_nodes_without_losing_digits():
    """The quadrature of rankings stops at a proven bound; the exact number of nodes is the yardstick."""
    from mnpo.oracles import rankings

    rng = np.random.default_rng(0)
    oracle = Rankings(np.argsort(rng.random((50, 40)), axis=-1))
    policies = random_policies(rng, 40, 1, 40)
    fast = oracle.win_probabilities(policies)
    bound = rankings.QUADRATURE_ERROR
    try:
        rankings.QUADRATURE_ERROR = 0.0
        exact = oracle.win_probabilities(policies)
    finally:
        rankings.QUADRATURE_ERROR = bound
    np.testing.assert_allclose(fast, exact, atol=3e-16)


@pytest.mark.parametrize("spacing", [0.5, 0.35, 0.25])
def test_spacing_decides_the_plackett_luce_error(spacing):
    """Fact (spec §2): the trapezoid rule converges spectrally, and it is the spacing that counts."""
    angle = np.linspace(0.1, 1.57, 1000)
    error = (2 * np.exp(-2 * np.pi * angle / spacing) / np.cos(angle)).min() + 1e-15
    rng = np.random.default_rng(1)
    for _ in range(10):
        utilities = 3 * rng.standard_normal(5)
        policies = random_policies(rng, 4, 5)
        t = np.arange(-utilities.max() - 38, -utilities.min() + 4, spacing)
        rate = np.exp(utilities[:, None] + t)
        survival = policies @ np.exp(-rate)
        others = np.stack([np.prod(np.delete(survival, i, axis=0), axis=0) for i in range(4)])
        wins = others @ (rate * np.exp(-rate)).T * spacing
        brute = enumerate_wins(plackett_luce_win(utilities), policies)
        np.testing.assert_allclose(wins, brute, rtol=0, atol=error)
        ours = PlackettLuce(utilities).win_probabilities(policies[:, None])[:, 0]
        np.testing.assert_allclose(ours, brute, rtol=0, atol=2e-15)


def test_plackett_luce_far_apart_is_a_ranking():
    utilities = np.array([0.0, 800.0, -2000.0, 1e6])
    policies = random_policies(np.random.default_rng(0), 3, 1, 4)
    ranked = Rankings([levels_of([[3], [1], [0], [2]], 4)])
    np.testing.assert_allclose(
        PlackettLuce(utilities).win_probabilities(policies), ranked.win_probabilities(policies), atol=1e-13
    )


def test_tensor_of_an_oracle_is_the_oracle():
    rng = np.random.default_rng(2)
    oracle, _ = build("weak", rng, 3)
    policies = random_policies(rng, 4, 1, 3)
    tensor = DenseTensor.from_oracle(oracle, 4)
    assert tensor.exchangeable
    np.testing.assert_allclose(
        tensor.win_probabilities(policies), oracle.win_probabilities(policies), atol=1e-15
    )


def test_heterogeneous_players_ask_their_own_oracle():
    rng = np.random.default_rng(4)
    parts = [build("pairwise", rng, 3)[0], build("weak", rng, 3)[0], build("plackett-luce", rng, 3)[0]]
    policies = random_policies(rng, 3, 1, 3)
    wins = Heterogeneous(parts).win_probabilities(policies)
    for i, part in enumerate(parts):
        np.testing.assert_allclose(wins[i], part.win_probabilities(policies)[i], atol=1e-15)


@pytest.mark.parametrize("kind", [*KINDS, "reward", "heterogeneous"])
@pytest.mark.parametrize("batched", ["oracle", "policies", "both"])
def test_batches_and_contexts_are_independent(kind, batched):
    """Also where the batch is as long as there are players, and axes could be taken for each other."""
    rng = np.random.default_rng(6)
    size, batch = 4, 3
    if kind == "pairwise":
        data, make = random_matrix(rng, size, batch, 2), Pairwise
    elif kind == "plackett-luce":
        data, make = rng.standard_normal((batch, 1, 2, size)), PlackettLuce
    elif kind == "reward":
        data, make = rng.standard_normal((batch, 2, size)), Reward
    elif kind == "heterogeneous":
        data = random_matrix(rng, size, batch, 2)
        fixed = Pairwise(random_matrix(rng, size, 2))

        def make(part):
            return Heterogeneous([Pairwise(part), fixed, fixed])

    elif kind == "population":
        data = rng.integers(0, size, size=(batch, 5, 2, size))

        def make(part):
            return Mixture([Rankings(part), PlackettLuce(part * 1.0)], [2, 1])

    else:
        strict = np.argsort(rng.random((batch, 5, 2, size)), axis=-1)
        data = strict if kind == "strict" else rng.integers(0, size, size=(batch, 5, 2, size))
        make = Rankings
    policies = random_policies(rng, batch, 3, 2, size)
    oracle = make(data[0] if batched == "policies" else data)
    wins = oracle.win_probabilities(policies[0] if batched == "oracle" else policies)
    for b in range(batch):
        alone = make(data[0] if batched == "policies" else data[b])
        expected = alone.win_probabilities(policies[0] if batched == "oracle" else policies[b])
        np.testing.assert_allclose(wins[b], expected, atol=2e-15)
    # contexts do not see each other
    mixed = policies[0].copy()
    mixed[:, 1] = policies[1][:, 1]
    one = make(data[0])
    np.testing.assert_allclose(
        one.win_probabilities(mixed)[:, 0], one.win_probabilities(policies[0])[:, 0], atol=1e-15
    )


def test_a_thousand_players():
    """One annotator, a strict order, all uniform: the best-placed response beats 999 others at known odds."""
    size, players = 5, 1000
    uniform = np.full((1, 1, size), 1 / size)
    wins = Rankings([np.arange(size)]).against(uniform, counts=(players - 1,))[0]
    top = np.arange(size, 0, -1) / size  # mass at or below each response
    exact = (top**players - (top - 1 / size) ** players) / (players / size)
    np.testing.assert_allclose(wins, exact, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pairwise([[0.5, 0.7], [0.4, 0.5]]), r"P \+ Pᵀ = 1"),
        (lambda: Pairwise([[0.5, 0.7]]), "square"),
        (lambda: Pairwise([[0.5, 1.7], [-0.7, 0.5]]), r"\[0, 1\]"),
        (lambda: Pairwise([[0.5, np.nan], [0.3, 0.5]]), "finite"),
        (lambda: Pairwise([[0.5, 0.7], [0.3]]), "rectangular"),
        (lambda: PlackettLuce([]), "empty"),
        (lambda: PlackettLuce([[1.0, 2.0]], weights=[-1.0]), "weights"),
        (lambda: Rankings([[0.5, 1.0]]), "integers"),
        (lambda: Population(), "at least one"),
        (lambda: levels_of([[0], [0]], 2), "twice"),
        (lambda: levels_of([[3]], 2), "0 to 1"),
        (lambda: DenseTensor(np.ones((2, 3))), "equal axes"),
        (lambda: DenseTensor(np.full((2, 2), 2.0)), r"\[0, 1\]"),
        (lambda: Heterogeneous([Pairwise(np.full((2, 2), 0.5))]), "at least two"),
        (lambda: DenseTensor.from_oracle(PlackettLuce(np.zeros(100)), 9), "GiB"),
    ],
)
def test_bad_oracles_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
