"""How long the sample game takes: the advantages of all pairs of K responses to many prompts.

    python benchmarks/sample_game.py [PROMPTS]

Random win matrices and weights, docs/concepts.md (15). Prints seconds and the peak of memory.
"""

from __future__ import annotations

import itertools
import resource
import sys
import time

import numpy as np

from mnpo import Pairwise
from mnpo.sample_game import sample_game


def main(prompts: int) -> None:
    """Time K = 8 and 16 at two steps."""
    for count, strength in itertools.product((8, 16), (2.0, 10.0)):
        rng = np.random.default_rng(0)
        upper = np.triu(rng.random((prompts, count, count)), 1)
        wins = upper + np.tril(1 - upper.swapaxes(-1, -2), -1) + 0.5 * np.eye(count)
        weights, pairs = (
            0.5 * rng.standard_normal((prompts, count)),
            list(itertools.combinations(range(count), 2)),
        )
        begun = time.perf_counter()
        sample_game(Pairwise(wins), weights, pairs, strength=strength)
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{prompts} prompts, K = {count}, eta = {strength:g}: {seconds:.1f} s, peak of memory {peak:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
