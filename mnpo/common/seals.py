"""What is kept is what was written: checksums of files that are read back, beside them or in them.

They are there for accidents (a disk, a copy, an editor), not for enemies: files have their size and a CRC-32 of
those of their pieces, which finds every flipped bit and every burst of 32, at several gigabytes a second.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from mnpo.common.digests import Stamp, data_digest, stamp
from mnpo.common.files import read_json, write_json

#: The key of a JSON object that holds the digest of all others.
CHECKSUM = "checksum"
#: The file that holds the checksums of a folder's files.
SEAL = "checksums.json"
#: Bytes that have a checksum of their own, and bytes that are read at once.
_PIECE, _READ = 1 << 24, 1 << 20


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data as JSON with their checksum, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_json(path, {**content, CHECKSUM: _of(content)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return what a JSON object holds, without its checksum; None where there is none, or one that is damaged.

    An object without a checksum is taken as it is: one that people wrote.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        return None
    checksum = found.pop(CHECKSUM, None)
    return found if checksum in (None, _of(found)) else None


def seal(folder: Path, name: str = SEAL, **about: Any) -> None:
    """Write down the checksums of all files of a folder, and what else is to be known of it.

    Args:
        folder: with all its files.
        name: of the file that is written into it.
        about: plain data.

    Raises:
        OSError: the file cannot be written.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / name]
    sums = _checksums(tuple(map(stamp, files)))
    names = [file.relative_to(folder).as_posix() for file in files]
    write_sealed(folder / name, {**about, "files": dict(zip(names, sums, strict=True))})


def about_sealed(folder: Path, name: str = SEAL) -> dict[str, Any] | None:
    """Return what was said of a folder when it was sealed; None if it was not, or if its files are others now."""
    return None if damage(folder, name) is not None else read_sealed(folder / name)


def damage(folder: Path, name: str = SEAL) -> str | None:
    """Say what is wrong with a folder's files; None where they are what was written.

    Files that were added are of no interest.
    """
    known = read_sealed(folder / name)
    files = None if known is None else known.get("files")
    if not isinstance(files, dict):
        return f"{name} is {'damaged' if (folder / name).exists() else 'not there'}"
    try:
        sums = _checksums(tuple(stamp(folder / file) for file in files))
    except OSError as error:
        return f"{Path(str(error.filename)).name} cannot be read"
    for file, found in zip(files, sums, strict=True):
        if files[file] != found:
            return f"{file} is not what was written"
    return None


@cache
def _checksums(stamps: tuple[Stamp, ...]) -> tuple[str, ...]:
    """Return checksums of files, large ones by several threads; a file is read once as long as it is the same.

    Raises:
        OSError: a file that cannot be read.
    """
    pieces = [(file, start) for file, size, _ in stamps for start in range(0, size, _PIECE)]
    if len(pieces) > len(stamps):
        with ThreadPoolExecutor() as pool:
            sums = iter(list(pool.map(_sum, pieces)))
    else:
        sums = map(_sum, pieces)
    found = []
    for _, size, _ in stamps:
        own = [next(sums) for _ in range(0, size, _PIECE)]
        found.append(f"{size}-{zlib.crc32(b''.join(one.to_bytes(4) for one in own)):08x}")
    return tuple(found)


def _sum(piece: tuple[Path, int]) -> int:
    """Return the CRC-32 of a piece of a file."""
    file, start = piece
    total = 0
    with file.open("rb", buffering=0) as stream:
        stream.seek(start)
        for _ in range(0, _PIECE, _READ):
            total = zlib.crc32(stream.read(_READ), total)
    return total


def _of(content: Mapping[str, Any]) -> str:
    return data_digest(json.loads(json.dumps(content)))
