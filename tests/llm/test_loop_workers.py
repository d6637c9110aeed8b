"""A run shared by processes that stay: they are started once, and killed in any stage they cost no bit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from counting_judge import Server
from loops import SMALL, in_every_stage, weights

from mnpo.llm import train
from mnpo.llm.runtime import workers
from mnpo.llm.runtime.workers import WorkerFailed
from runs import entries


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The numbers of the processes of every start."""
    found: list[list[int]] = []

    class Noted(workers.Started):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append(self.pids)

    monkeypatch.setattr(workers, "Started", Noted)
    return found


def shared(base: Path, folder: Path, *overrides: str, mode: str = "ddp") -> Any:
    given = [f"model_name_or_path={base}", f"output_dir={folder}", *SMALL, *overrides]
    return train("tiny", *given, processes=2, accelerate=mode)


def kill_a_worker(
    started: list[list[int]], rank: int, ready: Callable[[], bool], call: Callable[[], Any]
) -> None:
    """Run, and kill one of the processes with SIGKILL as soon as `ready` says so."""
    before = len(started)
    killed = []

    def watch() -> None:
        while len(started) == before or not ready():
            time.sleep(0.002)
        killed.append(started[-1][rank])
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(WorkerFailed, match="killed or crashed; the same command again resumes"):
        call()
    assert killed
    assert not any(Path(f"/proc/{pid}").exists() for pid in started[-1]), "a process was left"


def test_bad_input_that_a_worker_finds_is_told_as_in_one_process(
    base: Path, tmp_path: Path, server: Server, started: list[list[int]]
) -> None:
    """In the second stage, by the processes that did the first."""
    server.answer = "I like both."
    with pytest.raises(ValueError, match="gave no verdict") as error:
        shared(base, tmp_path / "run", server.oracle, "iterations=1")
    assert "\n" not in str(error.value)
    assert (tmp_path / "run/iteration-1/samples.json").exists()
    assert len(started) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in started[0])


@pytest.mark.slow
def test_a_worker_killed_in_every_stage_costs_no_bit(
    base: Path, tmp_path: Path, server: Server, started: list[list[int]]
) -> None:
    """SIGKILL of one of two processes while sampling, annotating, scoring, fitting and evaluating."""
    whole = shared(base, tmp_path / "whole", server.oracle)
    assert len(started) == 1, "processes were started for a stage"
    server.questions.clear()
    folder = tmp_path / "killed"
    for rank, ready in enumerate(in_every_stage(folder, server).values()):
        kill_a_worker(started, rank % 2, ready, lambda: shared(base, folder, server.oracle))
    record = shared(base, folder, server.oracle)
    assert weights(record) == weights(whole)
    assert [row.win_rate for row in record.iterations] == [row.win_rate for row in whole.iterations]
    for what in ("samples", "answers", "scores"):
        assert sorted(entries(folder / what)) == sorted(entries(tmp_path / "whole" / what))
    before = len(started)
    assert shared(base, folder, server.oracle).iterations == record.iterations
    assert len(started) == before, "processes were started for nothing"
