"""Ratings against a general optimiser, with ties and missing matches; graphs that do not connect; coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mnpo.ratings import BASE, ELO, bootstrap, bradley_terry, controlled, expected


def played(rng, players, matches, skill):
    """Matches (first, second, result, weight), a tenth of them ties, on a ring of pairs and some others."""
    pairs = [(i, (i + 1) % players) for i in range(players)]
    pairs += [(0, k) for k in range(2, players - 2)]
    first, second = np.array(pairs)[rng.integers(len(pairs), size=matches)].T
    won = rng.random(matches) < 1 / (1 + np.exp(skill[second] - skill[first]))
    result = np.where(rng.random(matches) < 0.1, 0.5, won)
    return np.stack([first, second, result, rng.integers(1, 3, matches)], 1)


def table_of(matches, players):
    wins = np.zeros((players, players))
    for first, second, result, weight in matches:
        wins[int(first), int(second)] += weight * result
        wins[int(second), int(first)] += weight * (1 - result)
    return wins


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 8), st.integers(0, 10_000))
def test_ratings_are_the_likelihoods(players, seed):
    rng = np.random.default_rng(seed)
    wins = table_of(played(rng, players, 60 * players, rng.normal(size=players)), players)
    assert (wins + wins.T == 0).sum() > players  # some never met

    def loss(r):
        return sum(
            wins[i, j] * np.logaddexp(0, r[j] - r[i])
            for i in range(players)
            for j in range(players)
            if i != j
        )

    try:
        found = bradley_terry(wins)
    except ValueError as error:
        assert "never lost" in str(error)  # noqa: PT017  # by chance somebody has only won
        return
    other = minimize(loss, np.zeros(players), method="BFGS", options={"gtol": 1e-8}).x
    assert np.abs(found - (BASE + ELO / np.log(10) * (other - other.mean()))).max() < 1e-2
    # At the maximum everybody wins as often as expected.
    expectation = (wins + wins.T) * expected(found)
    assert np.abs(expectation.sum(1) - wins.sum(1)).max() < 1e-8


def test_what_elo_means():
    wins = np.array([[0, 10.0], [1, 0]])
    ratings = bradley_terry(wins)
    assert ratings[0] - ratings[1] == pytest.approx(400)
    assert expected(ratings)[0, 1] == pytest.approx(10 / 11)
    assert ratings.mean() == pytest.approx(BASE)


def test_graphs_that_do_not_connect_are_told():
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[1, 0] = apart[2, 3] = apart[3, 2] = 1
    with pytest.raises(ValueError, match=r"no match is between \{a, b\} and \{c, d\}"):
        bradley_terry(apart, ["a", "b", "c", "d"])
    best = np.ones((3, 3))
    best[1, 0] = best[2, 0] = 0
    with pytest.raises(ValueError, match="ratings are not finite: best never lost"):
        bradley_terry(best, ["best", "b", "c"])
    with pytest.raises(ValueError, match="square matrix"):
        bradley_terry([[0.0]])


def test_intervals_cover_at_their_rate():
    """Matches in groups of three that go the same way: drawn as a whole, 95 % intervals hold the truth that often."""
    rng = np.random.default_rng(4)
    skill = np.array([0.6, 0.0, -0.2, -0.4])
    truth = BASE + ELO / np.log(10) * (skill - skill.mean())
    held = []
    for _ in range(50):
        once = played(rng, 4, 150, skill)
        found = bootstrap(np.repeat(once, 3, axis=0), np.repeat(np.arange(150), 3), 100, rng)
        held.append((found.low <= truth) & (truth <= found.high))
        assert found.failed == 0
    assert 0.86 < np.mean(held) < 0.99


def test_what_length_alone_wins_is_taken_out():
    """Against a general optimiser; and two players of the same skill, of whom one writes at length, are alike."""
    rng = np.random.default_rng(2)
    skill, wordy = np.array([0.5, 0.0, 0.0, -0.5]), np.array([0.0, 0.0, 0.8, 0.2])
    first, second = rng.integers(4, size=(2, 6000))
    first, second = first[first != second], second[first != second]
    longer = (wordy[first] - wordy[second] + 0.3 * rng.normal(size=len(first)))[:, None]
    chance = 1 / (1 + np.exp(skill[second] - skill[first] - 1.5 * longer[:, 0]))
    matches = np.stack([first, second, rng.random(len(first)) < chance, rng.integers(1, 3, len(first))], 1)
    ratings, effect = controlled(matches, longer)
    scaled = longer[:, 0] / np.sqrt(np.average(longer[:, 0] ** 2, weights=matches[:, 3]))

    def loss(at):
        logits = at[first] - at[second] + at[4] * scaled
        return matches[:, 3] @ (np.logaddexp(0, logits) - matches[:, 2] * logits)

    other = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-7}).x
    assert effect[0] == pytest.approx(other[4], abs=1e-4)
    wanted = BASE + ELO / np.log(10) * (other[:4] - other[:4].mean())
    assert np.abs(ratings - wanted).max() < 0.05
    assert np.abs(ratings - BASE - ELO / np.log(10) * skill).max() < 25
    wins = table_of(matches, 4)
    assert np.diff(bradley_terry(wins)[[1, 2]])[0] > 100 > 25 > abs(np.diff(ratings[[1, 2]])[0])
    assert controlled(matches, 0 * longer)[0] == pytest.approx(bradley_terry(wins), abs=1e-6)
    with pytest.raises(ValueError, match="not finite"):
        controlled([[0, 1, 1, 1], [0, 1, 1, 1]], [[0.0], [1.0]])
