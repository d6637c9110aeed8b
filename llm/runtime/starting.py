"""Starting the processes of a run, and ending them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnpo.llm.runtime.launch import Plan
from mnpo.llm.runtime.serving import SOCKET, connect, report_of, tell

#: Seconds that a launcher has for ending its processes when it is asked to.
_PATIENCE = 10.0


class Started:
    """Processes that were started: the workers, or accelerate's launcher, which starts them.

    Each leads a group of its own. So Ctrl-C reaches only the process that started them, which ends them, and with
    them whatever they started.

    Args:
        how: how many, and how they share the work.
        module: what they run.
        address: of the socket over which they are given work.
    """

    def __init__(self, how: Plan, module: str, address: Path) -> None:
        import torch
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch exports it all the same

        threads = str(max(1, (os.cpu_count() or 1) // how.count))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, SOCKET: str(address)}
        if not torch.cuda.is_available():
            environment.setdefault("DS_ACCELERATOR", "cpu")
        self.launcher = how.file is not None
        self._store: Any = None
        self._processes: list[subprocess.Popen[bytes]] = []
        if how.file is not None:
            asked = "" if how.asked is None else str(how.asked)
            scratch = str(address.parent)
            self._start(["mnpo.llm.runtime.starting", str(how.file), asked, module, scratch], environment)
            return
        # Where the workers find each other, as under torchrun: it is open before they look for it.
        self._store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        environment |= {
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "WORLD_SIZE": str(how.count),
            "LOCAL_WORLD_SIZE": str(how.count),
        }
        for rank in range(how.count):
            self._start([module], environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})

    def _start(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-u", "-m", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    @property
    def pids(self) -> list[int]:
        """Their numbers."""
        return [process.pid for process in self._processes]

    def ended(self) -> bool:
        """Tell whether one of them has ended."""
        return any(process.poll() is not None for process in self._processes)

    def wait(self, seconds: float) -> None:
        """Wait until all have ended, for a while."""
        end = time.monotonic() + seconds
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))

    def kill(self) -> None:
        """End them all, with whatever they started."""
        if self.launcher:  # what it started leads groups of its own: it must end these itself
            for process in self._processes:
                process.terminate()
            self.wait(_PATIENCE)
        for process in self._processes:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._store = None


def main() -> int:
    """Run accelerate's launcher: `python -m mnpo.llm.runtime.starting FILE COUNT MODULE SCRATCH`.

    In a process of its own, for it changes the environment and does not return before the workers end.
    """
    file, count, module, scratch = sys.argv[1:5]
    given = ["--config_file", file, "--log_dir", scratch, *(["--num_processes", count] if count else [])]
    try:
        from accelerate.commands.launch import launch_command, launch_command_parser

        for name in ("elastic", "run"):
            logging.getLogger(f"torch.distributed.{name}").setLevel(logging.CRITICAL)
        launch_command(launch_command_parser().parse_args([*given, "--module", module]))
    except Exception as error:
        if isinstance(error, subprocess.CalledProcessError) or type(error).__name__ == "ChildFailedError":
            return 1  # a worker failed, and tells of it itself
        _, message = report_of(error)
        tell(connect(), "input", f"accelerate cannot start processes as {file} says: {message}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
