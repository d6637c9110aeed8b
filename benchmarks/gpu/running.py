"""Groups of cases in processes of their own, under a deadline: whatever ends one, its reason is kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gpu.cases import Case, Group

#: A process that imports torch and makes a model does nothing useful in less.
LEAST = {"cuda": 15.0, "cpu": 5.0}
#: Seconds between looks at a process.
LOOK = 0.1
#: Characters of what a failed case wrote that go into the record.
KEPT = 4000
Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all groups share.

    Attributes:
        entry: the program that runs cases with --worker.
        environment: of its processes.
        scratch: a folder for what they are told and tell.
        size, device: names.
        deadline: when everything must be over, of `time.monotonic`.
        without: packages to do without.
        broken: part -> how its cases fail, for tests.
        told: called with each row.
    """

    entry: Path
    environment: dict[str, str]
    scratch: Path
    size: str | None
    device: str
    deadline: float
    without: Sequence[str]
    broken: dict[str, str]
    told: Callable[[Row], None]


def run_group(group: Group, setting: Setting) -> list[Row]:
    """Run a group's cases; return a row for each, with its figures or the reason why there are none."""
    end = min(setting.deadline, time.monotonic() + group.seconds)
    whose = (
        "the time for everything was" if end == setting.deadline else f"the part's {group.seconds:.0f} s were"
    )
    waiting, rows, in_a_row = list(group.cases), [], 0

    def tell(case: Case, **what: Any) -> None:
        rows.append({"part": case.part, "name": case.name, "case": asdict(case), **what})
        setting.told(rows[-1])

    while waiting:
        if end - time.monotonic() < LEAST.get(setting.device, 5.0):
            for case in waiting:
                tell(case, state="left out", reason=f"{whose} used up")
            break
        if in_a_row == 2:  # each further try would cost a start, and most likely fail alike
            for case in waiting:
                tell(case, state="left out", reason="two cases before it failed")
            break
        events, ending, log = _run_worker(waiting, setting, end)
        over = 0
        for event in events:
            case, state = waiting[event.pop("number")], event["state"]
            if state == "begun":
                continue
            over += 1
            if state == "too large" and case.pairs > 1:
                over -= 1
                tried = f"{case.pairs} pairs did not fit"
                waiting[over] = replace(case, pairs=case.pairs // 2, note=tried)
            elif state == "too large":
                tell(case, state="failed", reason="out of memory")
            else:
                if case.note:
                    event["note"] = "; ".join(filter(None, [case.note, event.get("note")]))
                tell(case, **event)
            in_a_row = 0 if state in ("done", "left out", "too large") else in_a_row + 1
        if ending is not None and events and events[-1]["state"] == "begun":
            tell(waiting[over], state="failed", reason=ending, log=log)
            over, in_a_row = over + 1, in_a_row + 1
        elif not events:
            # Not even the first case began: a start that fails once fails again.
            for case in waiting:
                tell(case, state="failed", reason=ending or "ended without a word", log=log)
            break
        waiting = waiting[over:]
    return rows


def _run_worker(
    cases: Sequence[Case], setting: Setting, end: float
) -> tuple[list[dict[str, Any]], str | None, str]:
    """Run cases in one process; return what it reported, how it ended unless by itself, and its log."""
    stem = str(time.monotonic_ns())
    task, report, log = (setting.scratch / f"{stem}.{kind}" for kind in ("json", "jsonl", "log"))
    task.write_text(
        json.dumps(
            {
                "size": setting.size,
                "device": setting.device,
                "without": list(setting.without),
                "broken": setting.broken,
                "cases": [asdict(case) for case in cases],
            }
        )
    )
    report.touch()
    command = [sys.executable, str(setting.entry), "--worker", str(task), str(report)]
    start = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=setting.environment, start_new_session=True
        )
        try:
            while process.poll() is None and time.monotonic() < end:
                time.sleep(LOOK)
            late = process.poll() is None
        finally:
            _end(process)
    events = [json.loads(line) for line in report.read_text().splitlines()]
    said = log.read_text(errors="replace")[-KEPT:]
    if late:
        return events, f"stopped after {time.monotonic() - start:.0f} s: its time was over", said
    # After a case that failed the process ends itself, and has said why.
    if process.returncode == 0 or (events and events[-1]["state"] != "begun"):
        return events, None, said
    return events, f"{_ending(process.returncode)}: {_last_line(said)}", said


def _end(process: subprocess.Popen[Any]) -> None:
    """End a process with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "without a word"
