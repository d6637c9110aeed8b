"""What every oracle keeps: the sum over all groups, its identities, and contexts and batches apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_oracles import KINDS, build

from mnpo import DenseTensor, Heterogeneous, Mixture, Pairwise, PlackettLuce, Population, Rankings, Reward
from mnpo.oracles import Oracle, levels_of
from support import enumerate_wins, random_matrix, random_policies


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("players", [2, 3, 4])
def test_wins_are_the_sum_over_every_group(kind, players):
    rng = np.random.default_rng(players)
    oracle, group_win = build(kind, rng, 4)
    policies = random_policies(rng, players, 4)
    expected = enumerate_wins(group_win, policies)
    np.testing.assert_allclose(oracle.win_probabilities(policies[:, None])[:, 0], expected, atol=2e-15)
    for i in range(players):
        alone = oracle.against(np.delete(policies, i, axis=0)[:, None], player=i)
        np.testing.assert_allclose(alone[0], expected[i], atol=2e-15)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.integers(2, 6),
    players=st.integers(2, 14),
    contexts=st.integers(1, 2),
    seed=st.integers(0, 2**31),
    sharpness=st.sampled_from([0.02, 1.0, 50.0]),
)
def test_win_probabilities_add_up(kind, size, players, contexts, seed, sharpness):
    """Σ_i E q_i is n/2 for docs/concepts.md (2) and 1 for (3) and (4), whatever the profile, peaked or flat."""
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
def test_two_players_win_one_game_between_them(kind, size, seed):
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
def test_copies_of_a_response_share_what_it_wins(kind, size, players, seed):
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


def test_counts_stand_for_copies_written_out():
    rng = np.random.default_rng(3)
    for kind in KINDS:
        oracle, _ = build(kind, rng, 5)
        pair = random_policies(rng, 2, 1, 5)
        written_out = pair[[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
        np.testing.assert_allclose(
            oracle.against(pair, counts=(3, 9)), oracle.against(written_out), atol=1e-15
        )


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
