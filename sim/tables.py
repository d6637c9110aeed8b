"""Arrays of numbers in `.csv .npy .npz`, and vote logs in `.jsonl`."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mnpo.common.given import check_file
from mnpo.numerics import check_memory
from mnpo.oracles import Pairwise
from mnpo.sim.reading import GROWTH, json_line, lines_in
from mnpo.sim.spec import GameSpec
from mnpo.values import shown


def read_matrix_csv(path: Path) -> GameSpec:
    """Read a pairwise win matrix, rows against columns, with or without names.

    Raises:
        ValueError: says what is wrong, with the line where it has one.
    """
    values, names, rows = read_csv(path, square=True)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}, line 1: response {shown(twice)} is named twice")
    if rows and rows != names:
        raise ValueError(
            f"{path}: rows must have the columns' names in the same order; found {', '.join(rows)}"
        )
    return GameSpec(name=str(path), oracle=Pairwise(values), responses=names)


def read_csv(
    path: Path, *, square: bool = False
) -> tuple[list[list[float]], tuple[str, ...], tuple[str, ...]]:
    """Read rows of numbers, and the names that a first row (and then a first column) may hold.

    Args:
        path: of the file.
        square: whether more rows than columns are refused as they come.

    Raises:
        ValueError: says what is wrong, with the line where it has one.
    """
    rows: list[tuple[str, list[str]]] = []
    for read in _rows(path):
        rows.append(read)
        if square and len(rows) > len(rows[0][1]) + 1:
            raise ValueError(f"{read[0]}: matrix must be square; found more rows than columns")
    if not rows:
        raise ValueError(f"{path}: has no rows of numbers")
    names: list[str] = []
    labelled = False
    if not any(_is_number(cell) for cell in rows[0][1]):
        _, names = rows.pop(0)
        labelled = bool(rows) and len(rows[0][1]) == len(names) and not _is_number(rows[0][1][0])
        names = names[1:] if labelled or (names and not names[0]) else names
        labelled = labelled or (bool(rows) and len(rows[0][1]) == len(names) + 1)
    values: list[list[float]] = []
    labels: list[str] = []
    for where, row in rows:
        cells = row[1:] if labelled else row
        labels += row[:1] if labelled else []
        if values and len(cells) != len(values[0]):
            raise ValueError(f"{where}: expected {len(values[0])} numbers; found {len(cells)}")
        for cell in cells:
            if not _is_number(cell):
                raise ValueError(f"{where}: not a number: {shown(cell)}")
        values.append([float(cell) for cell in cells])
    if not values:
        hint = "; numbers are separated by commas" if names and any(";" in name for name in names) else ""
        raise ValueError(f"{path}: has no rows of numbers{hint}")
    if names and len(names) != len(values[0]):
        raise ValueError(f"{path}: {len(names)} names for {len(values[0])} columns")
    return values, tuple(names), tuple(labels)


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the cells of each row that is no remark and not blank, with its place.

    Raises:
        ValueError: as `lines_in`; a cell that has no end, or one that is longer than any name.
    """
    import csv

    wide = path.stat().st_size if path.is_file() else 0
    check_memory((GROWTH, wide // 8), f"{path}: what is in the file")
    number = 0
    try:
        # With `newline=""` a name in quotes may hold a line's end, which must not become another.
        reader = csv.reader((line + "\n" for _, line in lines_in(path)), strict=True)
        for number, row in enumerate(reader, 1):
            cells = [cell.strip() for cell in row]
            if any(cells) and not cells[0].startswith("#"):
                yield f"{path}, line {number}", cells
    except csv.Error as error:
        raise ValueError(f"{path}, line {number + 1}: {error}") from None


# Without going back, which on a long line takes the square of its length.
_NUMBER = re.compile(
    r"[+-]?([0-9]++(\.[0-9]*+)?|\.[0-9]++)([eE][+-]?[0-9]{1,6})?|[+-]?(inf|infinity|nan)", re.IGNORECASE
)


def _is_number(text: str) -> bool:
    """Whether a cell is a number in plain digits; 1_0 and the digits of other scripts are names."""
    return _NUMBER.fullmatch(text) is not None


def read_matrix_numpy(path: Path) -> GameSpec:
    """Read a pairwise win matrix, (A, A) or (X, A, A)."""
    return GameSpec(name=str(path), oracle=Pairwise(read_numpy(path)))


def read_numpy(path: Path) -> npt.NDArray[Any]:
    """Read the one array of an `.npy` or `.npz` file; what it says of its size is checked before it is read.

    Raises:
        ValueError: says what is wrong.
        OSError: the file cannot be read.
    """
    check_file(path, empty=False)
    try:
        with ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(path.open("rb"))
            size = path.stat().st_size
            begins = file.read(2)
            file.seek(0)
            if begins == b"PK":
                file, size = _member(stack.enter_context(zipfile.ZipFile(file)))
                stack.enter_context(file)
            return _array(file, size)
    except Exception as error:
        # numpy, zipfile and the parser of headers raise what they like; the file is at fault whatever it is.
        if isinstance(error, OSError) and error.filename:
            raise
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise ValueError(f"{path}: not a NumPy file of numbers ({reason})") from None


def _member(archive: zipfile.ZipFile) -> tuple[IO[bytes], int]:
    """Return the one array of an archive and its size."""
    members = archive.infolist()
    if len(members) != 1:
        names = ", ".join(shown(member.filename) for member in members[:5])
        raise ValueError(f"must hold one array; found {len(members)}{': ' if names else ''}{names}")
    return archive.open(members[0]), members[0].file_size


def _array(file: IO[bytes], size: int) -> npt.NDArray[Any]:
    """Read an array whose header says what follows.

    Args:
        file: at its beginning.
        size: its bytes.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version[0]}.{version[1]}")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, column_first, kind = header(file)
    if kind.hasobject or kind.kind not in "fiu":
        raise ValueError(f"holds {'objects' if kind.hasobject else kind.name}")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"a shape of {shown(shape)}")
    count, left = math.prod(shape), size - file.tell()
    if count * kind.itemsize != left:
        raise ValueError(f"{count * kind.itemsize} bytes of numbers by its header; found {left}")
    check_memory((4, count), "the array")
    array = np.empty(count, kind)
    found = file.readinto(array.view(np.uint8))  # type: ignore[attr-defined] # every binary file has it
    if found != left:
        raise ValueError(f"ends after {found} bytes of numbers, of {left}")
    return array.reshape(shape, order="F" if column_first else "C")


@dataclass(frozen=True)
class Vote:
    """One match: who played, the first one's share of the win, how much it counts, and what it was about."""

    first: str
    second: str
    share: float
    weight: float
    about: str


#: What votes that are resampled together have in common, the first of these that there is; else each is by itself.
ABOUT = ("question_id", "prompt_id", "prompt", "instruction")


def votes_in(path: Path) -> Iterator[Vote]:
    """Yield votes, one JSON object a line; ties count half.

    Raises:
        ValueError: says what is wrong, with the line.
    """
    for where, line in lines_in(path):
        if not line.strip():
            continue
        vote = json_line(where, line)
        if not isinstance(vote, dict):
            raise ValueError(f"{where}: expected an object with model_a, model_b, winner")
        missing = [key for key in ("model_a", "model_b", "winner") if key not in vote]
        if missing:
            raise ValueError(f"{where}: has no {', '.join(missing)}")
        first, second, winner, weight = (
            vote["model_a"],
            vote["model_b"],
            vote["winner"],
            vote.get("weight", 1),
        )
        if not (isinstance(first, str) and isinstance(second, str) and first and second) or first == second:
            raise ValueError(f"{where}: model_a and model_b must be two different names")
        if not isinstance(winner, str) or winner not in WINNERS:
            raise ValueError(f"{where}: winner must be model_a, model_b or tie; found {shown(winner)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 1e-15 <= weight <= 1e15:
            raise ValueError(f"{where}: weight must be a number from 1e-15 to 1e15; found {shown(weight)}")
        itself = where.removeprefix(f"{path}, ")
        about = next((str(vote[key]) for key in ABOUT if vote.get(key) is not None), itself)
        yield Vote(first, second, WINNERS[winner], float(weight), about)


#: What an arena calls results, as the first player's share of the win.
WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}


def read_votes(path: Path) -> GameSpec:
    """Read votes, one JSON object a line, as the matrix of observed win rates; ties count half.

    Raises:
        ValueError: says what is wrong, with the line.
    """
    wins: dict[tuple[str, str], float] = {}
    squares: dict[frozenset[str], float] = {}
    names: dict[str, None] = {}
    votes = 0
    for vote in votes_in(path):
        first, second, share, weight = vote.first, vote.second, vote.share, vote.weight
        names.update({first: None, second: None})
        wins[first, second] = wins.get((first, second), 0.0) + weight * share
        wins[second, first] = wins.get((second, first), 0.0) + weight * (1 - share)
        pair = frozenset((first, second))
        squares[pair] = squares.get(pair, 0.0) + weight**2
        votes += 1
    if not votes:
        raise ValueError(f"{path}: has no votes")
    order = sorted(names)
    index = {name: place for place, name in enumerate(order)}
    counts = np.zeros((len(order), len(order)))
    for (winner_name, loser_name), weight in wins.items():
        counts[index[winner_name], index[loser_name]] = weight
    total = counts + counts.T
    matrix = np.where(total > 0, counts / np.where(total > 0, total, 1.0), 0.5)
    unseen = int((total == 0).sum() - len(order)) // 2
    notes = [f"{votes} votes on {len(order)} models"]
    if unseen:
        notes.append(
            f"{unseen} of {len(order) * (len(order) - 1) // 2} pairs have no votes; they are taken as even"
        )
    # Unequal weights are worth (Σ w)²/Σ w² equal ones.
    worth = [total[tuple(index[name] for name in pair)] ** 2 / square for pair, square in squares.items()]
    return GameSpec(
        name=str(path),
        oracle=Pairwise(matrix),
        responses=tuple(order),
        votes=max(1, round(len(worth) / sum(1 / each for each in worth))),
        notes=tuple(notes),
    )
