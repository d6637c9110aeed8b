"""Plackett–Luce payoffs: the error of the quadrature, and utilities far apart."""

import numpy as np
import pytest

from mnpo import PlackettLuce, Rankings
from mnpo.oracles import levels_of
from support import enumerate_wins, plackett_luce_win, random_policies


@pytest.mark.parametrize("spacing", [0.5, 0.35, 0.25])
def test_spacing_decides_the_plackett_luce_error(spacing):
    """docs/concepts.md (3) by the trapezoid rule: it converges spectrally, and it is the spacing that counts."""
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


def test_utilities_far_apart_are_a_ranking():
    utilities = np.array([0.0, 800.0, -2000.0, 1e6])
    policies = random_policies(np.random.default_rng(0), 3, 1, 4)
    ranked = Rankings([levels_of([[3], [1], [0], [2]], 4)])
    np.testing.assert_allclose(
        PlackettLuce(utilities).win_probabilities(policies), ranked.win_probabilities(policies), atol=1e-13
    )
