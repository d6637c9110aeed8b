"""Files of games and votes: what is no text, JSON or number is told in one line with file, place and reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from mnpo.common.given import check_file
from mnpo.common.strict_json import parse_json
from mnpo.numerics import Array, as_array, check_memory
from mnpo.values import shown

#: Characters; what is longer is no line of orders, votes or numbers.
LONGEST_LINE = 1 << 26
#: Bytes of memory that a byte of text takes, about, once it is numbers and names.
GROWTH = 16


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: as `mnpo.common.given.check_file`, an empty file, or no such text.
        OSError: the file cannot be read.
    """
    _check_text(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None


def lines_in(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text file one at a time, each with its place for what is said of it, without its end.

    Raises:
        ValueError: as `read_text`, or a line longer than `LONGEST_LINE`.
        OSError: the file cannot be read.
    """
    check_file(path, empty=False)
    name, number = str(path), 1
    try:
        with path.open(encoding="utf-8-sig") as file:
            while line := file.readline(LONGEST_LINE + 1):
                where = f"{name}, line {number}"
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"{where}: longer than {LONGEST_LINE:,} characters")
                yield where, line.removesuffix("\n")
                number += 1
    except UnicodeDecodeError as error:
        # Text is decoded in blocks, ahead of the lines.
        raise ValueError(
            f"{path}: not a text file in UTF-8 ({error.reason} after line {number - 1})"
        ) from None


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: as `read_text`, or says what is wrong, with the line where it has one.
        OSError: the file cannot be read.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        place = f"{error.msg} (column {error.colno})"
        raise ValueError(f"{path}, line {error.lineno}: malformed JSON, {place}") from None
    except ValueError as error:
        raise ValueError(f"{path}: malformed JSON, {error}") from None


def json_line(where: str, line: str) -> Any:
    """Read a line that is JSON.

    Args:
        where: the file and the line, for what is said of it.
        line: its text.

    Raises:
        ValueError: says what is wrong.
    """
    try:
        return parse_json(line)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise ValueError(f"{where}: not JSON ({reason})") from None


def as_numbers(values: Any, name: str) -> Array:
    """Return plain data as an array of numbers; texts, true and false are none, though arrays would take them.

    Raises:
        ValueError: as `as_array`, or something else than a number.
    """
    level: Iterable[Any] = [values]
    while (kinds := set(map(type, level := list(level)))) == {list}:
        level = chain.from_iterable(level)
    odd = kinds - {int, float, list}
    if odd:
        found = next(value for value in level if type(value) in odd)
        raise ValueError(f"{name} must be a rectangular array of numbers; found {shown(found)}")
    return as_array(values, name)


def _check_text(path: Path) -> None:
    check_file(path, empty=False)
    check_memory((GROWTH, path.stat().st_size // 8), f"{path}: what is in the file")
