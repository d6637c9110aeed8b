"""Files that somebody names: regular files of a size that fits, read with limits; one line says what is wrong.

Nothing here knows what the files mean. Errors are `ValueError`s that name the file.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from mnpo.common.strict_json import unique

_MIB = 2**20
#: Bytes of a text that is read as a whole, of one line, and of one JSON array of rows.
TEXT, LINE, ARRAY = 256 * _MIB, 64 * _MIB, 1024 * _MIB
#: A compressed file may become so many times larger, once it is larger than so many bytes.
_TIMES, _ANYWAY = 100, 16 * _MIB
#: Empty lines, one after the other.
_BLANK = 10**6
#: What begins a text in another encoding.
_OTHERS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_BOM = b"\xef\xbb\xbf"


def user_path(name: str) -> Path:
    """Return the path that a name stands for, in which ~ is somebody's home.

    Raises:
        ValueError: nobody of that name has a home.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError(f"{name}: there is no such home") from None


def check_file(path: Path, *, empty: bool = True) -> None:
    """Refuse what is no regular file: a folder, a pipe that nobody may write to, a device without end.

    Args:
        path: of the file.
        empty: whether there may be nothing in it.

    Raises:
        ValueError: names it.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        told = f"{path} is a link that leads nowhere" if path.is_symlink() else f"no such file: {path}"
        raise ValueError(told) from None
    except (OSError, ValueError) as error:  # the latter of a zero byte in the name
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{path} is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no regular file but a pipe or a device")
    if not (found.st_size or empty):
        raise ValueError(f"{path} is empty")


def read_bytes(path: Path, most: int = TEXT) -> bytes:
    """Return a file's content; that of a compressed one (.gz) as it was before.

    Raises:
        ValueError: no such file, one that is larger than `most` bytes, or that cannot be read.
    """
    with _Stream(path) as stream:
        return stream.rest(b"", most)


def read_text(path: Path, most: int = TEXT) -> str:
    """Return a file's text, without a byte order mark.

    Raises:
        ValueError: as `read_bytes`, or another encoding than UTF-8.
    """
    return _decoded(path, read_bytes(path, most))


def lines(path: Path) -> Iterator[bytes]:
    """Yield a file's lines; an array of JSON, which begins with a bracket, as one.

    Raises:
        ValueError: as `read_bytes`, a line that is longer than `LINE`, or an array that is longer than `ARRAY`.
    """
    with _Stream(path) as stream:
        number, blank, first = 0, 0, True
        while line := stream.line(number + 1, ARRAY if first else LINE):
            number += 1
            blank = 0 if line.strip() else blank + 1
            if blank > _BLANK:
                raise ValueError(f"{path}: more than {_BLANK} empty lines, up to line {number}")
            if first and not blank:
                array = line.lstrip().startswith(b"[")
                if array:
                    line = stream.rest(line, ARRAY)
                elif len(line) > LINE:
                    raise ValueError(f"{path}: line {number} is longer than {_size(LINE)}")
                first = False
            yield line


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text.

    Raises:
        ValueError: as `lines`, or a line that is no text in UTF-8: names it.
    """
    with _Stream(path) as stream:
        number = 0
        while line := stream.line(number + 1, LINE):
            number += 1
            yield _decoded(path, line, f", line {number}")


def read_json_object(path: Path, most: int = TEXT) -> dict[str, Any]:
    """Return the object that a JSON file of settings holds; Infinity is a number there, which libraries write.

    Raises:
        ValueError: names the file, and what is wrong with it.
    """
    text = read_text(path, most)
    try:
        found = json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError(f"cannot read {path}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"cannot read {path}: it holds no JSON object")
    return found


class _Stream:
    """A file that is open, compressed or not."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self._file: gzip.GzipFile | BufferedReader
        self._path, self._read = path, 0
        self._packed = os.stat(path).st_size if path.suffix == ".gz" else None
        try:
            self._file = (
                gzip.GzipFile(path) if self._packed is not None else path.open("rb")
            )  # __exit__ closes it
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from None

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def line(self, number: int, most: int) -> bytes:
        """Return the next line; empty at the end."""
        parts: list[bytes] = []
        length = 0
        while True:  # some at a time: what unpacks to far more than it was is refused on the way
            part = self._take(self._file.readline, min(most + 1 - length, _MIB))
            if number == 1 and not parts:
                part = self._begun(part)
            parts.append(part)
            length += len(part)
            if length > most:
                raise ValueError(f"{self._path}: line {number} is longer than {_size(most)}")
            if not part or part.endswith(b"\n"):
                return b"".join(parts)

    def rest(self, begun: bytes, most: int) -> bytes:
        """Return what was read of something, with all that follows."""
        parts, length = [begun], len(begun)
        while part := self._take(self._file.read, _MIB):
            parts.append(part if length else self._begun(part))
            length += len(part)
            if length > most:
                raise ValueError(f"{self._path}: it is larger than {_size(most)}")
        return b"".join(parts)

    def _begun(self, part: bytes) -> bytes:
        other = _OTHERS.get(part[:2])
        if other is not None:
            raise ValueError(f"{self._path}: it is in {other}, not in UTF-8")
        return part.removeprefix(_BOM)

    def _take(self, read: Callable[[int], bytes], count: int) -> bytes:
        try:
            part = read(count)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
            raise ValueError(f"{self._path}: {reason}") from None
        self._read += len(part)
        if self._packed is not None and self._read > max(_ANYWAY, _TIMES * self._packed):
            raise ValueError(
                f"{self._path}: {_size(self._packed)} unpack to more than {_size(self._read)}; unpack it yourself "
                "if that is meant"
            )
        return part


def _decoded(path: Path, content: bytes, where: str = "") -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}{where}: it is not in UTF-8 (byte {error.start})") from None
    if "\0" in text:
        raise ValueError(f"{path}{where}: it holds a zero byte, which is no text")
    return text


def _size(count: int) -> str:
    return f"{count / _MIB:.0f} MiB" if count >= _MIB else f"{count} bytes"
