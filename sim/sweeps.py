"""Sweeps: every rule on every game at every setting and seed, one tidy Parquet table, resumable, on any cluster.

A cell is one game, rule, number of players, τ and η with all seeds, which are one batched run where the oracle
allows it. Cells are joblib tasks; each finished one is a file of its own under `cells/` that appears whole, so
that an interrupted sweep continues where it was.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnpo import __version__
from mnpo.choices import choose
from mnpo.common.digests import data_digest, file_digest
from mnpo.common.files import clear_partials
from mnpo.common.leaving import follow
from mnpo.common.ownership import LOCK, owned
from mnpo.common.progress import Progress
from mnpo.common.seals import read_sealed, write_sealed
from mnpo.dynamics import Trajectory, run
from mnpo.games import Game
from mnpo.numerics import Array, check_memory
from mnpo.oracles import Pairwise
from mnpo.presets import RULES, make_rule
from mnpo.sim.catalogue import CATALOGUE
from mnpo.sim.clusters import check_backend, cluster
from mnpo.sim.load import load_game
from mnpo.sim.sweep_tables import as_table, join_tables, keep_cell, kept_cells


@dataclass(frozen=True)
class Cell:
    """One game, rule and setting, with all seeds."""

    game: str
    rule: str
    players: int
    tau: float
    eta: float
    seeds: int
    steps: int
    every: int
    content: str = ""

    @property
    def key(self) -> str:
        """A file name that the content decides."""
        return data_digest(asdict(self))

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.rule}, n = {self.players}, {self.game}"


def cells(
    games: Sequence[str],
    rules: Sequence[str],
    players: Sequence[int],
    taus: Sequence[float],
    etas: Sequence[float],
    *,
    seeds: int = 10,
    steps: int = 1000,
    records: int = 200,
) -> list[Cell]:
    """Lay out a sweep and check it: every game can be opened and every rule built.

    Raises:
        ValueError: an unknown game or rule, or settings that a rule or game does not admit.
    """
    if seeds < 1 or steps < 1:
        raise ValueError(f"seeds and steps must be at least 1; found {seeds} and {steps}")
    for name in rules:
        choose(name, RULES, "rule")
    every = max(1, -(-steps // records))
    check_memory((64, seeds, -(-steps // every) + 1), "the rows of a cell")
    laid = []
    for game, rule, n, tau, eta in itertools.product(games, rules, players, taus, etas):
        if make_rule(rule, eta=eta, tau=tau, players=n).externals:
            raise ValueError(f"rule {rule} needs external policies and cannot be swept")
        # What a rule does not have is 0, so that one run does not stand under several names.
        strength, step = (
            float(value) if option in RULES[rule].options else 0.0
            for option, value in (("tau", tau), ("eta", eta))
        )
        laid.append(Cell(game, rule, n, strength, step, seeds, steps, every, _content(game)))
    for game, n in itertools.product(games, players):
        load_game(game, players=n).game(players=n, tau=float(taus[0]))
    return list(dict.fromkeys(laid))


def run_cell(cell: Cell) -> list[dict[str, Any]]:
    """Run one cell and return its rows: one per seed and recorded step.

    Games with a seed differ by seed and start at the reference; others start at a random policy.
    """
    strength = 0.0 if RULES[cell.rule].unregularised else cell.tau
    rule = make_rule(cell.rule, eta=cell.eta, tau=cell.tau, players=cell.players)
    rows: list[dict[str, Any]] = []
    for seeds, game, start in _batches(cell, strength):
        found = run(game, rule, cell.steps, start=start, every=cell.every, average=True)
        rows += _rows(cell, seeds, found)
    return rows


def sweep(
    laid: Sequence[Cell],
    folder: Path,
    *,
    jobs: int = 1,
    backend: str = "local",
    address: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Run the cells that the folder does not hold yet, and put all into one table.

    Args:
        laid: the cells.
        folder: holds `sweep.json`, `cells/` and at the end `results.parquet`; made if need be.
        jobs: processes on this machine, or tasks in flight on a cluster; −1 for all there are.
        backend: "local", "dask" or "ray".
        address: of a cluster's scheduler; without one Dask starts a local cluster.
        progress: called with what was done last, and how many cells are done of how many.

    Returns:
        The table's path.

    Raises:
        ValueError: an unknown backend, one that is not installed, or a folder with another sweep, or that another
            process works in.
    """
    from joblib import Parallel, delayed

    check_backend(backend)
    if jobs == 0:
        raise ValueError("jobs must be at least 1, or negative for all cores but so many; found 0")
    if address is not None and backend == "local":
        raise ValueError("an address is of a cluster; choose backend dask or ray")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"cannot write {folder}: it is a file")
    with owned(folder, otherwise="wait for it, or choose another --out"):
        done = _claim(folder, laid)
        todo = [cell for cell in laid if cell.key not in done]
        finished = len(laid) - len(todo)
        maker = os.getpid() if backend == "local" else None
        if progress:
            progress("cells", finished, len(laid))
        with cluster(backend, address):
            tasks = Parallel(n_jobs=jobs, return_as="generator_unordered")(
                delayed(_keyed)(cell, maker) for cell in todo
            )
            for cell, table in tasks:
                done[cell.key] = keep_cell(table, folder / "cells", cell.key)
                finished += 1
                if progress:
                    progress(cell.label, finished, len(laid))
        table = folder / "results.parquet"
        join_tables([done[cell.key] for cell in laid], table)
        return table


def _content(game: str) -> str:
    """A fingerprint of a game file, so that another content is another cell; of catalogue games the version."""
    path = Path(game)
    return file_digest(path) if path.is_file() else __version__


def _keyed(cell: Cell, maker: int | None) -> tuple[Cell, Any]:
    """One task: a cell and its table, made where the cell was run so that the parent only writes it.

    Args:
        cell: the cell.
        maker: the process that starts others for tasks, which go with it; None where a cluster does that.
    """
    if maker is not None and maker != os.getpid():
        follow(maker)
    return cell, as_table(run_cell(cell))


def _batches(cell: Cell, tau: float) -> Iterator[tuple[list[int], Game, Array | None]]:
    """Yield seeds with the game and start that stand for them, as few and large as the oracle allows."""
    name = cell.game.partition(":")[0]
    seeded = name in CATALOGUE and "seed" in CATALOGUE[name].parameters and "seed=" not in cell.game
    seeds = list(range(cell.seeds))
    if not seeded:
        game = load_game(cell.game, players=cell.players).game(players=cell.players, tau=tau)
        starts = [
            np.random.default_rng(seed).dirichlet(np.ones(game.actions), size=(1, game.contexts))
            for seed in seeds
        ]
        yield seeds, game, np.maximum(np.stack(starts), 1e-12)
        return
    specs = [load_game(cell.game, players=cell.players, seed=seed) for seed in seeds]
    if all(isinstance(spec.oracle, Pairwise) for spec in specs):
        stacked = Pairwise(np.stack([spec.oracle.pairwise_matrix() for spec in specs]))
        yield seeds, Game(stacked, cell.players, tau, specs[0].reference), None
        return
    for seed, spec in zip(seeds, specs, strict=True):
        yield [seed], spec.game(players=cell.players, tau=tau), None


def _rows(cell: Cell, seeds: list[int], found: Trajectory) -> list[dict[str, Any]]:
    gaps, averages = found.gap.reshape(len(found.steps), -1), found.average_gap
    means = gaps if averages is None else averages.reshape(len(found.steps), -1)
    diverged = np.broadcast_to(found.diverged, (len(seeds),)).ravel()
    return [
        {
            "game": cell.game,
            "rule": cell.rule,
            "players": cell.players,
            "tau": cell.tau,
            "eta": cell.eta,
            "seed": seed,
            "step": int(step),
            "oracle_calls": int(step) * found.oracle_calls,
            "gap": _number(gaps[place, number]),
            "average_gap": _number(means[place, number]),
            "diverged": bool(diverged[number]),
        }
        for number, seed in enumerate(seeds)
        for place, step in enumerate(found.steps)
    ]


def _number(value: float) -> float | None:
    """A number for the table; None for what is none, as after a divergence."""
    return float(value) if np.isfinite(value) else None


def _claim(folder: Path, laid: Sequence[Cell]) -> dict[str, Path]:
    """Make the folder this sweep's, or continue it; return the files of the cells that are done, by key."""
    plan: dict[str, Any] = {"cells": [asdict(cell) for cell in laid]}
    note = folder / "sweep.json"
    if note.is_file():
        if read_sealed(note) not in (
            None,
            plan,
        ):  # a damaged one is written again: cells say what they are
            raise ValueError(f"{folder} holds another sweep; choose another --out")
    elif any(not _unfinished(path) for path in folder.iterdir()):
        raise ValueError(f"{folder} exists and is not a sweep's folder; choose another --out")
    write_sealed(note, plan)
    (folder / "cells").mkdir(exist_ok=True)
    clear_partials(folder / "cells")
    return kept_cells(folder / "cells")


def _unfinished(path: Path) -> bool:
    """Whether a file or folder is what a sweep leaves that was stopped before it began."""
    if path.suffix == ".partial" or path.name == LOCK:
        return True
    return path.name == "cells" and path.is_dir() and not any(path.iterdir())
