"""Sweeps: the same table however they are run, interrupted and continued without loss or repetition."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from mnpo.common.ownership import LOCK, owned
from mnpo.sim import sweeps
from mnpo.sim.catalogue import make_game
from mnpo.sim.studies import play
from mnpo.sim.sweep_tables import summary
from mnpo.sim.sweeps import cells, sweep


@pytest.fixture
def laid():
    return cells(["random:responses=4", "rps"], ["inpo", "egpo"], [2], [0.1], [0.2, 0.5], seeds=3, steps=20)


def test_the_table_holds_what_single_runs_give(laid, tmp_path):
    table = parquet.read_table(sweep(laid, tmp_path / "s")).to_pylist()
    assert len(table) == len(laid) * 3 * 21
    wanted = {"game": "random:responses=4", "rule": "inpo", "eta": 0.5, "seed": 2, "step": 20}
    (row,) = [row for row in table if all(row[key] == value for key, value in wanted.items())]
    alone = play(make_game("random:responses=4", seed=2), "inpo", tau=0.1, eta=0.5, steps=20)
    assert row["gap"] == pytest.approx(float(alone.gap[-1]), rel=1e-10)
    assert row["average_gap"] == pytest.approx(float(alone.average_gap[-1]), rel=1e-10)
    calls = {row["rule"]: row["oracle_calls"] for row in table if row["step"] == 20}
    assert calls == {"inpo": 20, "egpo": 40}


def test_an_interrupted_sweep_goes_on_where_it_was(laid, tmp_path, monkeypatch):
    whole = parquet.read_table(sweep(laid, tmp_path / "whole"))
    real, ran = sweeps.run_cell, []

    def fails_at_the_fourth(cell):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(cell)
        return real(cell)

    monkeypatch.setattr(sweeps, "run_cell", fails_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        sweep(laid, tmp_path / "halves")
    kept = len(list((tmp_path / "halves" / "cells").glob("*.parquet")))
    assert 1 <= kept <= 3
    again = []
    monkeypatch.setattr(sweeps, "run_cell", lambda cell: again.append(cell) or real(cell))
    assert parquet.read_table(sweep(laid, tmp_path / "halves")).equals(whole)
    assert len(again) == len(laid) - kept
    again.clear()
    sweep(laid, tmp_path / "halves")
    assert again == []


def test_two_processes_and_dask_give_the_same_table(laid, tmp_path):
    one = parquet.read_table(sweep(laid, tmp_path / "one"))
    assert parquet.read_table(sweep(laid, tmp_path / "two", jobs=2)).equals(one)
    pytest.importorskip("distributed")
    assert parquet.read_table(sweep(laid, tmp_path / "dask", jobs=2, backend="dask")).equals(one)


def test_what_diverges_is_said_and_never_nan(tmp_path):
    laid = cells(["rps"], ["mwu"], [2], [0.1], [5.0], seeds=4, steps=300)
    table = sweep(laid, tmp_path / "s")
    rows = parquet.read_table(table).to_pylist()
    assert any(row["diverged"] for row in rows)
    (curve,) = summary(table)["curves"]
    assert 1 <= curve["diverged"] <= 4
    assert all(gap is not None and gap == gap for gap in curve["median"])


def test_cells_are_what_they_compute(tmp_path):
    """One cell for one computation, another for another content of a file; damaged ones are computed again."""
    assert len(cells(["rps"], ["sppo", "sppo"], [2, 2], [0.1, 0.2], [0.5, 0.50])) == 1
    game = tmp_path / "g.csv"
    game.write_text("0.5,0.9\n0.1,0.5\n")
    first = cells([str(game)], ["inpo"], [2], [0.1], [0.5], seeds=2, steps=5)
    table = parquet.read_table(sweep(first, tmp_path / "s"))
    (part,) = (tmp_path / "s" / "cells").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:50])
    assert parquet.read_table(sweep(first, tmp_path / "s")).equals(table)
    game.write_text("0.5,0.2\n0.8,0.5\n")
    second = cells([str(game)], ["inpo"], [2], [0.1], [0.5], seeds=2, steps=5)
    with pytest.raises(ValueError, match="another sweep"):
        sweep(second, tmp_path / "s")
    (tmp_path / "begun" / "cells").mkdir(parents=True)
    sweep(second, tmp_path / "begun")


def test_bad_sweeps_are_refused(laid, tmp_path):
    with pytest.raises(ValueError, match="did you mean 'inpo'"):
        cells(["rps"], ["inpoo"], [2], [0.1], [0.1])
    with pytest.raises(ValueError, match="at most 1/tau"):
        cells(["rps"], ["inpo"], [2], [0.1], [100.0])
    with pytest.raises(ValueError, match="external"):
        cells(["rps"], ["eo-mnpo"], [2], [0.1], [0.1])
    with pytest.raises(ValueError, match="did you mean 'dask'"):
        sweep(laid, tmp_path / "x", backend="dusk")
    sweep(laid[:1], tmp_path / "taken")
    with pytest.raises(ValueError, match="another sweep"):
        sweep(laid, tmp_path / "taken")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(ValueError, match="not a sweep's folder"):
        sweep(laid, tmp_path / "mine")


def test_a_flipped_bit_changes_no_table(tmp_path):
    """Of any file that a sweep keeps: what is damaged is computed again."""
    laid = cells(["rps", "random:responses=4"], ["inpo"], [2], [0.1], [0.2, 0.5], seeds=2, steps=4)
    whole = parquet.read_table(sweep(laid, tmp_path / "s"))
    rng = np.random.default_rng(0)
    for _ in range(60):
        files = sorted(file for file in (tmp_path / "s").rglob("*") if file.is_file())
        file = files[rng.integers(len(files))]
        content = bytearray(file.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
        assert parquet.read_table(sweep(laid, tmp_path / "s")).equals(whole)


KILLED = """
import sys
from pathlib import Path
from mnpo.sim.sweeps import cells, sweep
sweep(cells(["random:responses=4"], ["inpo"], [2], [0.1], [0.2, 0.3, 0.4, 0.5], seeds=400, steps=200000), Path(sys.argv[1]), jobs=2)
"""


def test_no_process_outlives_a_sweep_that_is_killed(tmp_path):
    sweeping = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "s")], stderr=subprocess.DEVNULL
    )
    started = Path(f"/proc/{sweeping.pid}/task/{sweeping.pid}/children")
    while (
        sum("LokyProcess" in Path(f"/proc/{pid}/cmdline").read_text() for pid in started.read_text().split())
        < 2
    ):
        assert sweeping.poll() is None
        time.sleep(0.05)
    time.sleep(2)  # they are at work, or about to be
    pids = started.read_text().split()
    sweeping.kill()
    sweeping.wait()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_one_sweep_at_a_time_works_in_a_folder(laid, tmp_path):
    with (
        owned(tmp_path / "s"),
        pytest.raises(
            ValueError, match=r"s is in use by process \d+ .*; wait for it, or choose another --out"
        ),
    ):
        sweep(laid, tmp_path / "s")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / LOCK).touch()  # as a killed one leaves it
    sweep(laid, tmp_path / "s")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "cells",
        "results.parquet",
        "sweep.json",
    ]
