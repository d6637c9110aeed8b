"""A worker: a process of a run that takes stage after stage from the one that started it.

Both talk over a socket in the file system. Where it closes, the other one is gone.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mnpo.common.leaving import leave

#: What is said: of which kind, and what.
Report = tuple[str, Any]

#: The variable that names the socket of the process that hands out the work.
SOCKET = "MNPO_SOCKET"


def connect() -> Connection:
    """Connect to the process that hands out the work."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(os.environ[SOCKET])
    return Connection(line.detach())


def tell(line: Connection, kind: str, message: Any = None) -> None:
    """Say something: of which kind, and what."""
    line.send_bytes(json.dumps([kind, message]).encode())


def heard(line: Connection) -> Report:
    """Return what is said next; that the other one is gone, where it is."""
    try:
        kind, message = json.loads(line.recv_bytes())
    except (EOFError, OSError):
        return "gone", None
    return kind, message


def report_of(error: Exception) -> Report:
    """Return whether an error is bad input or another failure, and its one line."""
    kind = "input" if isinstance(error, ValueError | OSError) else "failure"
    return kind, " ".join((str(error) or type(error).__name__).split())


def serve(begin: Callable[[], Callable[[str, str], None]]) -> int:
    """Take work until there is no more.

    Args:
        begin: called once; returns what does a piece of work, given its name and the file of its configuration.

    Returns:
        The exit status.
    """
    try:
        line = connect()
    except OSError:  # the process that hands out the work has gone already
        _clear()
        return 1
    orders: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(line, orders), daemon=True).start()
    tell(line, "ready", int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    run: Callable[[str, str], None] | Exception
    try:
        run = begin()
    except Exception as error:
        run = error
    while (order := orders.get()) is not None:
        try:
            if isinstance(run, Exception):
                raise run
            run(*order)
        except Exception as error:
            if os.environ.get("MNPO_DEBUG"):
                import traceback

                traceback.print_exc()
            # It stays, for a process that goes away looks to the others like one that crashed.
            tell(line, *report_of(error))
        else:
            tell(line, "done")
    return 0


def _listen(line: Connection, orders: queue.SimpleQueue[tuple[str, str] | None]) -> None:
    """Pass work on. It listens while there is work too: nobody else would end this process."""
    while True:
        kind, order = heard(line)
        if kind == "gone":
            _clear()
            leave()
        if kind == "end":
            orders.put(None)
            return
        orders.put((order[0], order[1]))


def _clear() -> None:
    """Remove the folder of the socket: the process that made it may have been killed."""
    shutil.rmtree(Path(os.environ[SOCKET]).parent, ignore_errors=True)
