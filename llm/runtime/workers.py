"""The workers of a run: processes that are started once and take stage after stage."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Self

from mnpo.common.scratch import Scratch
from mnpo.llm.runtime.launch import Plan
from mnpo.llm.runtime.serving import Report, heard, tell
from mnpo.llm.runtime.starting import Started

#: Seconds that the others have, after a worker failed, to say what led to it.
_GRACE = 1.0
#: Seconds that workers have to end by themselves once there is no more work.
_FAREWELL = 30.0
#: The longest name of a folder in which all systems take a socket.
_LONGEST = 90

_LOST = "a process of the run was killed or crashed; the same command again resumes"


class WorkerFailed(RuntimeError):
    """A process of a run failed in a way that is no bad input."""


class Workers:
    """Processes that share the work of a run. They are started with the first piece of work, or before.

    Args:
        module: what they run, `python -m MODULE`; it calls `mnpo.llm.runtime.serving.serve`.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._crew: _Crew | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        crew, self._crew = self._crew, None
        if crew is None:
            return
        try:
            if kind is None:
                crew.dismiss()
        finally:
            crew.kill()

    def start(self, how: Plan) -> None:
        """Start the processes, unless they are there; they load libraries while other things are done.

        Args:
            how: how many, and how they share the work: the same for a whole run.
        """
        if self._crew is None:
            self._crew = _Crew(how, self._module)

    def run(self, how: Plan, name: str, config: str) -> None:
        """Have a piece of work done by all processes together.

        Args:
            how: how many, and how they share the work: the same for a whole run.
            name: of the work.
            config: its configuration, which they find in a file.

        Raises:
            ValueError: bad input that a process found.
            WorkerFailed: a process that failed otherwise.
        """
        self.start(how)
        assert self._crew is not None
        try:
            self._crew.run(name, config)
        except BaseException:
            self._crew.kill()
            self._crew = None
            raise


class _Crew:
    """Processes that are there, and what connects them with this one."""

    def __init__(self, how: Plan, module: str) -> None:
        self._scratch = Scratch()
        if len(str(self._scratch.path)) > _LONGEST:
            self._scratch.remove()
            self._scratch = Scratch(Path("/tmp"))
        self._folder = self._scratch.path
        self._count = how.count
        self._lines: list[Connection] = []
        self._pieces = 0
        self._server = socket.socket(socket.AF_UNIX)
        try:
            self._server.bind(str(self._folder / "s"))
            self._server.listen(how.count)
            self._started = Started(how, module, self._folder / "s")
        except BaseException:
            self._clear()
            raise

    def run(self, name: str, config: str) -> None:
        """Have a piece of work done.

        Raises:
            ValueError: bad input that a process found.
            WorkerFailed: a process that failed otherwise.
        """
        if not self._lines:
            self._connect()
        self._pieces += 1
        file = self._folder / f"{self._pieces}.yaml"
        file.write_text(config, encoding="utf-8")
        self._tell("work", [name, str(file)])
        self._wait()

    def dismiss(self) -> None:
        """Let the processes end by themselves: there is no more work."""
        if self._lines:
            self._tell("end", None)
            self._started.wait(_FAREWELL)

    def kill(self) -> None:
        """End the processes at once."""
        for line in self._lines:
            line.close()
        self._server.close()
        self._started.kill()
        self._clear()

    def _clear(self) -> None:
        self._server.close()
        self._scratch.remove()

    def _tell(self, kind: str, message: list[str] | None) -> None:
        for line in self._lines:
            with suppress(OSError):  # one that is gone is found when it should answer
                tell(line, kind, message)

    def _connect(self) -> None:
        """Wait until all processes of this machine are there; how many, a launcher's own say."""
        wanted = 1 if self._started.launcher else self._count
        while len(self._lines) < wanted:
            if wait([self._server], timeout=0.1):
                line = Connection(self._server.accept()[0].detach())
                kind, told = heard(line)
                if kind != "ready":
                    line.close()
                    raise _error([(kind, told)])
                self._lines.append(line)
                wanted = int(told)
            elif self._started.ended():
                raise WorkerFailed(_LOST)

    def _wait(self) -> None:
        """Wait until all processes are done with a piece of work, or one says why it is not."""
        reports: list[Report] = []
        working, end = list(self._lines), float("inf")
        while working and time.monotonic() < end:
            answers = wait(working, timeout=0.5 if end == float("inf") else 0.1)
            for line in answers:
                assert isinstance(line, Connection)
                working.remove(line)
                reports.append(heard(line))
            bad = {kind for kind, _ in reports} - {"done"}
            if bad & {"input", "gone"}:
                break
            if not answers and self._started.ended():
                raise WorkerFailed(_LOST)
            if bad:  # what one process says may be that another went away
                end = min(end, time.monotonic() + _GRACE)
        if any(kind != "done" for kind, _ in reports):
            raise _error(reports)


def _error(reports: list[Report]) -> Exception:
    """Return what went wrong; bad input first, for it may have led to the rest."""
    told = dict(reversed(reports))
    if "input" in told:
        return ValueError(told["input"])
    if "failure" in told and "gone" not in told:
        return WorkerFailed(told["failure"])
    return WorkerFailed(_LOST)
