"""Bradley–Terry ratings of players from the matches between them, on the Elo scale.

A tie is half a win for both. Players who never met are compared through others, if the graph of matches allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mnpo.logistic import logistic
from mnpo.numerics import Array, as_array
from mnpo.oracle_minimisers import Pools

#: Points of Elo for a factor of ten in the odds, and what is added: 400 points are odds of ten to one.
ELO, BASE = 400.0, 1000.0


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings with their bootstrap.

    Attributes:
        ratings: (M,), on the Elo scale; their mean is `BASE`.
        low, high: (M,), a percentile interval; NaN without a bootstrap.
        failed: the share of resamples in which ratings are not finite; these are left out.
    """

    ratings: Array
    low: Array
    high: Array
    failed: float


def bradley_terry(wins: npt.ArrayLike, names: Sequence[str] | None = None) -> Array:
    """Return ratings (M,) on the Elo scale with mean `BASE`, the maximum of the likelihood.

    Args:
        wins: (M, M), how often the row won against the column, ties half; not necessarily whole numbers.
        names: of the players, for errors.

    Raises:
        ValueError: no such matrix, players who are not connected by matches, or some who always win against, or
            lose to, all others: their ratings are not finite. Says who.
    """
    table = _counts(wins)
    called = [str(k) for k in range(len(table))] if names is None else [str(name) for name in names]
    met = table + table.T
    groups, of = connected_components(csr_array(met), directed=False)
    if groups > 1:
        parts = ["{" + ", ".join(_some(called, of == part)) + "}" for part in range(min(groups, 4))]
        raise ValueError(
            f"the matches do not connect all players: no match is between {' and '.join(parts)}"
            + (", .." if groups > 4 else "")
        )
    parts_, of = connected_components(csr_array(table), connection="strong")
    if parts_ > 1:
        top = next(part for part in range(parts_) if not table[np.ix_(of != part, of == part)].any())
        raise ValueError(
            f"ratings are not finite: {', '.join(_some(called, of == top))} never lost to the others, not even half"
        )
    chances = np.where(met > 0, table / np.where(met > 0, met, 1.0), 0.5)
    return BASE + ELO / np.log(10) * Pools.of_pairs("bradley-terry", chances, shares=met).minimiser()


def bootstrap(
    matches: npt.ArrayLike, groups: npt.ArrayLike, draws: int, rng: np.random.Generator, level: float = 0.95
) -> Ratings:
    """Return ratings with intervals by resampling groups of matches, such as those on one prompt, as a whole.

    Args:
        matches: (N, 4) of first player, second player, the first one's result (1, 0, or ½ for a tie), weight.
        groups: (N,), what is drawn together.
        draws: resamples; 0 for none.
        rng: draws them.
        level: of the interval.

    Raises:
        ValueError: see `bradley_terry`; matches that are none.
    """
    table = as_array(matches, "matches")
    if table.ndim != 2 or table.shape[1] != 4 or not len(table):
        raise ValueError("matches must have shape (N, 4), at least one")
    first, second, result, weight = table.T
    players = int(max(first.max(), second.max())) + 1
    _, of = np.unique(np.asarray(groups), return_inverse=True)
    if of.shape != first.shape:
        raise ValueError(f"groups must have shape ({len(first)},); found {of.shape}")

    def wins(counts: Array) -> Array:
        return wins_of(first.astype(int), second.astype(int), result, weight * counts, players)

    rated = bradley_terry(wins(np.ones(len(first))))
    found, failed = [], 0
    for _ in range(draws):
        drawn = np.bincount(rng.integers(of.max() + 1, size=of.max() + 1), minlength=of.max() + 1)
        try:
            found.append(bradley_terry(wins(drawn[of].astype(float))))
        except ValueError:
            failed += 1
    nothing = np.full(players, np.nan)
    low, high = (
        np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0) if found else (nothing, nothing)
    )
    return Ratings(rated, low, high, failed / draws if draws else 0.0)


def wins_of(
    first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], share: Array, weight: Array, players: int
) -> Array:
    """Return how often the row won against the column, (M, M).

    Args:
        first, second: (N,), who met, numbers from 0.
        share: (N,), what the first won, from 0 to 1.
        weight: (N,), of the match.
        players: M.
    """
    won = np.bincount(first * players + second, weight * share, players**2)
    lost = np.bincount(second * players + first, weight * (1 - share), players**2)
    return np.asarray((won + lost).reshape(players, players))


def controlled(matches: npt.ArrayLike, features: npt.ArrayLike) -> tuple[Array, Array]:
    """Return Bradley–Terry ratings with the effect of features taken out, such as that of length.

    The chance that the first wins is σ(r_a − r_b + x·β): a logistic regression on who met and on features of the
    match, as the Chatbot Arena controls for style. The ratings are those of matches whose features are all 0.

    Args:
        matches: (N, 4) of first player, second player, the first one's result, weight.
        features: (N, F), how the first differs from the second; scaled here by their standard deviation.

    Returns:
        Ratings (M,) on the Elo scale with mean `BASE`, and β (F,) for features of standard deviation 1; 0 for a
        feature that is always the same.

    Raises:
        ValueError: other shapes, or ratings that are not finite: players who are not connected by matches, some
            who always win, or results that the features tell for certain.
    """
    table, given = as_array(matches, "matches"), as_array(features, "features")
    if table.ndim != 2 or table.shape[1] != 4 or given.ndim != 2 or len(given) != len(table):
        raise ValueError(f"matches must be (N, 4) and features (N, F); found {table.shape} and {given.shape}")
    spread = np.sqrt(np.average(given**2, axis=0, weights=table[:, 3]))
    scaled = np.divide(given, spread, out=np.zeros_like(given), where=spread > 0)
    first, second = table[:, 0].astype(int), table[:, 1].astype(int)
    players = int(max(first.max(), second.max())) + 1
    rows = np.zeros((len(table), players + given.shape[1]))
    rows[np.arange(len(table)), first] += 1
    rows[np.arange(len(table)), second] -= 1
    rows[:, players:] = scaled
    # Ratings are known up to a constant, and features that never differ have no effect.
    free = np.zeros((len(rows.T), len(rows.T)))
    free[:players, :players] = 1
    free += np.diag(np.concatenate([np.zeros(players), spread == 0]))
    try:
        effects = logistic(rows, table[:, 2], table[:, 3], free)
    except ValueError:
        raise ValueError(
            "ratings are not finite: some always win, or do not meet, or the features tell every result"
        ) from None
    ratings = effects[:players] - effects[:players].mean()
    return BASE + ELO / np.log(10) * ratings, effects[players:]


def expected(ratings: npt.ArrayLike) -> Array:
    """Return P(row beats column) of ratings on the Elo scale, (M, M)."""
    points = as_array(ratings, "ratings")
    return np.asarray(1 / (1 + 10 ** ((points[None, :] - points[:, None]) / ELO)))


def _counts(wins: npt.ArrayLike) -> Array:
    table = as_array(wins, "wins")
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise ValueError(f"wins must be a square matrix of at least two players; found shape {table.shape}")
    if table.min() < 0:
        raise ValueError("wins must not be below 0")
    return table - np.diag(np.diag(table))


def _some(names: Sequence[str], chosen: npt.NDArray[np.bool_]) -> list[str]:
    listed = [name for name, wanted in zip(names, chosen, strict=True) if wanted]
    return listed[:5] + [".."] * (len(listed) > 5)
