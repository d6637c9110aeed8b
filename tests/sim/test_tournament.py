"""Facts of a tournament, against their definitions."""

import numpy as np

from mnpo.majority import facts
from support import random_matrix


def test_facts_are_those_of_enumeration():
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 5, 8):
        matrix = random_matrix(rng, size)
        found = facts(matrix)
        beats = matrix > 0.5
        cycles = {
            frozenset((i, j, k))
            for i in range(size) for j in range(size) for k in range(size)
            if beats[i, j] and beats[j, k] and beats[k, i]
        }  # fmt: skip
        assert found.cycles == len(cycles)
        assert (found.example_cycle is None) == (not cycles)
        winners = [i for i in range(size) if beats[i].sum() == size - 1]
        assert found.condorcet_winner == (winners[0] if winners else None)
        # The Smith set by its definition: the smallest set that beats everything outside it.
        smallest = min(
            (mask for mask in range(1, 2**size) if _dominates(mask, beats, size)),
            key=lambda mask: bin(mask).count("1"),
        )
        assert set(found.smith_set) == {i for i in range(size) if smallest >> i & 1}


def _dominates(mask, beats, size):
    inside = [i for i in range(size) if mask >> i & 1]
    return all(beats[i, j] for i in inside for j in range(size) if j not in inside)


def test_ties_belong_to_the_smith_set():
    found = facts(np.array([[0.5, 0.5, 0.9], [0.5, 0.5, 0.2], [0.1, 0.8, 0.5]]))
    assert set(found.smith_set) == {0, 1, 2}
    assert found.condorcet_winner is None
    assert found.ties == 1
