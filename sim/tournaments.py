"""Players ranked by their matches: ratings, the game that they form, and how sure all of that is.

A rating is one number for a player, and can show no cycle. The meta-game, in which one picks a player, has an exact
equilibrium whatever the win rates are: at τ = 0 a maximal lottery.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mnpo.equilibria import solve
from mnpo.games import Game
from mnpo.numerics import Array
from mnpo.oracles import Pairwise
from mnpo.ratings import bradley_terry, expected
from mnpo.sim.tables import Vote, votes_in
from mnpo.sim.tournament import facts

#: Of intervals.
LEVEL = 0.95


def tournament(file: Path, *, tau: float = 0.0, draws: int = 200, seed: int = 0) -> dict[str, Any]:
    """Rank the players of a file of votes.

    Args:
        file: one vote a line, as an arena keeps them.
        tau: τ of the second equilibrium; with 0 there is one.
        draws: resamples of the bootstrap, in which votes about the same question stay together.
        seed: of these.

    Returns:
        players: by falling rating (by win rate where ratings are not finite), each with its rating, win rate,
        shares in the equilibria, win rate against the maximal lottery, exploitability, and intervals of rating, win
        rate and share; matrix, the win rates in that order, null where nobody met; condorcet_winner; cycles, the
        majority cycles of three; example_cycle with its bootstrap support; notes, what is to be known.

    Raises:
        ValueError: no votes, or what is wrong with one, with its line.
        OSError: the file cannot be read.
    """
    votes = list(votes_in(file))
    if not votes:
        raise ValueError(f"{file}: has no votes")
    names = sorted({name for vote in votes for name in (vote.first, vote.second)})
    matches = _Matches(votes, names)
    notes = [f"{len(votes)} votes on {len(names)} players, about {matches.groups} questions"]
    wins = matches.wins(np.ones(matches.groups))
    ratings: Array | None = None
    try:
        ratings = bradley_terry(wins, names)
    except ValueError as error:
        notes.append(f"no ratings: {error}")
    table, unseen = _filled(wins, ratings)
    if unseen:
        how = "even" if ratings is None else "as the ratings expect"
        notes.append(
            f"{unseen} of {len(names) * (len(names) - 1) // 2} pairs never met; they are taken {how}"
        )
    lottery = _equilibrium(table, 0.0)
    at_tau = _equilibrium(table, tau) if tau > 0 else None
    resampled = _bootstrap(matches, names, table, draws, np.random.default_rng(seed))
    rate = _win_rate(wins)
    order = np.argsort(-(rate if ratings is None else ratings), kind="stable")
    found = facts(table)
    players = []
    for place in order.tolist():
        row: dict[str, Any] = {
            "name": names[place],
            "rating": None if ratings is None else float(ratings[place]),
            "win_rate": float(rate[place]),
            "lottery": float(lottery[place]),
            "equilibrium": None if at_tau is None else float(at_tau[place]),
            "win_rate_against_lottery": float(table[place] @ lottery),
            "exploitability": float(table[:, place].max() - 0.5),
        }
        for name, values in resampled.items():
            if name != "cycle":
                low, high = np.nanquantile(values[:, place], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
                row[f"{name}_low"], row[f"{name}_high"] = float(low), float(high)
        players.append(row)
    cycle = found.example_cycle
    return {
        "kind": "tournament", "file": str(file), "tau": tau, "draws": draws, "notes": notes, "players": players,
        "matrix": [[None if wins[i, j] + wins[j, i] == 0 and i != j else float(table[i, j]) for j in order]
                   for i in order],
        "condorcet_winner": None if found.condorcet_winner is None else names[found.condorcet_winner],
        "cycles": found.cycles,
        "example_cycle": None if cycle is None else [names[k] for k in cycle],
        "cycle_support": float(np.mean(resampled["cycle"])) if cycle is not None and draws else None,
    }  # fmt: skip


class _Matches:
    """Votes as numbers, so that many resamples cost little."""

    def __init__(self, votes: list[Vote], names: list[str]) -> None:
        place = {name: number for number, name in enumerate(names)}
        first, second = (
            np.array([place[getattr(vote, who)] for vote in votes]) for who in ("first", "second")
        )
        self._size = len(names)
        self._won, self._lost = first * self._size + second, second * self._size + first
        self._share = np.array([vote.share for vote in votes])
        self._weight = np.array([vote.weight for vote in votes])
        about = np.unique([vote.about for vote in votes], return_inverse=True)[1]
        self._about, self.groups = about, int(about.max()) + 1

    def wins(self, counts: Array) -> Array:
        """Return how often the row won against the column where each question counts so often, (M, M)."""
        weight, size = self._weight * counts[self._about], self._size**2
        won = np.bincount(self._won, weight * self._share, size)
        return np.asarray(
            (won + np.bincount(self._lost, weight * (1 - self._share), size)).reshape(self._size, -1)
        )


def _filled(wins: Array, ratings: Array | None) -> tuple[Array, int]:
    """Return win rates, those of pairs that never met from ratings, and how many these are."""
    met = wins + wins.T
    unseen = (met == 0) & ~np.eye(len(wins), dtype=bool)
    known = np.where(met > 0, wins / np.where(met > 0, met, 1.0), 0.5)
    table = known if ratings is None else np.where(unseen, expected(ratings), known)
    np.fill_diagonal(table, 0.5)
    return table, int(unseen.sum()) // 2


def _win_rate(wins: Array) -> Array:
    met = (wins + wins.T).sum(1)
    return np.asarray(np.divide(wins.sum(1), met, out=np.full(len(wins), np.nan), where=met > 0))


def _equilibrium(table: Array, tau: float) -> Array:
    game = Game(Pairwise(table), players=2, tau=tau)
    return np.asarray(solve(game).policies).reshape(-1, len(table))[0]


def _bootstrap(
    matches: _Matches, names: list[str], table: Array, draws: int, rng: np.random.Generator
) -> dict[str, Array]:
    """Return what resamples give, (draws, M) each, and whether the example cycle was in them, (draws,)."""
    cycle = facts(table).example_cycle
    found: dict[str, list[Any]] = {"rating": [], "win_rate": [], "lottery": [], "cycle": []}
    nothing = np.full(len(names), np.nan)
    for _ in range(draws):
        drawn = np.bincount(rng.integers(matches.groups, size=matches.groups), minlength=matches.groups)
        wins = matches.wins(drawn.astype(float))
        try:
            ratings: Array | None = bradley_terry(wins)
        except ValueError:
            ratings = None
        again, _ = _filled(wins, ratings)
        found["rating"].append(nothing if ratings is None else ratings)
        found["win_rate"].append(_win_rate(wins))
        found["lottery"].append(_equilibrium(again, 0.0))
        if cycle is not None:
            turns = [again[i, j] > 0.5 for i, j in zip(cycle, (*cycle[1:], cycle[0]), strict=True)]
            found["cycle"].append(all(turns))
    rows = {name: np.array(values, dtype=float) for name, values in found.items() if draws}
    return {name: values for name, values in rows.items() if not np.isnan(values).all()}
