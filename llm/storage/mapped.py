"""Files that are mapped into memory, and giving back what was read of them.

A page of a mapped file that was read stays with the process until memory runs short, and is counted as its own.
`let_go` gives all such pages back: whoever reads on finds them in the system's cache, or on the disk.
"""

from __future__ import annotations

import mmap
import weakref
from pathlib import Path

import pyarrow as pa

_OPEN: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def mapped(file: Path) -> pa.Buffer:
    """Return a file's content, mapped.

    Raises:
        OSError: a file that cannot be read.
    """
    with file.open("rb") as stream:
        if not file.stat().st_size:
            return pa.py_buffer(b"")
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    _OPEN.add(content)
    return pa.py_buffer(content)


def let_go() -> None:
    """Give back the pages of all mapped files; they can be read as before."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for content in list(_OPEN):
        content.madvise(mmap.MADV_DONTNEED)
