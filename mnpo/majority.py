"""Facts of a pairwise win matrix read as a tournament: who beats whom by majority."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mnpo.numerics import Array

#: Win probabilities this close to one half are ties.
TIE = 1e-12


@dataclass(frozen=True)
class Facts:
    """Of one win matrix.

    Attributes:
        condorcet_winner: the response that beats every other, or None.
        smith_set: the smallest set whose members beat all outside it, by falling Copeland score.
        cycles: number of majority cycles of length three.
        example_cycle: one of them, each member beating the next, or None.
        copeland: (A,), responses beaten plus half of those tied.
        ties: number of pairs at one half.
    """

    condorcet_winner: int | None
    smith_set: tuple[int, ...]
    cycles: int
    example_cycle: tuple[int, int, int] | None
    copeland: tuple[float, ...]
    ties: int

    def as_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return plain data for JSON, responses named."""
        return {
            "condorcet_winner": None if self.condorcet_winner is None else names[self.condorcet_winner],
            "smith_set": [names[index] for index in self.smith_set],
            "majority_cycles": self.cycles,
            "example_cycle": None if self.example_cycle is None else [names[i] for i in self.example_cycle],
            "copeland": dict(zip(names, self.copeland, strict=True)),
            "ties": self.ties,
        }


def facts(matrix: Array) -> Facts:
    """Return the facts of a win matrix P of shape (A, A)."""
    size = matrix.shape[0]
    beats = matrix > 0.5 + TIE
    tied = ~beats & ~beats.T & ~np.eye(size, dtype=bool)
    winners = np.flatnonzero(beats.sum(1) == size - 1)
    copeland = beats.sum(1) + 0.5 * tied.sum(1)
    # The Smith set is the strongly connected component, under "not beaten by", that nobody else reaches.
    _, labels = connected_components(
        csr_array((beats | tied).astype(np.int8)), directed=True, connection="strong"
    )
    top = labels[int(copeland.argmax())]
    smith = sorted(np.flatnonzero(labels == top), key=lambda index: (-copeland[index], index))
    count = beats.astype(np.float64)
    return Facts(
        condorcet_winner=int(winners[0]) if winners.size else None,
        smith_set=tuple(int(index) for index in smith),
        cycles=round(float(np.einsum("ij,ji->", count @ count, count)) / 3),
        example_cycle=_majority_cycle(beats),
        copeland=tuple(float(score) for score in copeland),
        ties=int(tied.sum()) // 2,
    )


def _majority_cycle(beats: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[int, int, int] | None:
    for first in range(beats.shape[0]):
        onward = beats[first][:, None] & beats & beats[:, first][None, :]
        if onward.any():
            second, third = (int(index) for index in np.argwhere(onward)[0])
            return first, second, third
    return None
