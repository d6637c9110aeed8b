"""Shared by all tests: random games, brute-force answers, and where the real data lies."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SUSHI = DATA / "00014-00000001.soc"
FOOTBALL = DATA / "00054-00000929.soc"

needs_data = pytest.mark.skipif(
    not SUSHI.exists(), reason="the real data files are not beside the repository"
)


def random_matrix(rng: np.random.Generator, size: int, *batch: int) -> np.ndarray:
    upper = np.triu(rng.random((*batch, size, size)), 1)
    return upper + np.tril(1 - upper.swapaxes(-1, -2), -1) + 0.5 * np.eye(size)


def random_policies(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])


def enumerate_wins(group_win: Callable[[int, tuple[int, ...]], float], policies: np.ndarray) -> np.ndarray:
    """q of shape (n, A) from P(y ≻ O) by summing over every possible group, with no shortcut at all."""
    players, size = policies.shape
    wins = np.zeros((players, size))
    for i in range(players):
        others = [policies[j] for j in range(players) if j != i]
        for y in range(size):
            for group in itertools.product(range(size), repeat=players - 1):
                chance = float(np.prod([policy[z] for policy, z in zip(others, group, strict=True)]))
                wins[i, y] += chance * group_win(y, group)
    return wins


def pairwise_win(matrix: np.ndarray) -> Callable[[int, tuple[int, ...]], float]:
    return lambda y, group: float(np.mean([matrix[y, z] for z in group]))


def plackett_luce_win(utilities: np.ndarray) -> Callable[[int, tuple[int, ...]], float]:
    return lambda y, group: float(1 / (1 + sum(np.exp(utilities[z] - utilities[y]) for z in group)))


def ranking_win(levels: np.ndarray) -> Callable[[int, tuple[int, ...]], float]:
    """One annotator: the best level of the group wins, ties split evenly among the group's members."""

    def win(y: int, group: tuple[int, ...]) -> float:
        everyone = [levels[y], *(levels[z] for z in group)]
        best = min(everyone)
        return 1 / everyone.count(best) if levels[y] == best else 0.0

    return win


def population_win(
    wins: list[Callable[[int, tuple[int, ...]], float]], weights: np.ndarray
) -> Callable[[int, tuple[int, ...]], float]:
    shares = np.asarray(weights) / np.sum(weights)
    return lambda y, group: float(sum(w * win(y, group) for w, win in zip(shares, wins, strict=True)))
