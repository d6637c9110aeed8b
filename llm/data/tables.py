"""Tables on disk that never are in memory as a whole: written batch by batch, read batch by batch or mapped.

A table is a folder that `datasets.load_from_disk` reads, as `Dataset.save_to_disk` leaves it; one with splits has a
folder for each.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features

from mnpo.common import seals
from mnpo.llm.data.schema import Column
from mnpo.llm.storage.content import Content, digest_of
from mnpo.llm.storage.mapped import let_go, mapped

#: Rows of a record batch on disk: few, so that one row that is wanted costs little.
ROWS = 64
_FILE = "data-00000-of-00001.arrow"
_STATE, _SPLITS = "state.json", "dataset_dict.json"


class TableWriter:
    """Writes a table, or one of its splits, into a folder; closed at the end of a `with` block.

    Args:
        folder: where; whoever wants it to appear whole gives a temporary one (`mnpo.common.files.whole_folder`).
        table: whose columns rows may have; those with names that vary are given by `names`.
        names: of the columns that there will be; all with fixed names unless given.
    """

    def __init__(self, folder: Path, table: Collection[Column], names: Sequence[str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if names is None:
            names = [column.name for column in table if "<" not in column.name]
        types = [(name, next(column.type for column in table if column.matches(name))) for name in names]
        self._folder, self._schema = folder, pa.schema(types)
        self._optional = {n for n in names if any(c.optional and c.matches(n) for c in table)}
        self._seen: set[str] = set()
        self._content = Content()
        self._sink = (folder / _FILE).open("wb")
        self._stream = pa.ipc.new_stream(self._sink, self._schema)
        self.rows = 0

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stream.close()
        self._sink.close()
        if kind is None:
            self._finish()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows, each a name and value for every column; what is left out is null."""
        if rows:
            self.append_table(pa.Table.from_pylist(list(rows), schema=self._schema))

    def append_table(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Write rows that are Arrow's; columns that are left out are null."""
        columns = []
        for field in self._schema:
            if field.name in rows.schema.names:
                columns.append(rows.column(field.name).cast(field.type))
            else:
                columns.append(pa.nulls(len(rows), field.type))
        table = pa.table(columns, schema=self._schema)
        self._seen |= {name for name in self._optional if table[name].null_count < len(table)}
        for batch in table.combine_chunks().to_batches(ROWS):
            self._stream.write_batch(batch)
        self.rows += len(rows)

    @property
    def digest(self) -> str:
        """The digest of the table's content, once it is closed."""
        return self._content.hexdigest()

    def _finish(self) -> None:
        """Leave out the optional columns that no row has, and say what the table is."""
        kept = [name for name in self._schema.names if name not in self._optional or name in self._seen]
        file = self._folder / _FILE
        partial = self._folder / ".partial"
        schema = pa.schema([self._schema.field(name) for name in kept])
        with (
            pa.OSFile(str(file)) as source,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.open_stream(source) as reader,
            pa.ipc.new_stream(sink, schema) as stream,
        ):
            for batch in reader:
                shortened = batch.select(kept)
                self._content.update(shortened)
                stream.write_batch(shortened)
        partial.replace(file)
        DatasetInfo(features=Features.from_arrow_schema(schema)).write_to_directory(str(self._folder))
        state: dict[str, Any] = {
            "_data_files": [{"filename": _FILE}], "_fingerprint": self.digest[:16], "_format_columns": None,
            "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None,
        }  # fmt: skip
        (self._folder / _STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        seals.seal(self._folder, rows=self.rows, content=self.digest)


def mark_splits(folder: Path, names: Sequence[str]) -> None:
    """Say that a folder's table has splits, each in a folder of that name."""
    seals.write_sealed(folder / _SPLITS, {"splits": list(names)})


def open_table(folder: Path) -> Dataset:
    """Return a table that was written here, mapped: rows are read where they are asked for.

    Nothing of it is read before its checksums are right: Arrow trusts what it maps. Pages that were read can be
    given back with `mnpo.llm.storage.mapped.let_go`.

    Raises:
        OSError: no table, or one that is not what was written.
    """
    wrong = seals.damage(folder)
    known = seals.read_sealed(folder / seals.SEAL)
    if wrong is not None or known is None:
        raise OSError(f"the table in {folder} cannot be read: {wrong}; run the stage again that made it")
    # Without a fingerprint `datasets` would read all rows to make one.
    return Dataset(_mapped_rows(folder / _FILE), fingerprint=known["content"][:16])


def _mapped_rows(file: Path) -> pa.Table:
    found = []
    with pa.ipc.open_stream(pa.BufferReader(mapped(file))) as reader:
        for batch in reader:
            found.append(batch)
            if len(found) % ROWS == 0:
                let_go()  # what says where each batch is lies all over the file
        return pa.Table.from_batches(found, schema=reader.schema)


def open_splits(folder: Path) -> dict[str, Dataset]:
    """Return the splits of a table that has some, mapped.

    Raises:
        OSError: no table with splits, or one that is not whole.
    """
    names = (seals.read_sealed(folder / _SPLITS) or {}).get("splits")
    if not names:
        raise OSError(f"the table in {folder} cannot be read: {_SPLITS} does not name its splits")
    return {name: open_table(folder / name) for name in names}


def batches(data: Dataset, columns: Sequence[str] | None = None, size: int = 1024) -> Iterator[pa.Table]:
    """Yield a data set in batches of rows, in order; pages that were read are given back after each.

    Args:
        data: any data set, mapped or not, with or without a selection of rows.
        columns: which are wanted; all unless given.
        size: rows of a batch.
    """
    wanted = (data if columns is None else data.select_columns(list(columns))).with_format("arrow")
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size].combine_chunks()
        let_go()


def content_digest(data: Dataset) -> str:
    """Return a digest of all rows of a data set, in hexadecimal: that of the `TableWriter` that wrote it."""
    return digest_of(batches(data))
