"""Arrays of numbers in `.csv .npy .npz`, and vote logs in `.jsonl`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnpo.oracles import Pairwise
from mnpo.sim.spec import GameSpec


def read_matrix_csv(path: Path) -> GameSpec:
    """Read a pairwise win matrix, rows against columns, with or without names.

    Raises:
        ValueError: says what is wrong, with the line where it has one.
    """
    values, names, rows = read_csv(path)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}, line 1: response {twice!r} is named twice")
    if rows and rows != names:
        raise ValueError(
            f"{path}: rows must have the columns' names in the same order; found {', '.join(rows)}"
        )
    return GameSpec(name=str(path), oracle=Pairwise(values), responses=names)


def read_csv(path: Path) -> tuple[list[list[float]], tuple[str, ...], tuple[str, ...]]:
    """Read rows of numbers, and the names that a first row (and then a first column) may hold."""
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [
            (number, [cell.strip() for cell in row])
            for number, row in enumerate(csv.reader(file), 1)
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")
        ]
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
    for number, row in rows:
        cells = row[1:] if labelled else row
        labels += row[:1] if labelled else []
        if values and len(cells) != len(values[0]):
            raise ValueError(f"{path}, line {number}: expected {len(values[0])} numbers; found {len(cells)}")
        for cell in cells:
            if not _is_number(cell):
                raise ValueError(f"{path}, line {number}: not a number: {cell!r}")
        values.append([float(cell) for cell in cells])
    if not values:
        hint = "; numbers are separated by commas" if names and any(";" in name for name in names) else ""
        raise ValueError(f"{path}: has no rows of numbers{hint}")
    if names and len(names) != len(values[0]):
        raise ValueError(f"{path}: {len(names)} names for {len(values[0])} columns")
    return values, tuple(names), tuple(labels)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_matrix_numpy(path: Path) -> GameSpec:
    """Read a pairwise win matrix, (A, A) or (X, A, A)."""
    return GameSpec(name=str(path), oracle=Pairwise(read_numpy(path)))


def read_numpy(path: Path) -> Any:
    """Read the one array of an `.npy` or `.npz` file.

    Raises:
        ValueError: says what is wrong.
    """
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            names = content.files
            if len(names) != 1:
                raise ValueError(f"{path}: must hold one array; found {len(names)}: {', '.join(names)}")
            return content[names[0]]
    except (EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        if getattr(error, "errno", None) is not None or str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: not a NumPy file of numbers") from None


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
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            vote = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error.msg})") from None
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
        if not isinstance(first, str) or not isinstance(second, str) or first == second:
            raise ValueError(f"{where}: model_a and model_b must be two different names")
        if winner not in WINNERS:
            raise ValueError(f"{where}: winner must be model_a, model_b or tie; found {winner!r}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e15:
            raise ValueError(f"{where}: weight must be a number above 0 and at most 1e15; found {weight!r}")
        about = next((str(vote[key]) for key in ABOUT if vote.get(key) is not None), f"line {number}")
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
