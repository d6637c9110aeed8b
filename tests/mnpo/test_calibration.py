"""Calibration of win probabilities: by hand, against general optimisers, and on data that a known model made."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr

from mnpo.calibration import calibration, fitted_scale, length_bias, order_effects


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_four_pairs_by_hand():
    """Two favoured at σ(2) and once right, one at σ(1) and right, one not at all."""
    found = calibration([2, -2, 1, 0], [1, 1, 1, 0.5])
    sure, less = sigmoid(2.0), sigmoid(1.0)
    assert found.accuracy == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    expected = -(math.log(sure) + math.log(1 - sure) + math.log(less) + math.log(0.5)) / 4
    assert found.log_loss == pytest.approx(expected)
    assert found.error == pytest.approx((2 * abs(sure - 0.5) + (1 - less) + 0) / 4)
    assert [(row.low, row.share, row.right) for row in found.bins] == [
        pytest.approx(row) for row in ((0.5, 0.25, 0.5), (0.7, 0.25, 1.0), (0.85, 0.5, 0.5))
    ]
    assert calibration([4, -4, 2, 0], [1, 1, 1, 0.5], scale=2) == found


def test_a_model_that_made_the_labels_is_calibrated_and_its_scale_is_found():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, 40_000)
    labels = (rng.random(truth.size) < sigmoid(truth)).astype(float)
    own, loud = calibration(truth, labels), calibration(3 * truth, labels)
    assert own.error < 0.01 < 0.05 < loud.error
    scale = fitted_scale(3 * truth, labels)
    assert scale == pytest.approx(3, rel=0.02)
    assert calibration(3 * truth, labels, scale=scale).log_loss <= own.log_loss
    assert own.accuracy == loud.accuracy


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-4, 1e4))
def test_the_scale_is_the_minimiser_and_follows_the_unit(seed, unit):
    rng = np.random.default_rng(seed)
    logits, said, weights = rng.normal(0, 1.5, 30), rng.random(30), rng.random(30)
    said = np.clip(said + 0.3 * np.sign(logits), 0, 1)
    scale = fitted_scale(logits, said, weights)

    def loss(log_scale):
        return calibration(logits, said, scale=math.exp(log_scale), weights=weights).log_loss

    other = minimize_scalar(loss, bounds=(-8, 12), method="bounded", options={"xatol": 1e-10})
    assert loss(math.log(scale)) <= other.fun + 1e-12
    assert fitted_scale(unit * logits, said, weights) == pytest.approx(unit * scale, rel=1e-9)
    # Swapping the order of some pairs changes nothing.
    turn = rng.random(30) < 0.5
    swapped = np.where(turn, -logits, logits), np.where(turn, 1 - said, said)
    assert fitted_scale(*swapped, weights) == pytest.approx(scale, rel=1e-9)
    one, two = (calibration(*pair, weights=weights) for pair in ((logits, said), swapped))
    assert (one.accuracy, one.log_loss, one.error) == pytest.approx((two.accuracy, two.log_loss, two.error))


def test_length_bias_by_hand():
    rewards, lengths = [[3, 1], [1, 2], [5, 4], [0, 1]], [[30, 10], [10, 20], [40, 50], [5, 5]]
    found = length_bias(rewards, lengths, [1, 1, 1, 0])
    assert found.correlation == pytest.approx(spearmanr(np.ravel(rewards), np.ravel(lengths)).statistic)
    # The longer was preferred and favoured in the first; the shorter in the second, missed, and the third, found.
    assert (found.longer, found.shorter) == (1.0, 0.5)
    assert math.isnan(length_bias([[1, 1]], [[2, 3]], [1]).correlation)


def test_order_effects_by_hand():
    found = order_effects([0.8, 0.6, 0.5], [0.4, 0.6, 0.5])
    assert found.bias == pytest.approx(3.4 / 6 - 0.5)
    assert found.residual == pytest.approx((0.2 + 0.2 + 0) / 3)
    assert found.turned == pytest.approx(1 / 3)
    one = np.array([0.1, 0.7])
    assert order_effects(one, 1 - one).residual == pytest.approx(0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fitted_scale([1, -1], [0, 1]), "no better than a coin"),
        (lambda: fitted_scale([0, 0], [0, 1]), "no better than a coin"),
        (lambda: fitted_scale([1, -2], [1, 0]), "always better"),
        (lambda: calibration([1, 2], [1, 2]), r"\[0, 1\]; found 2"),
        (lambda: calibration([1, 2], [1]), "one shape"),
        (lambda: calibration([], []), "empty"),
        (lambda: calibration([1], [1], scale=0), "scale must be"),
        (lambda: length_bias([[1, 2]], [[1, 2], [3, 4]], [1]), r"shape \(1, 2\)"),
        (lambda: order_effects([0.5], [0.5, 0.5]), "one shape"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
