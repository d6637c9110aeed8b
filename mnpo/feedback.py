"""Win rates learnt from samples instead of known: what preference pairs tell a table.

An update regresses the log-probability gaps of pairs on their targets (MNPO Lemma 1; docs/concepts.md, (L)). With
finitely many pairs that is a least-squares problem for the advantage. Its solution of least norm stands for the
advantage here: a response that no pair connects to others is credited with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnpo.choices import choose
from mnpo.games import Game
from mnpo.numerics import Array, check_memory, mean_of_others
from mnpo.rules import LABEL_GAP

#: How pairs can be drawn, and what is learnt from them (docs/concepts.md, (11) and (12)). "Right": the targets are
#: unbiased, so that the solution tends to the advantage as pairs grow many; with few, rare responses get less.
PAIRS = {
    "iid": "two draws from the policy, labelled by each other: right against the policy itself only",
    "third": "two draws from the policy, both compared with a third from the opponents: right for any opponents",
    "best-worst": "best and worst of K draws, as the published recipe has it: biased for any number of pairs",
}


@dataclass(eq=False)
class Sampled:
    """Sampled feedback for games with pairwise payoffs (a `mnpo.steps.Feedback`).

    Args:
        samples: m, pairs per policy and context in each update.
        rng: the source of all randomness.
        pairs: "iid", "third" or "best-worst" (see `PAIRS`).
        soft: win probabilities in place of Bernoulli labels.
        pool: K, draws of which best and worst are taken.

    Raises:
        ValueError: m < 1, K < 2, an unknown kind of pairs; when called, payoffs that are not pairwise.
    """

    samples: int
    rng: np.random.Generator
    pairs: str = "third"
    soft: bool = False
    pool: int = 4

    def __post_init__(self) -> None:
        choose(self.pairs, PAIRS, "kind of pairs")
        if self.samples < 1 or self.pool < 2:
            raise ValueError(
                f"samples must be at least 1 and pool at least 2; found {self.samples}, {self.pool}"
            )

    def __call__(self, game: Game, behaviour: Array, opponents: Array) -> Array:
        """Estimate the advantage, (..., p, X, A), up to a constant per policy; see `Feedback`."""
        matrices = game.player_matrices()
        if matrices is None:
            raise ValueError("sampled feedback needs pairwise payoffs (pairwise oracles, or two players)")
        check_memory((4, *behaviour.shape, self.samples), "the sampled pairs")
        wins = np.broadcast_to(matrices, (*behaviour.shape, behaviour.shape[-1]))
        if self.pairs == "best-worst":
            first, second = self._best_and_worst(wins, behaviour)
            target = np.full(first.shape, LABEL_GAP)
        else:
            first, second = (draw(behaviour, self.samples, self.rng) for _ in range(2))
            if self.pairs == "iid":
                target = self._label(_entries(wins, first, second)) - 0.5
            else:
                # One draw from the mixture of the others has their mean win rate.
                third = draw(mean_of_others(opponents), self.samples, self.rng)
                target = self._label(_entries(wins, first, third)) - self._label(
                    _entries(wins, second, third)
                )
        return regress(first, second, target, behaviour.shape[-1])

    def _label(self, chances: Array) -> Array:
        return chances if self.soft else (self.rng.random(chances.shape) < chances).astype(np.float64)

    def _best_and_worst(self, wins: Array, behaviour: Array) -> tuple[np.ndarray, np.ndarray]:
        drawn = draw(behaviour, self.samples * self.pool, self.rng)
        drawn = drawn.reshape(*drawn.shape[:-1], self.samples, self.pool)
        duels = _entries(wins[..., None, :, :], drawn[..., :, None], drawn[..., None, :])
        scores = self._label(duels).mean(axis=-1)
        best = np.take_along_axis(drawn, scores.argmax(-1)[..., None], axis=-1)[..., 0]
        worst = np.take_along_axis(drawn, scores.argmin(-1)[..., None], axis=-1)[..., 0]
        return best, worst


def _entries(wins: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Look up wins[..., row, column] for index arrays with further axes at the end."""
    size = wins.shape[-1]
    rows, columns = np.broadcast_arrays(rows, columns)
    flat = wins.reshape(*wins.shape[:-2], size * size)
    index = (rows * size + columns).reshape(*flat.shape[:-1], -1)
    return np.take_along_axis(flat, index, axis=-1).reshape(rows.shape)


def draw(policies: Array, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return so many responses of each policy, (..., A) -> (..., count) places."""
    cumulative = policies.cumsum(axis=-1)
    cumulative /= cumulative[..., -1:]
    uniform = rng.random((*policies.shape[:-1], count))
    return (uniform[..., None] >= cumulative[..., None, :]).sum(axis=-1).clip(max=policies.shape[-1] - 1)


def regress(first: np.ndarray, second: np.ndarray, target: Array, size: int) -> Array:
    """Return the d of least norm that minimises Σ (d(y) − d(y') − target)² over pairs, (..., m) -> (..., A)."""
    everyone = np.eye(size)
    difference = everyone[first] - everyone[second]
    normal = np.matmul(difference.swapaxes(-1, -2), difference)
    right = np.matmul(difference.swapaxes(-1, -2), target[..., None])
    return np.matmul(np.linalg.pinv(normal, hermitian=True), right)[..., 0]
