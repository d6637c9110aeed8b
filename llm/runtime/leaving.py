"""Going with whoever started this process: nobody else would end it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import cache
from typing import NoReturn

#: Set by torchrun, and by accelerate where that starts several processes.
_LAUNCHED = "TORCHELASTIC_RUN_ID"
#: Seconds between two looks at who the parent is.
_PAUSE = 0.5


def leave() -> NoReturn:
    """End at once, with whatever this process started where it leads a group of its own."""
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


@cache
def follow_launcher() -> None:
    """See to it that this process ends when its launcher does, also where that is killed.

    Launchers end their processes; one that was killed leaves them behind, and they would go on and write.
    """
    if _LAUNCHED not in os.environ:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PAUSE)
        leave()

    threading.Thread(target=watch, daemon=True).start()
