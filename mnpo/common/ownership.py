"""One owner of a folder: who writes to it holds a lock that its death gives back."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

#: The file that is locked; it is there while somebody works.
LOCK = "in-use.lock"
#: Seconds between two tries of somebody who waits.
_PAUSE = 0.2


@contextlib.contextmanager
def owned(
    folder: Path,
    *,
    wait: bool = False,
    waiting: Callable[[str], None] | None = None,
    otherwise: str = "wait for it (--wait), or give another output_dir",
) -> Iterator[None]:
    """Own a folder while the block runs.

    The lock is advisory (flock), is held by the process that is named in it, and ends with that process. On a file
    system without locks nothing is locked.

    Args:
        folder: made if it is not there.
        wait: whether to wait for its owner; else the folder is refused.
        waiting: told once whom it waits for.
        otherwise: what who is refused can do.

    Raises:
        ValueError: somebody else owns it; says who.
        OSError: the folder cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    handle = _taken(folder / LOCK, wait, waiting, otherwise)
    try:
        yield
    finally:
        if handle is not None:
            (folder / LOCK).unlink(missing_ok=True)  # while it is held: whoever waits looks at the new one
            os.close(handle)
        with contextlib.suppress(OSError):  # not empty
            for path in made:
                path.rmdir()


def _taken(file: Path, wait: bool, waiting: Callable[[str], None] | None, otherwise: str) -> int | None:
    told = False
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # its owner has just removed the empty folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(handle)
            os.close(handle)
            if not wait:
                raise ValueError(f"{file.parent} is in use by {owner}; {otherwise}") from None
            if waiting is not None and not told:
                waiting(owner)
            told = True
            time.sleep(_PAUSE)
            continue
        except OSError:  # a file system without locks
            os.close(handle)
            file.unlink(missing_ok=True)
            return None
        if _same(handle, file):
            os.ftruncate(handle, 0)
            who = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[1:])[:200]}
            os.pwrite(handle, json.dumps(who).encode(), 0)
            return handle
        os.close(handle)  # its owner has just removed it


def _same(handle: int, file: Path) -> bool:
    """Tell whether a file that was opened is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _owner(handle: int) -> str:
    try:
        who = json.loads(os.pread(handle, 4096, 0))
        return f"process {who['pid']} on {who['host']} (mnpo {who['command']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
