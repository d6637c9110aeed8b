"""Tables of many contexts: seconds of `solve` with its certificate and of `run`, and how they grow with X.

Both are given, wall clock and processor: only the second says something on a machine that others use too.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import numpy as np
import pytest

from mnpo import Game, Pairwise, PlackettLuce, Population, inpo, run, solve
from mnpo.oracles import Oracle
from support import random_matrix

CONTEXTS = (100, 1_000, 10_000, 100_000)
SIZE, TAU, ANNOTATORS = 16, 0.05, 8


def made(kind: str, contexts: int) -> Oracle:
    """An oracle whose contexts all differ."""
    rng = np.random.default_rng(0)
    if kind == "pairwise":
        return Pairwise(random_matrix(rng, SIZE, contexts))
    if kind == "plackett-luce":
        return PlackettLuce(rng.standard_normal((contexts, SIZE)))
    if kind == "utilities":
        return Population(utilities=rng.standard_normal((ANNOTATORS, contexts, SIZE)))
    return Population(np.argsort(rng.random((ANNOTATORS, contexts, SIZE)), axis=-1))


def solving(game: Game) -> None:
    """The equilibrium with its certificate."""
    assert solve(game).certificate.holds


def running(game: Game) -> None:
    """100 updates with the gap every 10."""
    assert np.isfinite(run(game, inpo(0.2, TAU), 100, every=10).gap).all()


def seconds(what: Callable[[Game], None], make: Callable[[], Game], rounds: int) -> tuple[float, float]:
    """The best of some calls, wall clock and processor, each on a game that nobody has asked anything yet."""
    found = []
    for _ in range(rounds):
        game = make()
        wall, processor = time.perf_counter(), time.process_time()
        what(game)
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    return min(wall for wall, _ in found), min(processor for _, processor in found)


@pytest.mark.parametrize("what", [solving, running])
@pytest.mark.parametrize("players", [2, 4])
@pytest.mark.parametrize("kind", ["pairwise", "plackett-luce", "population", "utilities"])
def test_cost_in_contexts(kind, players, what):
    """Wanted: an exponent of at most 1.05 from X = 100 to 100,000, and `solve` of 10,000 in 3 s on two cores."""
    times = []
    for contexts in CONTEXTS:
        rounds = max(1, min(5, 10_000 // contexts))
        times.append(seconds(what, lambda x=contexts: Game(made(kind, x), players, TAU), rounds))
    figures = np.array(times).T
    walls, processors = (
        f"exponent {np.polyfit(np.log(CONTEXTS), np.log(each), 1)[0]:.2f} "
        f"({', '.join(f'{contexts:,}: {second:.3g} s' for contexts, second in zip(CONTEXTS, each, strict=True))})"
        for each in figures
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report = f"{what.__name__} {kind}, n = {players}"
    print(f"\n    {report}: wall {walls}; processor {processors}; peak {peak:.2f} GiB", end="")
