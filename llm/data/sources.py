"""Where preference data lie: files, folders, data sets on the Hub, and some made on the spot."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import Any

from mnpo.choices import choose
from mnpo.common.digests import file_digest
from mnpo.llm.data import made
from mnpo.llm.data.formats import COLUMNS, SCORED, STRENGTHS, Malformed, Row, as_row, first_line

#: A row as it is, with its number from 1, or what is wrong with it.
Raw = tuple[int, Mapping[str, Any] | Malformed]


def read(
    name: str,
    *,
    config: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Row | tuple[int, Malformed]]:
    """Read preference pairs.

    Args:
        name: a JSONL file (.jsonl, .json, also .gz), a Parquet file, a folder of either or of a saved data set, a
            data set on the Hub, or "tiny:pairs:<count>" for pairs made on the spot.
        config: configuration of a data set on the Hub.
        split: of a folder or a data set on the Hub; "train" unless given.
        limit: read at most so many rows.
        columns: our name -> the data set's name, where they differ.

    Yields:
        Rows, and for malformed ones their number and what is wrong.

    Raises:
        ValueError: no such data or split, no rows, missing columns (says which), or no preference pair at all.
    """
    renamed = dict(columns or {})
    for ours in renamed:
        choose(ours, dict.fromkeys(COLUMNS), "key of columns")
    seen: set[str] = set()
    good, wrong = False, list[str]()
    for number, raw in islice(raw_rows(name, config, split), limit):
        try:
            if isinstance(raw, Malformed):
                raise raw
            seen |= raw.keys()
            yield as_row(number, rename(raw, renamed))
            good = True
        except Malformed as reason:
            wrong.append(f"row {number}: {reason}")
            yield number, reason
    if seen:
        _check_columns(name, seen, renamed, good)
    if not good:
        named = "; ".join(wrong[:5]) + "; .." * (len(wrong) > 5)
        raise ValueError(f"dataset {name} has no {f'preference pair ({named})' if wrong else 'rows'}")


def raw_rows(name: str, config: str | None = None, split: str | None = None) -> Iterable[Raw]:
    """Return the numbered rows of a file, a folder, a data set on the Hub, or one made on the spot, as they are.

    Raises:
        ValueError: no such data or split, or a file of an unknown kind.
    """
    path = Path(name).expanduser()
    if not path.is_file() and not name.startswith(made.PREFIX):
        return enumerate(_dataset(name, path, config, split or "train"), start=1)
    if split not in (None, "train"):
        raise ValueError(f"dataset {name} has no split {split!r}; a file is all 'train'")
    return _file(name, path) if path.is_file() else _made(name)


def content_of(name: str, config: str | None = None, split: str | None = None) -> list[Any]:
    """Return what stands for the content of a source: equal if `raw_rows` gives the same rows.

    Raises:
        ValueError: no such data or split.
    """
    path = Path(name).expanduser()
    if name.startswith(made.PREFIX) and not path.is_file():
        return [name, split]
    if path.is_file():
        return [path.suffixes[-2:], file_digest(path), split]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        found = [[str(file.relative_to(path)), file_digest(file)] for file in files]
        return [found, config, split]
    rows = _dataset(name, path, config, split or "train")
    return [name, config, split, rows._fingerprint]  # the Hub's, by its revision


def _made(name: str) -> Iterable[Raw]:
    kind, _, count = name.removeprefix(made.PREFIX).partition(":")
    kinds: dict[str, Callable[[int], Iterable[Mapping[str, Any]]]] = {
        "pairs": made.pairs,
        "judgments": made.judgments,
        "prompts": lambda number: ({"prompt": prompt} for prompt in made.prompts(number)),
    }
    if kind not in kinds or not count.isdecimal():
        known = ", ".join(f"{made.PREFIX}{kind}:<count>" for kind in kinds)
        raise ValueError(f"dataset {name}: made on the spot are {known}")
    return enumerate(kinds[kind](int(count)), start=1)


def _file(name: str, path: Path) -> Iterator[Raw]:
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path) as table:
                batches = table.iter_batches(1000)
                yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
        elif path.suffix == ".txt":
            with path.open(encoding="utf-8") as texts:
                yield from enumerate(({"prompt": line.strip()} for line in texts if line.strip()), start=1)
        elif re.search(r"\.jsonl?(\.gz)?$", path.name):
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
                yield from _json(lines)
        else:
            raise ValueError("unknown kind of file; known are .jsonl, .json (also .gz), .parquet and .txt")
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"dataset {name}: {first_line(error)}") from None


def _json(lines: BufferedIOBase) -> Iterator[Raw]:
    """Rows of JSONL, numbered by line, or of one array, numbered by place."""
    first = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if first and line.lstrip().startswith(b"["):
            yield from enumerate(map(_object, json.loads(line + lines.read())), start=1)
            return
        first = False
        try:
            yield number, _object(json.loads(line))
        except ValueError:
            yield number, Malformed("not JSON")


def _object(row: Any) -> Mapping[str, Any] | Malformed:
    return row if isinstance(row, dict) else Malformed("not a JSON object")


def _dataset(name: str, path: Path, config: str | None, split: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    absent = "no such file or folder"
    if not path.exists() and (name[:1] in "./~" or re.search(r"\.(jsonl?|gz|parquet)$", name)):
        raise ValueError(f"dataset {name}: {absent}")
    try:
        if not any((path / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
            return datasets.load_dataset(str(path) if path.exists() else name, config, split=split)
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever a reader or a network can do
        where = "" if path.exists() else f"{absent}, and the Hub does not give it: "
        raise ValueError(f"dataset {name}: {where}{first_line(error)}") from None
    splits = saved if isinstance(saved, dict) else {"train": saved}
    if split not in splits:
        raise ValueError(f"dataset {name} has no split {split!r}; it has {', '.join(splits)}")
    return splits[split]


def rename(raw: Mapping[str, Any], renamed: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a row with our names for columns, our name -> the data set's."""
    if not renamed:
        return raw
    hidden = set(renamed.values())
    kept = {key: value for key, value in raw.items() if key not in hidden}
    return {**kept, **{ours: raw.get(theirs) for ours, theirs in renamed.items()}}


def _check_columns(name: str, seen: set[str], renamed: Mapping[str, str], good: bool) -> None:
    missing = set(renamed.values()) - seen
    if not good:
        ours = (seen - set(renamed.values())) | set(renamed)
        wanted = {"prompt"} if ours.issuperset(SCORED) else {"chosen", "rejected"}
        wanted = next((set(names) for names in STRENGTHS if names[-1] in ours), wanted)
        missing |= wanted - ours
    if missing:
        raise ValueError(
            f"dataset {name} lacks the column{'s' * (len(missing) > 1)} {', '.join(sorted(missing))}; it has "
            f"{', '.join(sorted(seen))} (give other names with columns.chosen=..)"
        )
