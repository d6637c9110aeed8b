"""Arena-Hard's statistics against plain computations and a general optimiser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from mnpo.arena_hard import VERDICTS, Games, style_controlled, style_gaps, win_rates
from mnpo.ratings import bradley_terry, expected

MODELS, QUESTIONS = 3, 150


@pytest.fixture
def verdicts() -> list[tuple[int, int, str]]:
    """(model, question, verdict with the model as A), two games a question."""
    rng = np.random.default_rng(0)
    chances = [[0.3, 0.2, 0.1, 0.2, 0.2], [0.1, 0.2, 0.1, 0.2, 0.4], [0.2, 0.3, 0.1, 0.3, 0.1]]
    kinds = ["A>>B", "A>B", "A=B", "B>A", "B>>A"]
    return [
        (m, q, kinds[rng.choice(5, p=chances[m])])
        for m in range(MODELS) for q in range(QUESTIONS) for _ in range(2)
    ]  # fmt: skip


def games_of(verdicts: list[tuple[int, int, str]], style: np.ndarray | None = None) -> Games:
    model, question, said = zip(*verdicts, strict=True)
    share, weight = zip(*(VERDICTS[one] for one in said), strict=True)
    return Games(np.array(model), np.array(question), np.array(share), np.array(weight, float), style)


def battles(verdicts: list[tuple[int, int, str]]) -> Iterator[tuple[int, float]]:
    """As the published program expands them: a strong verdict is three rows."""
    for model, _, said in verdicts:
        won = 1.0 if said in ("A>B", "A>>B") else 0.5 if said == "A=B" else 0.0
        for _ in range(3 if ">>" in said else 1):
            yield model, won


def test_win_rates_are_those_of_the_expanded_battles_and_of_bradley_terry(verdicts) -> None:
    found = win_rates(games_of(verdicts), draws=200, seed=1)
    rows = list(battles(verdicts))
    plain = [np.mean([won for model, won in rows if model == m]) for m in range(MODELS)]
    assert found.mean == pytest.approx(plain, abs=1e-12)
    wins = np.zeros((MODELS + 1, MODELS + 1))
    for model, won in rows:
        wins[model, MODELS] += won
        wins[MODELS, model] += 1 - won
    assert expected(bradley_terry(wins))[:MODELS, MODELS] == pytest.approx(plain, abs=1e-9)
    assert (found.low < found.mean).all()
    assert (found.mean < found.high).all()
    # The interval's width is that of a mean of questions, which are resampled with both their games.
    for m in range(MODELS):
        games = games_of([row for row in verdicts if row[0] == m])
        gap = (games.weight * (games.share - plain[m])).reshape(QUESTIONS, 2).sum(1)
        error = np.sqrt((gap**2).sum()) / games.weight.sum()
        assert (found.high[m] - found.low[m]) / (2 * 1.96 * error) == pytest.approx(1, abs=0.25)


def test_somebody_who_always_wins_has_a_win_rate() -> None:
    found = win_rates(games_of([(0, q, "A>>B") for q in range(5)]))
    assert (found.mean, found.low, found.high) == (1, 1, 1)


def test_style_control_is_version_2s_regression(verdicts) -> None:
    rng = np.random.default_rng(1)
    style = np.repeat(rng.normal(size=(len(verdicts) // 2, 4)) + 0.5, 2, axis=0)
    style[:, 3] = 0  # a feature that never differs
    games = games_of(verdicts, style)
    found = style_controlled(games, draws=20)
    rows = np.repeat(np.arange(len(verdicts)), games.weight.astype(int))  # expanded, as published
    model, share, given = games.model[rows], games.share[rows], style[rows, :3]
    scaled = (given - given.mean(0)) / given.std(0, ddof=1)

    def loss(at: np.ndarray) -> float:
        logits = at[model] + scaled @ at[MODELS:]
        return float(np.sum(np.logaddexp(0, logits) - share * logits))

    best = minimize(loss, np.zeros(MODELS + 3), method="BFGS", options={"gtol": 1e-8}).x
    assert found.mean == pytest.approx(expit(best[:MODELS]), abs=1e-5)
    assert (found.low < found.high).all()
    with pytest.raises(ValueError, match="style control needs"):
        style_controlled(games_of(verdicts))


def test_gaps_of_style_by_hand() -> None:
    gaps = style_gaps(np.array([[300.0, 3, 6, 0]]), np.array([[100.0, 0, 1, 0]]))
    assert gaps[0] == pytest.approx([0.5, 0.01 / 1.01, (0.02 - 0.01) / 1.03, 0])
    assert style_gaps(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0, 0, 0, 0]]
