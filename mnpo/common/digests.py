"""What things are by content: one digest for bytes, plain data and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

#: Bytes of a digest.
SIZE = 16


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
