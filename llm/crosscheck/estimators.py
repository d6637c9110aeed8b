"""What networks learn from finitely many labels on a finite game, and what from infinitely many.

Both are in docs/concepts.md: (11), (12). Pairs are made by `mnpo.llm.preferences.pairing`, as for any model.
Only the responses are drawn, and the oracle asked, on the table. A data set of m pairs has one row for each
way in which two responses met, with how often as its weight: for a squared loss that is the same data set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import multinomial

from mnpo.choices import choose
from mnpo.games import Game
from mnpo.implicit import equilibrium_around
from mnpo.llm.crosscheck.executor import Around, Part, Rows, row
from mnpo.llm.crosscheck.finite import ResponseSet
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.preferences.implicit import credited
from mnpo.llm.preferences.pairing import AdvantagePart, Pair, Recipe, make_pairs
from mnpo.numerics import LOG_ZERO, Array, normalise_log
from mnpo.oracles import Pairwise
from mnpo.rules import LABEL_GAP

IntArray = npt.NDArray[np.int64]


class Estimator(NamedTuple):
    """How a run of `mnpo llm train` would make its pairs.

    Attributes:
        pairing, labels, target: the configuration's keys.
        drawn: K, responses drawn at once.
        table: the name that `mnpo.feedback` has for it, if it has it.
    """

    pairing: str
    labels: str
    target: str
    drawn: int
    table: str | None


#: What each teaches is `limit`.
ESTIMATORS = {
    "label": Estimator("iid", "sampled", "label", 8, "iid"),
    "third": Estimator("third", "sampled", "win-rate", 8, "third"),
    "win-rate": Estimator("iid", "sampled", "win-rate", 8, None),
    "best-worst": Estimator("best-worst", "hard", "label", 4, None),
    "sample-game": Estimator("all", "soft", "win-rate", 8, None),
}

#: Draws of the opponents for each group of K.
_OPPONENTS = 4
#: Groups of K that a limit is summed over, at most.
_MOST_GROUPS = 100_000


class TooMany(ValueError):
    """More groups of responses than a limit can be summed over."""


class Labels:
    """A `mnpo.llm.crosscheck.executor.Lesson` of m sampled pairs for each context.

    Args:
        estimator: a key of `ESTIMATORS`.
        count: m.
        rng: the source of all randomness.

    Raises:
        ValueError: an unknown estimator, m < 1; when called, payoffs that are not pairwise.
    """

    def __init__(self, estimator: str, count: int, rng: np.random.Generator) -> None:
        self._name, self._count, self._rng = estimator, count, rng
        self._how = choose(estimator, ESTIMATORS, "estimator")
        self.target = self._how.target
        if count < 1:
            raise ValueError(f"labels must be at least 1; found {count}")

    def __call__(
        self, game: Game, responses: ResponseSet, player: int, own: Array, parts: Sequence[Part]
    ) -> Rows:
        """See `mnpo.llm.crosscheck.executor.Lesson`."""
        matrices = _matrices(game, player)
        rows: Rows = []
        for x, matrix in enumerate(matrices):
            met: dict[tuple[int, int], Array] = {}
            left = self._count
            if self._name == "sample-game":
                groups = self._games(matrix, own[x], _around(parts), player, x)
            else:
                against = [(part.weight, part.at[:, x]) for part in parts]
                groups = self._groups(matrix, own[x], against, player)
            while left > 0:
                drawn, pairs = next(groups)
                for pair in pairs[:left]:
                    y, z = int(drawn[pair.chosen]), int(drawn[pair.rejected])
                    wins = [pair.numbers.get(f"win_{side}", 0.0) for side in ("chosen", "rejected")]
                    if y > z and self.target == "win-rate":  # then the order says nothing
                        y, z, wins = z, y, wins[::-1]
                    met[y, z] = met.get((y, z), np.zeros(3)) + np.array([1.0, *wins])
                left -= max(len(pairs), 1)  # a group that ties throughout was a question too
            for (y, z), (count, first, second) in sorted(met.items()):
                if y != z:
                    wins_of = {"win_chosen": first / count, "win_rejected": second / count}
                    numbers = wins_of if self.target == "win-rate" else {}
                    rows.append(row(responses, x, y, z, weight=float(count), **numbers))
        return rows

    def _games(
        self, matrix: Array, own: Array, around: Around, player: int, context: int
    ) -> Iterator[tuple[IntArray, list[Pair]]]:
        """Draw groups of responses enough for m pairs, and credit the pairs of each by its sample game."""
        size = self._how.drawn
        count = -(-self._count // (size * (size - 1) // 2))
        drawn = self._rng.choice(own.size, (count, size), p=own)
        weights = around.log_reference[player, context] - np.log(own)
        judged = [[Judged(1.0, wins=matrix[np.ix_(group, group)])] for group in drawn]
        recipe = replace(_recipe(self._name, ()), strength=around.strength)
        credits = credited(recipe, judged, weights[drawn]).advantages
        for group, said, credit in zip(drawn, judged, credits, strict=True):
            yield group, make_pairs(recipe, said, self._rng, credit)

    def _groups(
        self, matrix: Array, own: Array, parts: Sequence[tuple[float, Array]], player: int
    ) -> Iterator[tuple[IntArray, list[Pair]]]:
        """Draw one group of responses after the other, without end."""
        while True:
            yield self._group(matrix, own, parts, player)

    def _group(
        self, matrix: Array, own: Array, parts: Sequence[tuple[float, Array]], player: int
    ) -> tuple[IntArray, list[Pair]]:
        """Draw responses, ask about them, and pair them."""
        count = self._how.drawn
        drawn = [self._rng.choice(own.size, count, p=own)]
        credits = []
        place = count
        for weight, at in parts if self.target == "win-rate" else ():
            others = [at[j] for j in range(len(at)) if j != player] or [at[0]]
            places = []
            for other in others:
                drawn.append(self._rng.choice(other.size, _OPPONENTS, p=other))
                places.append(tuple(range(place, place + _OPPONENTS)))
                place += _OPPONENTS
            credits.append(AdvantagePart(weight, tuple(places)))
        everyone = np.concatenate(drawn)
        wins = matrix[everyone[:count, None], everyone]
        if self._name == "win-rate":
            wins = (self._rng.random(wins.shape) < wins).astype(np.float64)
        recipe = _recipe(self._name, tuple(credits))
        return everyone, make_pairs(recipe, [Judged(1.0, wins=wins)], self._rng)


def limit(
    name: str, game: Game, player: int, own: Array, parts: Sequence[Part], drawn: int | None = None
) -> Array:
    """Return the advantage that infinitely many labels teach, (X, A), up to a constant for each context.

    Args:
        name: the estimator.
        game: who wins.
        player: i.
        own: (X, A), the policy that responses are drawn from.
        parts: what the rule credits.
        drawn: K of the sample game; the estimator's own unless given.

    Raises:
        ValueError: payoffs that are not pairwise.
        TooMany: too many responses to go through all groups of K.
    """
    matrices = _matrices(game, player)
    if name == "label":
        return np.einsum("xyz,xz->xy", matrices, own)
    if name == "sample-game":
        around = _around(parts)
        count = (drawn or ESTIMATORS[name].drawn) - 2
        logs = zip(matrices, own, around.log_reference[player], strict=True)
        return np.stack([_expected(*one, around.strength, count) for one in logs])
    if name != "best-worst":
        return np.asarray(sum(part.weight * game.win_probabilities(part.at)[player] for part in parts))
    return np.stack([_best_and_worst(matrix, policy) for matrix, policy in zip(matrices, own, strict=True)])


def _expected(matrix: Array, own: Array, log_reference: Array, strength: float, others: int) -> Array:
    """The mean win rate of each response against the equilibria of `others` draws, (A,).

    The pair is not among the others, so that what its responses are credited with does not depend on the pair. All
    counts of the others are gone through, each as likely as it is.
    """
    size = own.size
    if comb(others + size - 1, size - 1) > _MOST_GROUPS:
        raise TooMany(f"{others} draws of {size} responses are too many to go through")
    bars = np.array(list(itertools.combinations(range(others + size - 1), size - 1)))
    ends = np.hstack([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), others + size - 1)])
    counts = np.diff(ends, axis=1) - 1
    likely = multinomial.pmf(counts, others, own)
    logs = np.where(counts > 0, np.log(np.maximum(counts, 1)) + log_reference - np.log(own), LOG_ZERO)
    game = Game(Pairwise(np.broadcast_to(matrix, (len(counts), size, size))))
    found = equilibrium_around(game, normalise_log(logs)[0][None], np.array([1 / strength])).log_policies[0]
    return np.asarray(matrix @ (likely @ np.exp(found)))


def _around(parts: Sequence[Part]) -> Around:
    (found,) = (part.around for part in parts if part.around is not None)
    return found


def _best_and_worst(matrix: Array, own: Array) -> Array:
    """The least-squares solution over all groups of K draws, each as likely as it is: (A,)."""
    size, drawn = own.size, ESTIMATORS["best-worst"].drawn
    if size**drawn > _MOST_GROUPS:
        raise TooMany(f"best-worst of {size} responses has too many groups of {drawn} to go through")
    normal, right = np.zeros((size, size)), np.zeros(size)
    for group in itertools.product(range(size), repeat=drawn):
        members = list(group)
        scores = matrix[np.ix_(members, members)].sum(1)
        best, worst = members[int(scores.argmax())], members[int(scores.argmin())]
        if scores.max() - scores.min() < 1e-12 or matrix[best, worst] == 0.5:
            continue  # nothing to choose between
        difference = np.eye(size)[best] - np.eye(size)[worst]
        share = float(np.prod(own[members]))
        normal += share * np.outer(difference, difference)
        # The one that wins of the two is taken as preferred, which need not be the best of the group.
        right += share * LABEL_GAP * np.sign(matrix[best, worst] - 0.5) * difference
    return np.asarray(np.linalg.pinv(normal, hermitian=True) @ right)


def _recipe(name: str, credits: tuple[AdvantagePart, ...]) -> Recipe:
    how = ESTIMATORS[name]
    wanted = how.target == "win-rate"
    return Recipe(how.pairing, how.labels, how.drawn, credits if wanted else (AdvantagePart(1.0),), wanted)


def _matrices(game: Game, player: int) -> Array:
    """(X, A, A): P as the player's oracle has it."""
    found = game.player_matrices()
    if found is None:
        raise ValueError("sampled feedback needs pairwise payoffs (pairwise oracles, or two players)")
    return np.asarray(found[player % len(found)])
