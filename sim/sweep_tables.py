"""The results of a sweep as Parquet tables, and what figures show of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mnpo.common.digests import bytes_digest, file_digest
from mnpo.common.files import whole_file


def as_table(rows: list[dict[str, Any]]) -> Any:
    """Return an Arrow table, one line a seed and recorded step."""
    import pyarrow as arrow

    kinds = {
        "game": arrow.string(), "rule": arrow.string(), "players": arrow.int32(), "tau": arrow.float64(),
        "eta": arrow.float64(), "seed": arrow.int32(), "step": arrow.int64(), "oracle_calls": arrow.int64(),
        "gap": arrow.float64(), "average_gap": arrow.float64(), "diverged": arrow.bool_(),
    }  # fmt: skip
    return arrow.Table.from_pylist(rows, schema=arrow.schema(kinds))


def write_table(table: Any, path: Path) -> None:
    """Write an Arrow table as Parquet, whole or not at all."""
    import pyarrow.parquet as parquet

    with whole_file(path) as partial:
        parquet.write_table(table, partial)


def keep_cell(table: Any, folder: Path, key: str) -> Path:
    """Write the table of a cell as Parquet, whole or not at all, under its key and a digest of the file's bytes."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    sink = arrow.BufferOutputStream()
    parquet.write_table(table, sink)
    content = sink.getvalue().to_pybytes()
    path = folder / f"{key}-{bytes_digest(content).hex()}.parquet"
    with whole_file(path) as partial:
        partial.write_bytes(content)
    return path


def kept_cells(folder: Path) -> dict[str, Path]:
    """Return key -> file of the cells that are what was written; those that are damaged are removed."""
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        key, _, digest = path.stem.partition("-")
        if digest == file_digest(path):
            found[key] = path
        else:
            path.unlink()
    return found


def join_tables(parts: list[Path], path: Path) -> None:
    """Write the tables of several files as one."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    write_table(arrow.concat_tables([parquet.read_table(part) for part in parts]), path)


def summary(table: Path) -> dict[str, Any]:
    """Return a record for figures: by game, rule and setting the median and quartiles of the gap over seeds."""
    import pyarrow.parquet as parquet

    named = ("game", "rule", "players", "tau", "eta")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in parquet.read_table(table).to_pylist():
        groups.setdefault(tuple(row[name] for name in named), []).append(row)
    curves = []
    for name, rows in groups.items():
        calls: dict[int, int] = {row["step"]: row["oracle_calls"] for row in rows}
        gaps = np.array(
            [
                [np.inf if row["gap"] is None else row["gap"] for row in rows if row["step"] == step]
                for step in calls
            ]
        )
        low, middle, high = np.quantile(gaps, [0.25, 0.5, 0.75], axis=1, method="inverted_cdf")
        curves.append(
            {
                **dict(zip(named, name, strict=True)),
                "oracle_calls": list(calls.values()),
                "low": low.tolist(),
                "median": middle.tolist(),
                "high": high.tolist(),
                "diverged": sum(row["diverged"] for row in rows if row["step"] == 0),
                "seeds": gaps.shape[1],
            }
        )
    return {"kind": "sweep", "game": "sweep", "curves": curves}
