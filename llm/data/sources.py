"""Where preference data lie: files, folders, data sets on the Hub, and some made on the spot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from mnpo.choices import choose
from mnpo.common.digests import file_digest
from mnpo.common.given import check_file, lines, text_lines
from mnpo.common.strict_json import plain_json
from mnpo.llm.data import made
from mnpo.llm.data.formats import COLUMNS, SCORED, STRENGTHS, Malformed, Row, as_row, first_line
from mnpo.values import listed

#: Rows that are made on the spot at most: more would take hours to make.
_MADE = 10**7
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
    path = _path(name)
    if not path.is_file() and not name.startswith(made.PREFIX):
        return _numbered(name, _dataset(name, path, config, split or "train"))
    if split not in (None, "train"):
        raise ValueError(f"dataset {name} has no split {split!r}; a file is all 'train'")
    return _file(name, path) if path.is_file() else _made(name)


def content_of(name: str, config: str | None = None, split: str | None = None) -> list[Any]:
    """Return what stands for the content of a source: equal if `raw_rows` gives the same rows.

    Raises:
        ValueError: no such data or split.
    """
    path = _path(name)
    if name.startswith(made.PREFIX) and not path.is_file():
        return [name, split]
    if path.is_file():
        return [path.suffixes[-2:], file_digest(path), split]
    if path.is_dir():
        _check_folder(name, path)
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
    if len(count) > len(str(_MADE)) or int(count) > _MADE:
        raise ValueError(f"dataset {name}: at most {_MADE} rows are made on the spot")
    return enumerate(kinds[kind](int(count)), start=1)


def _path(name: str) -> Path:
    """Return where a name would lie; what lies there is a file or a folder, and nothing that has no end.

    Raises:
        ValueError: a pipe or a device, or no name of a file at all.
    """
    try:
        path = Path(name).expanduser()
        if path.exists() and not path.is_dir():
            check_file(path)
    except (ValueError, OSError, RuntimeError) as error:  # a zero byte, a name too long, or nobody's home
        raise ValueError(f"dataset {name}: {first_line(error)}") from None
    return path


def _file(name: str, path: Path) -> Iterator[Raw]:
    try:
        if path.suffix == ".parquet":
            yield from enumerate(_parquet(path), start=1)
        elif path.suffix == ".txt":
            stripped = (part.strip() for line in text_lines(path) for part in line.split("\r"))
            yield from enumerate(({"prompt": line} for line in stripped if line), start=1)
        elif re.search(r"\.jsonl?(\.gz)?$", path.name):
            yield from _json(path)
        else:
            raise ValueError("unknown kind of file; known are .jsonl, .json (also .gz), .parquet and .txt")
    except ValueError as error:
        raise ValueError(f"dataset {name}: {first_line(error)}") from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(1000):
                batch.validate(full=True)  # what a damaged file says of itself is not believed
                yield from batch.to_pylist()
    except Exception as error:  # whatever a reader can do: pyarrow's errors have no common parent
        raise ValueError(f"it cannot be read as Parquet: {first_line(error)}") from None


def _json(path: Path) -> Iterator[Raw]:
    """Rows of JSONL, numbered by line, or of one array, numbered by place."""
    first = True
    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            continue
        if first and line.lstrip().startswith(b"["):
            yield from enumerate(map(_object, plain_json(line)), start=1)
            return
        first = False
        try:
            yield number, _object(plain_json(line))
        except (JSONDecodeError, UnicodeDecodeError):
            yield number, Malformed("not JSON")
        except ValueError as error:
            yield number, Malformed(f"not JSON: {error}")


def _object(row: Any) -> Mapping[str, Any] | Malformed:
    return row if isinstance(row, dict) else Malformed("not a JSON object")


def _dataset(name: str, path: Path, config: str | None, split: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    absent = "no such file or folder"
    if not path.exists() and (name[:1] in "./~" or re.search(r"\.(jsonl?|gz|parquet)$", name)):
        raise ValueError(f"dataset {name}: {absent}")
    if path.is_dir():
        _check_folder(name, path)
    try:
        if not any((path / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
            return datasets.load_dataset(str(path) if path.exists() else name, config, split=split)
        saved = datasets.load_from_disk(str(path))
        for part in saved.values() if isinstance(saved, dict) else [saved]:
            part.data.table.validate(
                full=True
            )  # it is mapped: where a place is wrong, reading it would crash
    except Exception as error:  # whatever a reader or a network can do
        where = "" if path.exists() else f"{absent}, and the Hub does not give it: "
        raise ValueError(f"dataset {name}: {where}{first_line(error)}") from None
    splits = saved if isinstance(saved, dict) else {"train": saved}
    if split not in splits:
        raise ValueError(f"dataset {name} has no split {split!r}; it has {', '.join(splits)}")
    return splits[split]


def _numbered(name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Raw]:
    try:
        yield from enumerate(rows, start=1)
    except Exception as error:  # whatever a reader can do, row by row
        raise ValueError(f"dataset {name}: {first_line(error)}") from None


def _check_folder(name: str, folder: Path) -> None:
    """Refuse a folder that holds what has no end.

    Raises:
        ValueError: names it.
    """
    for file in folder.rglob("*"):
        if not file.is_dir() and not file.is_file() and file.exists():
            raise ValueError(f"dataset {name}: {file} is no regular file")


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
            f"{listed(sorted(seen))} (give other names with columns.chosen=..)"
        )
