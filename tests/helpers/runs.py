"""The command `mnpo llm` as a user runs it, and what it leaves in its stores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from mnpo.common.digests import SIZE
from mnpo.llm.storage.store import blocks_of


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from mnpo.cli.main import main; main()", "llm", *arguments]


def mnpo(*arguments: str, expect: int = 0, **environment: str) -> str:
    """Run the command; return standard output, or standard error where it should fail."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout if expect == 0 else done.stderr


def kill_when(arguments: list[str], ready: Callable[[], bool]) -> None:
    """Start the command and kill it with SIGKILL as soon as `ready` says so.

    It is forked from a process that has the libraries loaded and has done nothing else.
    """
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["mnpo.cli.main", "mnpo.llm.running", "mnpo.llm.stages.fit"])
    running = forking.Process(target=_silently, args=(arguments,))
    running.start()
    while not ready():
        assert running.is_alive(), "it ended before it could be killed"
        time.sleep(0.002)
    running.kill()
    running.join()
    assert running.exitcode == -signal.SIGKILL


def _silently(arguments: list[str]) -> None:
    from mnpo.cli.main import main

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.argv = ["mnpo", "llm", *arguments]
    main()


def entries(folder: Path) -> list[bytes]:
    """Every entry that was ever written to the stores in a folder, also those written twice: store and digest."""
    digests = pa.schema([("digest", pa.binary(SIZE))])  # the first column, whatever the entries are
    found: list[bytes] = []
    for file in folder.glob("*/*.blocks"):
        for block in blocks_of(file, file.parent.name):
            batch = pa.ipc.read_record_batch(block, digests)
            found += [file.parent.name.encode() + digest for digest in batch.column(0).to_pylist()]
    return found
