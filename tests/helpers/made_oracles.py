"""Random oracles of every kind, each with the group preference that it claims to average."""

from __future__ import annotations

import numpy as np

from mnpo import Pairwise, PlackettLuce, Population, Rankings
from support import pairwise_win, plackett_luce_win, population_win, random_matrix, ranking_win

KINDS = ("pairwise", "plackett-luce", "strict", "weak", "population")


def build(kind: str, rng: np.random.Generator, size: int):
    """An oracle and the P(y ≻ O) that it claims to average."""
    if kind == "pairwise":
        matrix = random_matrix(rng, size)
        return Pairwise(matrix), pairwise_win(matrix)
    if kind == "plackett-luce":
        utilities = 3 * rng.standard_normal(size)
        return PlackettLuce(utilities), plackett_luce_win(utilities)
    levels = rng.integers(0, max(2, size - 1), size=(4, size))
    if kind == "strict":
        levels = np.argsort(rng.random((4, size)), axis=-1)
    weights = rng.random(4) + 0.1
    if kind in ("strict", "weak"):
        return Rankings(levels, weights), population_win([ranking_win(row) for row in levels], weights)
    utilities, more = 2 * rng.standard_normal((2, size)), rng.random(2) + 0.1
    wins = [ranking_win(row) for row in levels] + [plackett_luce_win(row) for row in utilities]
    return (
        Population(levels, weights, utilities, more),
        population_win(wins, np.concatenate([weights, more])),
    )
