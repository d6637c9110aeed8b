"""Arena-Hard's statistics: how often a model beats the baseline, by verdicts with strengths, and what style adds.

arena-hard-auto (Li et al., 2406.11939): every question is judged in both orders; strong verdicts count three
times. All games are against the same baseline, so that the Bradley–Terry win rate is the weighted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from mnpo.logistic import logistic
from mnpo.numerics import Array

#: What the first of two wins by a verdict, and how often it counts.
VERDICTS: Mapping[str, tuple[float, int]] = {
    "A>>B": (1.0, 3), "A>B": (1.0, 1), "A=B": (0.5, 1), "B>A": (0.0, 1), "B>>A": (0.0, 3),
    "B<<A": (1.0, 3), "B<A": (1.0, 1), "B=A": (0.5, 1), "A<B": (0.0, 1), "A<<B": (0.0, 3),
}  # fmt: skip
#: Of intervals: that of version 0.1.
LEVEL = 0.95
#: The resamples that are published.
DRAWS = 100
#: Features of style, of which the first is a length and the others are counts.
FEATURES = ("length", "headers", "lists", "bold")


@dataclass(frozen=True, eq=False)
class Games:
    """Games of models against the baseline, N of them.

    Attributes:
        model: (N,), numbers from 0.
        question: (N,), numbers from 0.
        share: (N,), what the model won: 1, ½ or 0.
        weight: (N,), 3 for a strong verdict.
        style: (N, 4), how the model's answer differs from the baseline's (`style_gaps`); None unless known.
    """

    model: npt.NDArray[np.int64]
    question: npt.NDArray[np.int64]
    share: Array
    weight: Array
    style: Array | None = None


@dataclass(frozen=True, eq=False)
class WinRates:
    """Win rates over the baseline of M models, from 0 to 1, (M,) each: the estimate and its bootstrap interval.

    Attributes:
        mean, low, high: NaN for a model without games.
    """

    mean: Array
    low: Array
    high: Array


_Statistic = Callable[[Games, Array], Array]


def win_rates(games: Games, *, draws: int = DRAWS, seed: int = 0) -> WinRates:
    """Return win rates with intervals by resampling questions, all games of one together.

    Args:
        games: at least one.
        draws: resamples; 0 for none.
        seed: of these.
    """
    return _bootstrap(games, _means, draws, seed)


def style_controlled(games: Games, *, draws: int = DRAWS, seed: int = 0) -> WinRates:
    """Return win rates with style taken out, as version 2 computes them: a logistic regression with features.

    Raises:
        ValueError: games without style, or models whose results are all the same.
    """
    if games.style is None:
        raise ValueError("style control needs the answers' styles")
    return _bootstrap(games, _controlled, draws, seed)


def style_gaps(model: Array, baseline: Array) -> Array:
    """Return how answers differ in style, (N, 4).

    Args:
        model, baseline: (N, 4), `FEATURES` of the two answers.
    """
    both = model[:, 0] + baseline[:, 0]
    length = np.divide(model[:, 0] - baseline[:, 0], both, out=np.zeros(len(both)), where=both > 0)
    dense = [side[:, 1:] / np.maximum(side[:, :1], 1.0) for side in (model, baseline)]
    return np.column_stack([length, (dense[0] - dense[1]) / (dense[0] + dense[1] + 1)])


def _means(games: Games, weight: Array) -> Array:
    size = int(games.model.max()) + 1
    total = np.bincount(games.model, weight, size)
    won = np.bincount(games.model, weight * games.share, size)
    return np.divide(won, total, out=np.full(size, np.nan), where=total > 0)


def _controlled(games: Games, weight: Array) -> Array:
    assert games.style is not None
    size, count = int(games.model.max()) + 1, weight.sum()
    mean = weight @ games.style / count
    spread = np.sqrt(weight @ (games.style - mean) ** 2 / max(count - 1, 1))
    scaled = np.divide(games.style - mean, spread, out=np.zeros_like(games.style), where=spread > 0)
    rows = np.zeros((len(scaled), size + scaled.shape[1]))
    rows[np.arange(len(scaled)), games.model] = 1
    rows[:, size:] = scaled
    absent = np.bincount(games.model, weight, size) == 0
    effects = logistic(
        rows, games.share, weight, np.diag(np.concatenate([absent, spread == 0]).astype(float))
    )
    return np.where(absent, np.nan, expit(effects[:size]))


def _bootstrap(games: Games, statistic: _Statistic, draws: int, seed: int) -> WinRates:
    mean = statistic(games, games.weight)
    questions = int(games.question.max()) + 1
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        counts = np.bincount(rng.integers(questions, size=questions), minlength=questions)
        try:
            found.append(statistic(games, games.weight * counts[games.question]))
        except ValueError:  # a resample in which somebody always wins
            continue
    nothing = np.full_like(mean, np.nan)
    if not found:
        return WinRates(mean, nothing, nothing)
    table = np.where(np.isnan(mean), 0.5, np.array(found))
    low, high = np.nanquantile(table, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return WinRates(mean, np.where(np.isnan(mean), np.nan, low), np.where(np.isnan(mean), np.nan, high))
