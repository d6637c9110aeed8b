"""Players ranked by who beats whom: ratings, the game that they form, and how sure all of that is.

A rating is one number for a player, and can show no cycle. The meta-game, in which one picks a player, has an exact
equilibrium whatever the win rates are: at τ = 0 a maximal lottery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnpo.equilibria import solve
from mnpo.games import Game
from mnpo.majority import TIE, facts
from mnpo.numerics import Array, as_array
from mnpo.oracles import DenseTensor, Pairwise
from mnpo.ratings import bradley_terry, controlled, expected, wins_of

#: Of intervals.
LEVEL = 0.95
#: Cycles that are named at most, those that most resamples show.
MOST_CYCLES = 20


@dataclass(frozen=True, eq=False)
class Matches:
    """Matches between players, N of them.

    Attributes:
        names: of the M players.
        first, second: (N,), who met.
        share: (N,), what the first won, from 0 to 1; a tie is half.
        weight: (N,), of the match.
        about: (N,), numbers from 0 of what the matches were about: those of a question are resampled together.
        longer: (N,), by how much the first's answer was longer, (a − b)/(a + b); None where it is not known.
    """

    names: tuple[str, ...]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    share: Array
    weight: Array
    about: npt.NDArray[np.int64]
    longer: Array | None = None

    @classmethod
    def of_chances(
        cls, names: Sequence[str], chances: npt.ArrayLike, lengths: npt.ArrayLike | None = None
    ) -> Matches:
        """Return one match a pair and question.

        Args:
            names: of the M players.
            chances: (X, M, M), how likely the row beats the column; only those above the diagonal are read.
            lengths: (X, M), of the players' answers, in any unit.

        Raises:
            ValueError: fewer than two players, equal names, other shapes, or chances outside [0, 1].
        """
        table = as_array(chances, "chances")
        size = len(names)
        if size < 2 or len(set(names)) < size:
            raise ValueError(
                f"a tournament needs two or more players whose names differ; found {', '.join(names)}"
            )
        if table.ndim != 3 or table.shape[1:] != (size, size) or not len(table):
            raise ValueError(f"chances must have shape (X, {size}, {size}); found {table.shape}")
        first, second = np.triu_indices(size, 1)
        share = table[:, first, second]
        if not ((share >= 0) & (share <= 1)).all():
            raise ValueError("chances must lie in [0, 1]")
        longer = None
        if lengths is not None:
            long = as_array(lengths, "lengths")
            if long.shape != table.shape[:2]:
                raise ValueError(f"lengths must have shape {table.shape[:2]}; found {long.shape}")
            longer = length_gaps(long[:, first], long[:, second]).ravel()
        questions = len(table)
        return cls(
            tuple(names), np.tile(first, questions), np.tile(second, questions), share.ravel(),
            np.ones(share.size), np.repeat(np.arange(questions), len(first)), longer,
        )  # fmt: skip

    @property
    def groups(self) -> int:
        """How many questions there are."""
        return int(self.about.max()) + 1

    def wins(self, counts: Array | None = None) -> Array:
        """Return how often the row won against the column, (M, M).

        Args:
            counts: (groups,), how often each question counts; once unless given.
        """
        return wins_of(self.first, self.second, self.share, self._counted(counts), len(self.names))

    def rows(self, counts: Array | None = None) -> Array:
        """Return (N, 4) of first, second, share and weight, as `mnpo.ratings` takes them."""
        return np.stack([self.first, self.second, self.share, self._counted(counts)], 1)

    def _counted(self, counts: Array | None) -> Array:
        return self.weight if counts is None else self.weight * counts[self.about]


def length_gaps(first: Array, second: Array) -> Array:
    """Return (a − b)/(a + b) of lengths; 0 where both are empty."""
    both = first + second
    return np.asarray(np.divide(first - second, both, out=np.zeros_like(both, dtype=float), where=both > 0))


def ranked(
    matches: Matches,
    *,
    tau: float = 0.0,
    against: Mapping[str, float] | None = None,
    draws: int = 200,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Rank players by their matches.

    Args:
        matches: who met, and who won.
        tau: τ of the second equilibrium; with 0 there is one.
        against: a mixture of players, whose weights are scaled to sum to 1 (mixed-policy evaluation).
        draws: resamples of the bootstrap, in which matches about the same question stay together.
        seed: of these.
        progress: called with the number of resamples that are done.

    Returns:
        players: by falling rating (by win rate where ratings are not finite), each with its rating, win rate,
        shares in the equilibria, win rate against the maximal lottery and against the mixture, exploitability, the
        rating at equal lengths where these are known, and intervals (`_low`, `_high`) of all of them; matrix, the
        win rates in that order, null where nobody met; condorcet_winner; cycles, the number of majority cycles of
        three; cycles_found, each with its bootstrap support; example_cycle, the best supported one; notes.

    Raises:
        ValueError: a mixture of other players, or weights that are no mixture.
    """
    names = matches.names
    notes, size = list[str](), len(names)
    mixture = None if against is None else mixture_of(names, against)
    wins = matches.wins()
    ratings: Array | None = None
    try:
        ratings = bradley_terry(wins, names)
    except ValueError as error:
        notes.append(f"no ratings: {error}")
    table, unseen = _filled(wins, ratings)
    if unseen:
        how = "even" if ratings is None else "as the ratings expect"
        notes.append(f"{unseen} of {size * (size - 1) // 2} pairs never met; they are taken {how}")
    point = _values(matches, None, table, wins, ratings, tau, mixture)
    found = facts(table)
    cycles = _cycles(table)
    rng = np.random.default_rng(seed)
    drawn, shown = dict[str, list[Array]](), np.zeros(len(cycles))
    for number in range(draws):
        if progress:
            progress(number)
        counts = np.bincount(
            rng.integers(matches.groups, size=matches.groups), minlength=matches.groups
        ).astype(float)
        again = matches.wins(counts)
        try:
            rated: Array | None = bradley_terry(again)
        except ValueError:
            rated = None
        filled, _ = _filled(again, rated)
        for name, values in _values(matches, counts, filled, again, rated, tau, mixture).items():
            drawn.setdefault(name, []).append(values)
        shown += _turns(filled, cycles)
    support = shown / max(draws, 1)
    order = np.argsort(-(point["win_rate"] if ratings is None else ratings), kind="stable")
    best = np.argsort(-support, kind="stable")[:MOST_CYCLES]
    listed = [
        {"players": [names[k] for k in cycles[c]], "support": float(support[c]) if draws else None}
        for c in best
    ]
    return {
        "players": [_player(int(place), names, point, drawn) for place in order],
        "matrix": [[None if wins[i, j] + wins[j, i] == 0 and i != j else float(table[i, j]) for j in order]
                   for i in order],
        "condorcet_winner": None if found.condorcet_winner is None else names[found.condorcet_winner],
        "cycles": found.cycles,
        "cycles_found": listed,
        "example_cycle": listed[0]["players"] if listed else None,
        "cycle_support": listed[0]["support"] if listed else None,
        "notes": notes,
    }  # fmt: skip


def mixture_of(names: Sequence[str], given: Mapping[str, float]) -> Array:
    """Return a mixture of players as weights that sum to 1, (M,).

    Raises:
        ValueError: an unknown player, a weight below 0 or not finite, or none above 0.
    """
    strange = [name for name in given if name not in names]
    if strange:
        raise ValueError(f"the mixture names {strange[0]!r}; players are {', '.join(names)}")
    weights = np.array([float(given.get(name, 0.0)) for name in names])
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        raise ValueError("the weights of a mixture must be finite numbers, at least 0, and not all 0")
    return weights / weights.sum()


def equilibrium(table: Array, tau: float) -> Array:
    """Return a player's equilibrium policy in the game in which two pick players, (M,).

    Args:
        table: (M, M), win rates.
        tau: of the KL term to the uniform policy; at 0 it is a maximal lottery, that of largest entropy.
    """
    return np.asarray(solve(Game(Pairwise(table), players=2, tau=tau)).policies).reshape(-1, len(table))[0]


def group_equilibrium(tensor: Array, tau: float) -> Array:
    """Return the policy of the symmetric equilibrium in which n pick players, (M,).

    Args:
        tensor: (M, .., M), the first one's win rate in the group, n axes.
        tau: above 0.
    """
    players = tensor.ndim
    game = Game(DenseTensor(tensor, players=players), players=players, tau=tau)
    return np.asarray(solve(game).policies).reshape(-1, len(tensor))[0]


def _values(
    matches: Matches,
    counts: Array | None,
    table: Array,
    wins: Array,
    ratings: Array | None,
    tau: float,
    mixture: Array | None,
) -> dict[str, Array]:
    """Return what is known of each player, (M,) each; NaN where it is not."""
    lottery = equilibrium(table, 0.0)
    met = (wins + wins.T).sum(1) - 2 * np.diag(wins)
    own = wins.sum(1) - np.diag(wins)
    nothing = np.full(len(table), np.nan)
    found = {
        "rating": nothing if ratings is None else ratings,
        "win_rate": np.divide(own, met, out=nothing.copy(), where=met > 0),
        "lottery": lottery,
        "win_rate_against_lottery": table @ lottery,
        "exploitability": table.max(0) - 0.5,
    }
    if tau > 0:
        found["equilibrium"] = equilibrium(table, tau)
    if mixture is not None:
        found["win_rate_against_mixture"] = table @ mixture
    if matches.longer is not None:
        try:
            found["controlled_rating"] = controlled(matches.rows(counts), matches.longer[:, None])[0]
        except ValueError:
            found["controlled_rating"] = nothing
    return found


def _player(
    place: int, names: Sequence[str], point: Mapping[str, Array], drawn: Mapping[str, list[Array]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": names[place], "equilibrium": None}
    for name, values in point.items():
        row[name] = None if np.isnan(values[place]) else float(values[place])
    for name, rows in drawn.items():
        resampled = np.array(rows)[:, place]
        if not np.isnan(resampled).all():
            low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            row[f"{name}_low"], row[f"{name}_high"] = float(low), float(high)
    return row


def _filled(wins: Array, ratings: Array | None) -> tuple[Array, int]:
    """Return win rates, those of pairs that never met from ratings, and how many these are."""
    met = wins + wins.T
    unseen = (met == 0) & ~np.eye(len(wins), dtype=bool)
    known = np.where(met > 0, wins / np.where(met > 0, met, 1.0), 0.5)
    table = known if ratings is None else np.where(unseen, expected(ratings), known)
    np.fill_diagonal(table, 0.5)
    return table, int(unseen.sum()) // 2


def _cycles(table: Array) -> npt.NDArray[np.int64]:
    """Return the majority cycles of three, (C, 3), each from its smallest number on: every one beats the next."""
    beats = table > 0.5 + TIE
    found = [np.empty((0, 3), np.int64)]
    for first in range(len(table)):
        onward = beats[first][:, None] & beats & beats[:, first][None, :]
        onward[: first + 1] = onward[:, : first + 1] = False
        second, third = np.nonzero(onward)
        found.append(np.column_stack([np.full(len(second), first), second, third]))
    return np.concatenate(found)


def _turns(table: Array, cycles: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell of cycles whether each member beats the next, and the last the first, (C,)."""
    beats = table > 0.5 + TIE
    return np.asarray(beats[cycles, np.roll(cycles, -1, axis=1)].all(1))
