"""Data sets on disk beside the tables of `mnpo.llm.data.schema`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetDict, load_from_disk

from mnpo.llm.data.schema import TABLES, Column


def check_table(folder: Path, table: str | None = None) -> None:
    """Let a test fail if a data set has a column that its table lacks, another type, or lacks one of its columns."""
    found = load_from_disk(str(folder))
    for split in found.values() if isinstance(found, DatasetDict) else [found]:
        check_columns(split, TABLES[table or folder.name])


def check_columns(data: Dataset, table: tuple[Column, ...]) -> None:
    schema = data.data.table.schema
    for name in schema.names:
        known = [column for column in table if column.name == name] or [
            column for column in table if column.matches(name)
        ]
        assert known, f"column {name} is none of the table's"
        types = {plain(column.type) for column in known}
        assert plain(schema.field(name).type) in types, f"{name}: {schema.field(name).type}, not {types}"
    lacking = [
        column.name
        for column in table
        if not column.optional and not any(column.matches(name) for name in schema.names)
    ]
    assert not lacking


def plain(kind: pa.DataType) -> pa.DataType:
    """Return a type with lists and texts of the ordinary size, which `datasets` makes large here and there."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return pa.struct([(field.name, plain(field.type)) for field in sorted(fields, key=lambda f: f.name)])
    return pa.string() if pa.types.is_large_string(kind) else kind
