"""Speed, as ratios measured in one run wherever one is possible. `make bench`; figures in docs/benchmarks.md."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from mnpo import Game, Pairwise, PlackettLuce, Rankings, inpo, run, solve
from mnpo.sim.sweeps import cells, sweep
from support import SUSHI, needs_data, random_matrix, random_policies

PLAYERS = (2, 4, 8, 16, 32, 64)


def seconds(function: Callable[[], object], rounds: int = 5, least: float = 0.02) -> float:
    """The best mean time of one call, over rounds of at least `least` seconds."""
    function()
    best = np.inf
    for _ in range(rounds):
        calls, began = 0, time.perf_counter()
        while time.perf_counter() - began < least:
            function()
            calls += 1
        best = min(best, (time.perf_counter() - began) / calls)
    return float(best)


def report(text: str) -> None:
    print(f"\n    {text}", end="")


def test_plackett_luce_call(benchmark):
    """One win-probability call, A = 1,000 and n = 50: wanted under 30 ms and 200 MB."""
    rng = np.random.default_rng(0)
    policies = random_policies(rng, 50, 1, 1000)
    tracemalloc.start()
    oracle = PlackettLuce(rng.standard_normal(1000))
    oracle.win_probabilities(policies)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    benchmark(oracle.win_probabilities, policies)
    report(f"peak memory with the oracle's tables: {peak / 1e6:.0f} MB")


@pytest.mark.parametrize("kind", ["plackett-luce", "population"])
def test_cost_in_players(kind):
    """The fitted exponent of the cost in n from 2 to 64: wanted at most 1.1."""
    rng = np.random.default_rng(0)
    oracle = (
        PlackettLuce(rng.standard_normal(1000))
        if kind == "plackett-luce"
        else Rankings(np.argsort(rng.random((1000, 100)), axis=-1))
    )
    times = []
    for players in PLAYERS:
        policies = random_policies(rng, players, 1, oracle.responses)
        times.append(seconds(lambda p=policies: oracle.win_probabilities(p)))
    exponent = np.polyfit(np.log(PLAYERS), np.log(times), 1)[0]
    listed = ", ".join(f"n={n}: {1e3 * t:.2f} ms" for n, t in zip(PLAYERS, times, strict=True))
    report(f"{kind}: exponent {exponent:.2f} ({listed})")


def test_solve_large_pairwise(benchmark):
    """A random pairwise game with A = 1,000 at τ = 0.001: wanted under 5 s on two cores."""
    game = Game(Pairwise(random_matrix(np.random.default_rng(0), 1000)), 2, 0.001)
    found = benchmark.pedantic(solve, (game,), rounds=3)
    assert found.certificate.holds


@pytest.mark.parametrize(("batch", "size"), [(1, 1000), (1000, 10)])
def test_inpo_update(batch, size):
    """An update with its gap over the bare matrix product and softmax that it needs: wanted at most 3."""
    matrix = random_matrix(np.random.default_rng(0), size, batch, 1)
    game, rule, steps = Game(Pairwise(matrix), 2, 0.01), inpo(0.05, 0.01), 100
    policies = np.full((batch, 1, size), 1 / size)

    def bare():
        nonlocal policies
        for _ in range(steps):
            logits = np.matmul(matrix, policies[..., None])[..., 0]
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            policies = weights / weights.sum(-1, keepdims=True)

    whole = seconds(lambda: run(game, rule, steps), least=0.2) / steps
    needed = seconds(bare, least=0.2) / steps
    report(
        f"(batch, A) = ({batch}, {size}): {1e6 * whole:.0f} µs over {1e6 * needed:.0f} µs = {whole / needed:.2f}"
    )


def process(*arguments: str) -> float:
    """The best wall clock of a whole process out of five."""
    command = [os.path.join(os.path.dirname(sys.executable), "mnpo"), *arguments]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


@needs_data
def test_sushi_process():
    """`mnpo sim solve` on the sushi file with n = 10 as a whole process: wanted under 3 s."""
    python = min(
        seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 3) for _ in range(2)
    )
    solving = process("sim", "solve", str(SUSHI), "--players", "10", "--tau", "0.05")
    report(f"solve sushi, n = 10: {solving:.2f} s ({solving / python:.0f} bare starts of Python)")


def test_help_process():
    """`mnpo --help` as a whole process: wanted under 0.5 s."""
    python = min(
        seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 3) for _ in range(2)
    )
    starting = process("--help")
    report(f"mnpo --help: {starting:.2f} s ({starting / python:.0f} bare starts of Python)")


def test_many_games():
    """1,000 games of 10 responses, 10,000 INPO updates, the gap every 10: wanted about 5 s and a ratio up to 2.

    The ratio is to the same number of bare batched matrix products and softmaxes.
    """
    matrix = random_matrix(np.random.default_rng(0), 10, 1000, 1)
    game, rule, steps = Game(Pairwise(matrix), 2, 0.05), inpo(0.2, 0.05), 10_000

    def bare() -> None:
        policies = np.full((1000, 1, 10), 0.1)
        for _ in range(steps):
            logits = np.matmul(matrix, policies[..., None])[..., 0]
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            policies = weights / weights.sum(-1, keepdims=True)

    def whole() -> None:
        assert run(game, rule, steps, every=10).gap[-1].max() < 1e-9

    times = {}
    for name, function in (("whole", whole), ("bare", bare)):
        best = np.inf
        for _ in range(3):
            began = time.perf_counter()
            function()
            best = min(best, time.perf_counter() - began)
        times[name] = best
    report(
        f"1,000 games, 10,000 updates: {times['whole']:.2f} s, {times['whole'] / times['bare']:.2f} times bare"
    )


def test_memory_of_a_long_run():
    """Peak memory of 100 and of 10,000 updates with the same number of records: wanted equal."""
    game, rule = Game(Pairwise(random_matrix(np.random.default_rng(0), 10, 200, 1)), 2, 0.05), inpo(0.2, 0.05)
    peaks = []
    for steps in (100, 10_000):
        tracemalloc.start()
        run(game, rule, steps, every=steps // 10)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    report(f"peak memory of 100 and of 10,000 updates: {peaks[0] / 1e6:.2f} and {peaks[1] / 1e6:.2f} MB")


def test_sweep_throughput(tmp_path):
    """A sweep with two processes over the same with one, both warm: wanted at least 1.7 times the throughput."""
    laid = cells(["random:responses=10"], ["inpo", "onpo"], [2], [0.05], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
                 seeds=100, steps=6000)  # fmt: skip
    # Both sides are warm before the clock: the processes are there and have imported what a cell needs.
    few = cells(["random:responses=10"], ["inpo"], [2], [0.05], [0.1, 0.2, 0.3, 0.4], seeds=100, steps=500)
    for jobs in (1, 2):
        sweep(few, tmp_path / f"warm{jobs}", jobs=jobs)
    times = []
    for jobs in (1, 2):
        began = time.perf_counter()
        sweep(laid, tmp_path / str(jobs), jobs=jobs)
        times.append(time.perf_counter() - began)
    throughput = times[0] / times[1]
    report(f"sweep of {len(laid)} cells: {times[0]:.1f} s; throughput with two processes {throughput:.2f}")
