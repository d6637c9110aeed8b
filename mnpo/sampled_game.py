"""Feedback from groups of responses, as a language model's iteration has it: K for each of G prompts, all judged.

Explicit rules are credited with win rates against the other K − 2 responses of the group, implicit ones by the
sample game of these (`mnpo.sample_game`; docs/concepts.md, (12) and (15)): as many responses and judgments.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mnpo.choices import choose
from mnpo.feedback import draw, regress
from mnpo.games import Game
from mnpo.implicit import equilibrium_around
from mnpo.numerics import LOG_ZERO, Array, normalise_log
from mnpo.oracles import Oracle, Pairwise
from mnpo.sample_game import sample_game

#: How a pair's opponents are chosen for an implicit step.
OPPONENTS = {
    "pair-left-out": "the equilibrium of the other K − 2 responses",
    "all": "the equilibrium of all K, the pair among them",
    "halves": "the equilibrium of the half of the responses that the pair is not in; pairs within halves",
}


@dataclass(eq=False)
class Groups:
    """Sampled feedback for players who are alike and play a game of one context (a `mnpo.steps.Feedback`).

    In games of n > 2 players all opponents are drawn with replacement from the responses that may be opponents.

    Args:
        groups: G, prompts an update.
        pool: K ≥ 3, responses to each, drawn from the player's policy.
        rng: the source of all randomness.
        labels: whether each pair is judged by one label instead of its probability; in pairwise games.
        opponents: a key of `OPPONENTS`.

    Raises:
        ValueError: sizes too small, an unknown kind of opponents; when called, another game.
    """

    groups: int
    pool: int
    rng: np.random.Generator
    labels: bool = False
    opponents: str = "pair-left-out"
    _behaviour: bytes = field(default=b"", init=False)
    _known: dict[tuple[int, ...], tuple[np.ndarray, Game]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        choose(self.opponents, OPPONENTS, "kind of opponents")
        if self.groups < 1 or self.pool < (6 if self.opponents == "halves" else 3):
            raise ValueError(
                f"groups must be at least 1 and pool at least 3 (6 in halves); found {self.groups}, {self.pool}"
            )

    def __call__(self, game: Game, behaviour: Array, opponents: Array) -> Array:
        """Estimate q against policies, (..., 1, 1, A); of others than the player's by importance weights."""
        logs = np.log(np.maximum(opponents, 1e-300)) - np.log(np.maximum(behaviour, 1e-300))
        return self._each(game, behaviour, logs, self._against_others)

    def implicit(self, game: Game, behaviour: Array, logits: Array, strength: Any) -> Array:
        """Estimate q at the next policies, (..., 1, 1, A); see `mnpo.steps.Step`."""
        logs = logits - np.log(np.maximum(behaviour, 1e-300))
        factor = np.broadcast_to(np.asarray(strength, dtype=float), (*behaviour.shape[:-1], 1))

        def solve(part: Game, weights: Array, place: tuple[int, ...]) -> tuple[Array, np.ndarray]:
            return self._solved(part, weights, float(factor[place].item()))

        return self._each(game, behaviour, logs, solve)

    def _each(self, game: Game, behaviour: Array, logs: Array, credit: Any) -> Array:
        """Regress the credits of all groups' pairs, for each policy of a batch."""
        *batch, slots, contexts, size = behaviour.shape
        if (slots, contexts) != (1, 1):
            raise ValueError("groups of responses are drawn in games of one context and players alike")
        whole = game.by_matrix()
        everywhere = whole.oracle.side_by_side(tuple(batch)) if whole.batch_shape else whole.oracle
        found = np.empty_like(behaviour)
        # What is asked about the same policies again, as by a step ahead, is answered from the same responses.
        if behaviour.tobytes() != self._behaviour:
            self._behaviour, self._known = behaviour.tobytes(), {}
        for number, place in enumerate(np.ndindex(behaviour.shape[:-1])):
            if place not in self._known:
                drawn = draw(behaviour[place], self.groups * self.pool, self.rng)
                drawn = drawn.reshape(self.groups, self.pool)
                here = number if everywhere.contexts > 1 else 0
                judged = everywhere.at(np.full(self.groups, here)).among(drawn)
                self._known[place] = drawn, Game(self._labelled(judged), game.players)
            drawn, part = self._known[place]
            credits, pairs = credit(part, logs[place][drawn], place)
            first, second = drawn[:, pairs[:, 0]].ravel(), drawn[:, pairs[:, 1]].ravel()
            target = (credits[..., 0] - credits[..., 1]).ravel()
            found[place] = regress(first, second, target, size)
        return found

    def _pairs(self) -> np.ndarray:
        return np.array(list(itertools.combinations(range(self.pool), 2)))

    def _labelled(self, oracle: Oracle) -> Oracle:
        if not self.labels:
            return oracle
        if not isinstance(oracle, Pairwise):
            raise ValueError("labels are of pairs; a group oracle of more than two players has none")
        upper = np.triu(self.rng.random(oracle.matrix.shape) < oracle.matrix, 1).astype(np.float64)
        return Pairwise(upper + np.tril(1 - upper.swapaxes(-1, -2), -1) + 0.5 * np.eye(self.pool))

    def _against_others(self, part: Game, weights: Array, place: tuple[int, ...]) -> tuple[Array, np.ndarray]:
        """Win rates against the other K − 2, (G, M, 2), by importance where others are meant."""
        pairs = self._pairs()
        logs = np.repeat(weights[None], len(pairs), axis=0)
        logs[np.arange(len(pairs))[:, None], :, pairs] = LOG_ZERO
        wins = part.win_probabilities(np.exp(normalise_log(logs)[0])[:, None])[:, 0]
        return np.take_along_axis(wins, pairs[:, None], axis=-1).swapaxes(0, 1), pairs

    def _solved(self, part: Game, weights: Array, strength: float) -> tuple[Array, np.ndarray]:
        pairs = self._pairs()
        if self.opponents == "pair-left-out":
            found = sample_game(part.oracle, weights, pairs.tolist(), strength=strength, players=part.players)
            return found.advantages, pairs
        if self.opponents == "all":
            return _at(part, weights, strength)[:, pairs], pairs
        middle = self.pool // 2
        halves = [np.arange(middle), np.arange(middle, self.pool)]
        credits = np.empty(weights.shape)
        for mine, others in (halves, halves[::-1]):
            logs = np.full(weights.shape, LOG_ZERO)
            logs[:, others] = weights[:, others]
            credits[:, mine] = _at(part, logs, strength)[:, mine]
        pairs = np.array([pair for half in halves for pair in itertools.combinations(half, 2)])
        return credits[:, pairs], pairs


def _at(part: Game, weights: Array, strength: float) -> Array:
    """Win rates against the equilibrium around weights, (G, K)."""
    found = equilibrium_around(part, normalise_log(weights)[0][None], np.array([1 / strength]))
    return part.win_probabilities(np.exp(found.log_policies))[0]
