"""Cyclicity against a least-squares projection and enumeration."""

import itertools

import numpy as np
import pytest
from scipy.special import expit, logit

from mnpo.cyclicity import (
    CERTAIN,
    cyclicity,
    denoised,
    disagreement,
    labelled,
    strongest_cycle,
    transitive,
)

CYCLE = np.array([[0.5, 0.8, 0.2], [0.2, 0.5, 0.8], [0.8, 0.2, 0.5]])


def random_wins(*shape: int, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, scale, shape)
    return expit(logits - logits.swapaxes(-1, -2))


def test_share_is_what_least_squares_on_utility_gaps_leaves() -> None:
    wins = random_wins(5, 7, 7)
    pairs = list(itertools.combinations(range(7), 2))
    gaps = np.zeros((len(pairs), 7))
    for row, (i, j) in enumerate(pairs):
        gaps[row, i], gaps[row, j] = 1, -1
    for matrix, share in zip(wins, cyclicity(wins).share, strict=True):
        logits = np.array([logit(matrix[pair]) for pair in pairs])
        rest = logits - gaps @ np.linalg.lstsq(gaps, logits, rcond=None)[0]
        assert share == pytest.approx(rest @ rest / (logits @ logits), rel=1e-12)


def test_bradley_terry_has_none_and_a_pure_cycle_is_nothing_else() -> None:
    utilities = np.random.default_rng(1).normal(0, 2, (4, 6))
    found = cyclicity(expit(utilities[:, :, None] - utilities[:, None, :]))
    assert np.all(found.share < 1e-20)
    assert not found.triples.any()
    assert found.winner.all()
    np.testing.assert_allclose(found.utilities, utilities - utilities.mean(1, keepdims=True), atol=1e-9)
    pure = cyclicity(CYCLE)
    assert pure.share == pytest.approx(1)
    assert pure.triples == 1
    assert not pure.winner
    even = cyclicity(np.full((3, 3), 0.5))
    assert even.share == 0
    assert even.triples == 0
    assert even.winner


def test_triples_and_winners_are_those_of_enumeration() -> None:
    wins = random_wins(30, 5, 5, seed=2)
    found = cyclicity(wins)
    assert 0 < found.winner.mean() < 1
    for matrix, triples, winner in zip(wins, found.triples, found.winner, strict=True):
        circles = [
            all(matrix[a, b] > 0.5 for a, b in ((i, j), (j, k), (k, i)))
            or all(matrix[a, b] < 0.5 for a, b in ((i, j), (j, k), (k, i)))
            for i, j, k in itertools.combinations(range(5), 3)
        ]
        assert triples == pytest.approx(np.mean(circles))
        assert winner == any(all(matrix[i, j] > 0.5 for j in range(5) if j != i) for i in range(5))
        spelled = strongest_cycle(matrix)
        assert (spelled is None) == (not any(circles))
        if spelled is not None:
            i, j, k = spelled
            weakest = [
                min(matrix[a, b], matrix[b, c], matrix[c, a])
                for a, b, c in itertools.permutations(range(5), 3)
            ]
            assert min(matrix[i, j], matrix[j, k], matrix[k, i]) == max(weakest) > 0.5


def test_certain_wins_count_as_clipped_ones_and_labels_as_half_a_label_more() -> None:
    certain = np.where(random_wins(6, 6) > 0.5, 1.0, 0.0) * (1 - np.eye(6)) + 0.5 * np.eye(6)
    clipped = np.clip(certain, CERTAIN, 1 - CERTAIN)
    assert cyclicity(certain).share == pytest.approx(cyclicity(clipped).share, rel=1e-12)
    counted = (3 * certain + 0.5) / 4
    assert cyclicity(certain, labels=3).share == pytest.approx(cyclicity(counted).share, rel=1e-12)


def test_noise_alone_explains_labels_of_bradley_terry_and_not_those_of_a_cycle() -> None:
    rng = np.random.default_rng(3)
    utilities = rng.normal(size=(200, 6))

    def observed(chances: np.ndarray, labels: int) -> tuple[float, float]:
        above = np.triu(rng.binomial(labels, chances) / labels, 1)
        lower = np.tril(1 - above.swapaxes(1, 2), -1)
        found = cyclicity(above + lower + 0.5 * np.eye(chances.shape[-1]), labels=labels)
        truth = denoised(found.utilities, labels, rng)
        noise = [labelled(truth, labels, rng).share.mean() for _ in range(100)]
        return float(found.share.mean()), float(np.quantile(noise, 0.99))

    for labels in (1, 5):
        seen, bound = observed(expit(utilities[:, :, None] - utilities[:, None, :]), labels)
        assert 0.8 * bound < seen <= bound
    seen, bound = observed(np.broadcast_to(random_wins(6, 6, seed=4), (200, 6, 6)), 50)
    assert seen > 1.5 * bound


def test_disagreement_counts_pairs_that_two_order_differently() -> None:
    wins = random_wins(4, 3, 5, 5, seed=5)
    wins[2, :, 0, 1] = wins[2, :, 1, 0] = 0.5  # even: like everybody
    pairs = list(itertools.combinations(range(5), 2))
    expected = [
        np.mean([
            (wins[v, x, i, j] - 0.5) * (wins[w, x, i, j] - 0.5) < 0
            for v, w in itertools.combinations(range(4), 2)
            for i, j in pairs
        ])
        for x in range(3)
    ]  # fmt: skip
    np.testing.assert_allclose(disagreement(wins), expected, rtol=1e-12)
    assert not disagreement(wins[:1]).any()
    # Weights are shares of annotators: the third three times is the third with weight 3, but for itself.
    weights, many = np.array([1, 1, 3, 0]), wins[[0, 1, 2, 2, 2]]
    apart = 5 * 4 * disagreement(many) / (25 - (weights**2).sum())
    np.testing.assert_allclose(disagreement(wins, weights), apart, rtol=1e-12)


@pytest.mark.parametrize(
    ("wins", "said"),
    [
        ([[0.5, 0.6], [0.4, 0.5]], "at least 3 responses"),
        ([[0.5, np.nan, 0.6], [np.nan, 0.5, 0.5], [0.4, 0.5, 0.5]], r"no holes.*\[0, 1\]"),
        ([[0.5, 0.6, 0.5], [0.6, 0.5, 0.5], [0.5, 0.5, 0.5]], "P \\+ Pᵀ = 1"),
    ],
)
def test_matrices_that_cannot_be_read_are_refused(wins: list[list[float]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cyclicity(wins)
    with pytest.raises(ValueError, match="labels must be an integer of at least 1"):
        cyclicity(CYCLE, labels=0)
    with pytest.raises(ValueError, match="labels must be"):
        labelled([0.0, 1.0, 2.0], 0, np.random.default_rng(0))


@pytest.mark.parametrize("scale", [1.0, 12.0, 300.0])
def test_rewards_are_transitive_on_any_scale(scale):
    """Probabilities that are 1 up to rounding must not look like a circle."""
    found = transitive(scale * np.random.default_rng(0).standard_normal((5, 6)))
    assert np.array_equal(found.share, np.zeros(5))
    assert np.array_equal(found.triples, np.zeros(5))
    assert found.winner.all()


def test_a_diagonal_a_little_above_even_is_no_circle():
    wins = np.array([[0.5, 0.9, 0.8], [0.1, 0.5, 0.7], [0.2, 0.3, 0.5]]) + 1e-12 * np.eye(3)
    assert strongest_cycle(wins) is None


def test_prompts_of_different_spread_have_a_null_of_their_own():
    """Bradley–Terry truths, some prompts clear and some close: labels do not look more cyclic than noise explains."""
    alarms = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = np.exp(rng.standard_normal((40, 1))) * rng.standard_normal((40, 6))
        seen = labelled(truth, 5, rng)
        null = denoised(seen.utilities, 5, rng)
        alarms += seen.share.mean() > np.quantile(
            [labelled(null, 5, rng).share.mean() for _ in range(60)], 0.95
        )
    assert alarms <= 2
