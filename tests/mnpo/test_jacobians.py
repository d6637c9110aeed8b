"""Derivatives of win probabilities against difference quotients."""

import numpy as np
import pytest

from mnpo import Game, Heterogeneous, Pairwise, PlackettLuce, Rankings
from mnpo.jacobians import log_win_jacobian, win_jacobian
from support import random_matrix, random_policies

WIDTH = 1e-6


def games(rng):
    utilities, levels = rng.standard_normal((1, 2, 3)), rng.integers(0, 3, (4, 2, 3))
    unlike = Heterogeneous([Pairwise(random_matrix(rng, 3, 2)), PlackettLuce(utilities), Rankings(levels)])
    return [
        (Game(Pairwise(random_matrix(rng, 3, 2)), 2, 0.1), random_policies(rng, 1, 2, 3)),
        (Game(Rankings(levels), 4, 0.1), random_policies(rng, 1, 2, 3)),
        (Game(unlike, 3, 0.1), random_policies(rng, 3, 2, 3)),
    ]


def slopes(function, at):
    """∂function/∂at by central differences, [x, i, y, j, z] with at and function's values (p, X, A)."""
    found = np.empty((at.shape[1], *(at.shape[0], at.shape[2]) * 2))
    for j in range(at.shape[0]):
        for z in range(at.shape[2]):
            step = np.zeros_like(at)
            step[j, :, z] = WIDTH  # contexts do not interact, so that all can move at once
            difference = (function(at + step) - function(at - step)) / (2 * WIDTH)
            found[:, :, :, j, z] = difference.swapaxes(0, 1)
    return found


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_jacobian_is_the_derivative_by_policies(number):
    game, profile = games(np.random.default_rng(0))[number]
    expected = slopes(lambda policies: game.win_probabilities(policies), profile)
    np.testing.assert_allclose(win_jacobian(game, profile), expected, atol=1e-8)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_logarithmic_jacobian_is_the_derivative_by_normalised_log_policies(number):
    """q less its mean under the policies (fixed), along log-policies that are normalised after they have moved."""
    game, profile = games(np.random.default_rng(1))[number]

    def centred(logits):
        policies = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        wins = game.win_probabilities(policies)
        return wins - (profile * wins).sum(-1, keepdims=True)

    expected = slopes(centred, np.log(profile))
    size = profile.shape[0] * 3
    np.testing.assert_allclose(log_win_jacobian(game, profile), expected.reshape(2, size, size), atol=1e-8)
