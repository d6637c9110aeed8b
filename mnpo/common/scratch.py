"""Scratch folders: removed by whoever made them, and by the next one where that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

#: The file in a scratch folder that is locked for as long as its maker lives.
_LOCK = "maker.lock"
#: How their names begin.
_PREFIX = "mnpo-"


class Scratch:
    """A folder for what is needed only now. Those of makers that are dead are removed first.

    Attributes:
        path: the folder.
    """

    def __init__(self, home: Path | None = None) -> None:
        """Make one.

        Args:
            home: where; the system's folder for temporary files unless given.

        Raises:
            OSError: it cannot be made.
        """
        home = Path(tempfile.gettempdir()) if home is None else home
        _sweep(home)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        unlocked = self.path / f".{_LOCK}"
        self._handle = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: nobody sweeps there
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(self.path / _LOCK)  # under this name it was never unlocked

    def remove(self) -> None:
        """Remove it with all that it holds."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # closed before
            os.close(self._handle)


def _sweep(home: Path) -> None:
    """Remove the scratch folders of processes that are dead; those of other users stay."""
    for lock in home.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):  # somebody lives, or was faster
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_uid == os.getuid():
                    shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(handle)
