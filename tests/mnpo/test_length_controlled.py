"""Length-controlled win rates against a general optimiser, and against what AlpacaEval publishes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from mnpo.length_controlled import GAMED, Answers, Coefficients, fit, standard_error


def answers(rng, count, theta, phi=-1.0, gamma=0.8):
    lengths = rng.integers(100, 3000, (2, count)).astype(float)
    difficulty = rng.normal(size=count)
    made = Answers(np.zeros(count), lengths[0], lengths[1], difficulty)
    chance = expit(theta + phi * made.length + gamma * difficulty)
    return Answers(np.clip(chance + rng.normal(0, 0.1, count), 0, 1), lengths[0], lengths[1], difficulty)


def test_coefficients_against_a_general_optimiser():
    rng = np.random.default_rng(0)
    model, gamed = answers(rng, 200, -1.0), [answers(rng, 200, 0.0), answers(rng, 150, 0.0)]

    def loss(at):
        total = 0.0
        for one, who, weight in ((model, 1.0, 1.0), (gamed[0], 0.0, GAMED), (gamed[1], 0.0, GAMED)):
            z = at[0] * who + at[1] * one.length + at[2] * one.difficulty
            total += weight * (np.logaddexp(0, z) - one.preference * z).sum()
        return total

    other = minimize(
        loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000}
    )
    found = fit(model, gamed)
    assert [found.theta, found.phi, found.gamma] == pytest.approx(other.x, abs=1e-6)
    assert found.win_rate(model.difficulty) == pytest.approx(
        np.mean(1 / (1 + np.exp(-found.theta - found.gamma * model.difficulty)))
    )


def test_known_coefficients_come_back():
    """Exact probabilities as labels give the coefficients that made them."""
    rng = np.random.default_rng(1)
    known, parts = Coefficients(-0.7, -1.3, 0.6), []
    for who in (1.0, 0.0):
        lengths, difficulty = rng.integers(50, 900, (2, 300)).astype(float), rng.normal(size=300)
        bare = Answers(np.zeros(300), *lengths, difficulty)
        chance = expit(who * known.theta + known.phi * bare.length + known.gamma * difficulty)
        parts.append(Answers(chance, *lengths, difficulty))
    found = fit(parts[0], parts[1:])
    assert [found.theta, found.phi, found.gamma] == pytest.approx([-0.7, -1.3, 0.6], abs=1e-10)


def test_answers_as_long_as_the_baselines_are_controlled_for_nothing():
    rng = np.random.default_rng(2)
    length, won = rng.integers(50, 900, 400).astype(float), rng.random(400)
    same = Answers(won, length, length, np.zeros(400))
    found = fit(same, [])
    assert (found.phi, found.gamma) == (0, 0)
    assert found.win_rate(np.zeros(400)) == pytest.approx(same.win_rate, abs=1e-12)
    assert standard_error(won) == pytest.approx(won.std(ddof=1) / 20)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (([], [], [], []), "preference is empty"),
        (([0.5], [1], [1, 2], [0]), "same length"),
        (([1.5], [1], [1], [0]), r"\[0, 1\]"),
    ],
)
def test_bad_answers_are_refused(columns, told):
    with pytest.raises(ValueError, match=told):
        Answers(*(np.array(column, dtype=float) for column in columns))


def test_a_judge_who_always_prefers_one_side_has_no_finite_coefficients():
    rng = np.random.default_rng(3)
    lengths = rng.integers(50, 900, (2, 50)).astype(float)
    with pytest.raises(ValueError, match="no finite coefficients"):
        fit(Answers(np.ones(50), *lengths, rng.normal(size=50)), [])
