"""AlpacaEval 2's statistics from annotations that exist: raw and length-controlled win rates.

Annotations are a table (.csv, also .gz) with the columns model, instruction, preference from 0 (the baseline wins)
to 1, length_baseline and length_model in characters; or AlpacaEval's own annotations.json, whose preference goes
from 1 to 2 and is 0 for a tie, with the answers themselves.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnpo.common.given import read_text
from mnpo.common.strict_json import plain_json
from mnpo.common.style import printable
from mnpo.length_controlled import Answers, fit, standard_error
from mnpo.values import listed

#: What stands beside the numbers.
PROTOCOL = (
    "AlpacaEval 2: raw win rate, and that of a logistic regression without its term of length (2404.04475); gamed "
    "baselines weigh 0.1 each"
)
#: Columns of tables of annotations.
COLUMNS = ("instruction", "preference", "length_baseline", "length_model")


class Row(NamedTuple):
    """One judgment: what the instruction is called, the preference from 0 to 1, and lengths in characters."""

    instruction: str
    preference: float
    length_baseline: float
    length_model: float


def statistics(
    annotations: Path, difficulty: Path | None = None, gamed: Path | None = None
) -> dict[str, Any]:
    """Return the win rates of all models of a file.

    Args:
        annotations: see above.
        difficulty: a table of instruction and difficulty; without one the regression has no such term.
        gamed: annotations of the gamed baselines; without them lengths are learnt from the model alone.

    Returns:
        models: name -> win_rate, lc_win_rate and standard_error in percent, the coefficients theta, phi, gamma, and
        the numbers of instructions and of judgments without a preference; lc_win_rate and coefficients are None,
        and note says why, where none fit best; protocol; notes, what is missing.

    Raises:
        ValueError: a file that cannot be read, or judgments of an instruction whose difficulty is not known.
    """
    known = None if difficulty is None else difficulties(difficulty)
    models, unjudged = read_annotations(annotations)
    return {"protocol": PROTOCOL, **of_models(models, unjudged, known, gamed, str(annotations))}


def of_models(
    models: Mapping[str, Sequence[Row]],
    unjudged: Mapping[str, int],
    known: Mapping[str, float] | None,
    gamed: Path | None,
    source: str,
) -> dict[str, Any]:
    """Return the win rates of models whose judgments are at hand, and notes; see `statistics`.

    Args:
        models: name -> judgments.
        unjudged: name -> how many instructions have none.
        known: instruction -> difficulty; None without.
        gamed: annotations of the gamed baselines.
        source: what errors name.

    Raises:
        ValueError: judgments of an instruction whose difficulty is not known.
    """
    baselines = {} if gamed is None else read_annotations(gamed)[0]
    others = [_answers(name, rows, known, gamed) for name, rows in baselines.items()]
    found: dict[str, dict[str, Any]] = {}
    for name, rows in models.items():
        own = _answers(name, rows, known, source)
        found[name] = {
            "lc_win_rate": None,
            "win_rate": 100 * own.win_rate,
            "standard_error": 100 * standard_error(own.preference) if len(rows) > 1 else None,
            "theta": None, "phi": None, "gamma": None,
            "instructions": len(rows), "unjudged": unjudged.get(name, 0),
        }  # fmt: skip
        try:
            coefficients = fit(own, others)
        except ValueError as error:  # it costs this one number, not the others
            found[name]["note"] = f"{name} has no length-controlled win rate: {error}"
            continue
        found[name] |= {"lc_win_rate": 100 * coefficients.win_rate(own.difficulty), **asdict(coefficients)}
    missing = [("difficulty", known), ("gamed", gamed)]
    notes = [
        f"without {name}= the regression differs from the leaderboard's"
        for name, there in missing
        if there is None
    ]
    return {"models": found, "notes": notes}


def read_annotations(file: Path) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Read judgments by model, and how many of each have no preference.

    Raises:
        ValueError: says which row, and what is wrong with it.
    """
    found: dict[str, list[Row]] = {}
    unjudged: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for number, (name, row) in enumerate(_rows(file), start=1):
        try:
            read = _row(row)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{file}, row {number}: {what}") from None
        rows = found.setdefault(name, [])
        if read is None:
            unjudged[name] = unjudged.get(name, 0) + 1
            continue
        if (name, read.instruction) in seen:
            raise ValueError(
                f"{file}, row {number}: {printable(name)} has instruction {read.instruction[:40]!r} twice"
            )
        seen.add((name, read.instruction))
        rows.append(read)
    empty = [name for name, rows in found.items() if not rows]
    if empty or not found:
        raise ValueError(f"{file} has no judgments" + (f" of {printable(empty[0])}" if empty else ""))
    return found, unjudged


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield rows with the name of their model."""
    if file.name.endswith((".json", ".json.gz")):
        try:
            found = plain_json(_text(file).encode())
        except json.JSONDecodeError as error:
            raise ValueError(f"{file} is not JSON: {error.msg}") from None
        except ValueError as error:
            raise ValueError(f"{file} is not JSON: {error}") from None
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise ValueError(f"{file} must hold a list of objects")
        for row in found:
            yield str(row.get("generator_2", "model")), row
        return
    names, table = _table(file)
    lacking = [column for column in COLUMNS if column not in names]
    if lacking:
        raise ValueError(f"{file} lacks the column {lacking[0]}; it has {listed(names)}")
    for row in table:
        yield str(row.get("model") or row.get("baseline") or "model"), row


def _row(row: Mapping[str, Any]) -> Row | None:
    """Read one judgment; None where there is no preference."""
    if "output_1" in row:  # AlpacaEval's own: the baseline first, 1 to 2, and 0 for a tie
        given = row["preference"]
        if given is None:
            return None
        chance = 0.5 if given == 0 else float(given) - 1
        lengths: tuple[float, float] = len(str(row["output_1"])), len(str(row["output_2"]))
    else:
        if row["preference"] in ("", None):
            return None
        chance, lengths = (
            float(row["preference"]),
            (float(row["length_baseline"]), float(row["length_model"])),
        )
    if not 0 <= chance <= 1:
        raise ValueError(f"the preference {row['preference']} is out of range")
    if not all(math.isfinite(length) and length >= 0 for length in lengths):
        raise ValueError("a length is no number of characters")
    return Row(str(row["instruction"]), chance, *lengths)


def _answers(name: str, rows: Sequence[Row], known: Mapping[str, float] | None, source: object) -> Answers:
    if known is not None:
        strange = next((row.instruction for row in rows if row.instruction not in known), None)
        if strange is not None:
            raise ValueError(
                f"{source}: the difficulty of instruction {strange[:40]!r} of {name} is not known"
            )
    columns = np.array([row[1:] for row in rows], dtype=float)
    difficulty = np.array([0.0 if known is None else known[row.instruction] for row in rows])
    return Answers(columns[:, 0], columns[:, 2], columns[:, 1], difficulty)


def difficulties(file: Path) -> dict[str, float]:
    """Read a table of instruction and difficulty.

    Raises:
        ValueError: another table.
    """
    names, table = _table(file)
    if not {"instruction", "difficulty"} <= set(names):
        raise ValueError(f"{file} must have the columns instruction and difficulty")
    try:
        found = {row["instruction"]: float(row["difficulty"]) for row in table}
    except (ValueError, TypeError) as error:  # the latter of a row that ends too early
        raise ValueError(f"{file}: {error}") from None
    if not all(map(math.isfinite, found.values())):
        raise ValueError(f"{file}: a difficulty is not finite")
    return found


def _text(file: Path) -> str:
    try:
        return read_text(file)
    except ValueError as error:
        raise ValueError(f"cannot read {error}") from None


def _table(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and the rows of a table.

    Raises:
        ValueError: names the file.
    """
    table = csv.DictReader(io.StringIO(_text(file), newline=""))
    try:
        return list(table.fieldnames or []), list(table)
    except csv.Error as error:
        raise ValueError(f"{file}, line {table.line_num}: {error}") from None
