"""benchmarks/gpu.py on a CPU: it runs, and what fails in it leaves its reason while the others go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from gpu.cases import Case, Group  # noqa: E402
from gpu.checkout import environment, linked  # noqa: E402
from gpu.measuring import work  # noqa: E402
from gpu.running import Setting, run_group  # noqa: E402
from gpu.table import left_out, table, verdict  # noqa: E402

#: Does what a case's `who` says, as a process that runs cases would.
ENTRY = """
import json, os, signal, sys, time
task = json.loads(open(sys.argv[2]).read())
def write(number, **what):
    with open(sys.argv[3], "a") as file:
        file.write(json.dumps({"number": number, **what}) + "\\n")
for number, case in enumerate(task["cases"]):
    if case["who"] == "no start":
        sys.exit("nothing imports")
    write(number, state="begun")
    if case["who"] == "crash":
        print("something broke", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if case["who"] == "hang":
        time.sleep(60)
    if case["who"] == "large" and case["pairs"] > 1:
        write(number, state="too large")
        sys.exit(3)
    if case["who"] == "fails":
        write(number, state="failed", reason="ValueError: so it is")
        sys.exit(3)
    write(number, state="done", pairs=case["pairs"])
"""


def run(tmp_path: Path, *who: str, seconds: float = 60, deadline: float = 60) -> list[dict[str, Any]]:
    entry = tmp_path / "entry.py"
    entry.write_text(ENTRY)
    setting = Setting(
        entry, {}, tmp_path, "small", "cpu", time.monotonic() + deadline, (), {}, told=lambda row: None
    )
    return run_group(Group("fit", tuple(Case("fit", name, pairs=4) for name in who), seconds), setting)


def said(rows: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(row["state"], row.get("reason")) for row in rows]


def test_a_crash_leaves_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    rows = run(tmp_path, "fine", "crash", "fine", "fails", "fine")
    assert said(rows) == [
        ("done", None),
        ("failed", "ended by SIGSEGV: something broke"),
        ("done", None),
        ("failed", "ValueError: so it is"),
        ("done", None),
    ]


def test_after_two_failures_the_rest_of_a_part_is_left_out(tmp_path: Path) -> None:
    rows = run(tmp_path, "fails", "crash", "fine")
    assert said(rows)[2] == ("left out", "two cases before it failed")


def test_what_does_not_fit_is_tried_with_half_the_pairs(tmp_path: Path) -> None:
    rows = run(tmp_path, "fine", "large", "fine")
    assert [row["pairs"] for row in rows] == [4, 1, 4]
    assert "2 pairs did not fit" in rows[1]["note"]


def test_a_process_that_does_not_start_is_not_started_again(tmp_path: Path) -> None:
    assert said(run(tmp_path, "no start", "fine")) == [("failed", "exit status 1: nothing imports")] * 2


def test_a_part_is_stopped_when_its_time_is_over(tmp_path: Path) -> None:
    start = time.monotonic()
    rows = run(tmp_path, "fine", "hang", "fine", seconds=7)
    assert time.monotonic() - start < 20
    assert [row["state"] for row in rows] == ["done", "failed", "left out"]
    assert rows[1]["reason"].startswith("stopped after")
    assert rows[2]["reason"] == "the part's 7 s were used up"


def test_nothing_starts_when_the_time_for_everything_is_over(tmp_path: Path) -> None:
    assert said(run(tmp_path, "fine", deadline=3)) == [("left out", "the time for everything was used up")]


def test_tokens_are_counted_as_useful_and_as_computed() -> None:
    plain, shared = (work([(3, (2, 2))], shared) for shared in (False, True))
    assert (plain.useful, plain.computed, plain.predicted) == (10, 10, 4)
    assert (shared.useful, shared.computed, shared.predicted) == (10, 7, 4)
    # A prompt of 3 sees 1 + 2 + 3 places; each response 4 and 5.
    assert (plain.seen, shared.seen) == (2 * (6 + 9), 6 + 2 * 9)


def test_the_checkout_can_be_imported_without_being_installed(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(linked(tmp_path))!r}); import mnpo.llm, mnpo.sim, mnpo.cli"
    )
    program += "; print(mnpo.llm.__file__, mnpo.sim.__file__, mnpo.cli.__file__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    wanted = [str(tmp_path / "mnpo" / name / "__init__.py") for name in ("llm", "sim", "cli")]
    assert done.stdout.split() == wanted, done.stderr


def test_child_processes_import_the_checkout_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu.checkout.installed_here", lambda: False)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    found, source = environment(Path("scratch"))
    assert found["PYTHONPATH"].split(os.pathsep) == [str(tmp_path / "scratch"), "elsewhere"]
    assert found["CUDA_VISIBLE_DEVICES"] == "2"
    assert "not installed" in source


def test_the_table_tells_what_was_left_out_and_that_a_cpu_says_nothing_of_gpus(tmp_path: Path) -> None:
    rows = run(tmp_path, "fine", "fails")
    for row in rows:
        row |= {"tokens_per_s": 2000.0, "share": 0.25, "peak_gb": 1.0}
    assert "| fit: fine, eager, plain | 4     |         | 2,000" in table(rows)
    assert left_out(rows).endswith("* fit: fails, eager, plain: failed, ValueError: so it is")
    assert "nothing about GPUs follows" in verdict(rows, gpu=False)


@pytest.mark.slow
def test_it_runs_on_a_cpu(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--cpu", "--size", "small", "--out", str(out)]
    command += ["--parts", "agreement,fit", "--without", "trl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["agreement: float32, eager"]["agrees"]
    assert rows["agreement: bfloat16, eager"]["agrees"]
    assert rows["fit: TRL, eager, plain"]["reason"] == "trl is not installed"
    assert rows["fit: mnpo, eager, shared"]["tokens_per_s"] > 0
    assert 0 < rows["fit: mnpo, eager, shared packed, mixed lengths"]["share"] < 1
    assert "nothing about GPUs follows" in done.stdout
