"""Commands that run at the same time, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

#: Seconds after which a command hangs.
_HANGS = 240


class Ended(NamedTuple):
    """How a command ended: its status, and its standard error."""

    status: int
    told: str


class Started:
    """A command that runs: `mnpo ..`, forked from a process that has the libraries loaded and has done nothing else."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        forking = multiprocessing.get_context("forkserver")
        forking.set_forkserver_preload(["mnpo.cli.main", "mnpo.llm.running", "mnpo.llm.stages.fit"])
        self._log = log
        self._process: BaseProcess = forking.Process(target=_run, args=(arguments, str(log)))
        self._process.start()

    def wait(self) -> Ended:
        """Wait for its end."""
        self._process.join(_HANGS)
        assert self._process.exitcode is not None, f"hangs: {self.told}"
        return Ended(self._process.exitcode, self.told)

    def kill_when(self, ready: Callable[[], bool]) -> None:
        """Kill it with SIGKILL as soon as `ready` says so."""
        while not ready():
            assert self._process.is_alive(), f"it ended before it could be killed: {self.told}"
            time.sleep(0.002)
        self._process.kill()
        self._process.join()

    @property
    def told(self) -> str:
        """Its standard error so far."""
        return self._log.read_text() if self._log.exists() else ""


def together(logs: Path, *commands: list[str]) -> list[Ended]:
    """Run commands at the same time."""
    started = [Started(one, logs / f"{number}.log") for number, one in enumerate(commands)]
    return [one.wait() for one in started]


def _run(arguments: list[str], log: str) -> None:
    from mnpo.cli.main import main

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.argv = ["mnpo", *arguments]
    main()
