"""What things are by content: one digest for bytes, plain data and files."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

#: Bytes of a digest.
SIZE = 16

#: A file with its size and the time of its last change: one that was written anew is another.
Stamp = tuple[Path, int, int]


def bytes_digest(content: bytes, size: int = SIZE) -> bytes:
    """Return a digest of bytes, `size` bytes long."""
    return hashlib.blake2b(content, digest_size=size).digest()


def data_digest(*parts: Any) -> str:
    """Return a digest of plain data, in hexadecimal; the order of keys does not matter."""
    return bytes_digest(json.dumps(parts, sort_keys=True).encode()).hex()


def file_digest(file: Path) -> str:
    """Return a digest of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=SIZE)).hexdigest()


def stamp(file: Path) -> Stamp:
    """Return what tells whether a file was changed.

    Raises:
        OSError: there is none.
    """
    found = file.stat()
    return file, found.st_size, found.st_mtime_ns


@cache
def file_digests(stamps: tuple[Stamp, ...]) -> tuple[str, ...]:
    """Return digests of the contents of files, several at a time; a file is read once as long as it is the same.

    Raises:
        OSError: a file that cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(file_digest, [file for file, _, _ in stamps]))
