"""Going with whoever started this process: nobody else would end it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import cache
from typing import NoReturn

#: Seconds between two looks at who the parent is.
_PAUSE = 0.5


def leave() -> NoReturn:
    """End at once, with whatever this process started where it leads a group of its own."""
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


@cache
def follow(parent: int) -> None:
    """See to it that this process ends when the one that started it does, also where that is killed.

    Args:
        parent: its number. One that is gone already has left this process to another.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PAUSE)
        leave()

    threading.Thread(target=watch, daemon=True).start()
