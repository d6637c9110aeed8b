"""Frozen records as JSON and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from mnpo.common.seals import read_sealed, write_sealed


@dataclass(frozen=True, kw_only=True)
class Record:
    """A frozen record whose fields are plain data, records, or lists and dictionaries of records."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the record that plain data stand for.

        Raises:
            KeyError, TypeError: data that are another record's.
        """
        hints = typing.get_type_hints(cls)
        return cls(**{f.name: _read(hints[f.name], data[f.name]) for f in dataclasses.fields(cls)})


@dataclass(frozen=True, kw_only=True)
class FileRecord(Record):
    """A record that stands in a file of its own in a folder."""

    FILE: ClassVar[str]

    def write(self, folder: Path) -> None:
        """Write the record into its folder, whole, with its checksum."""
        write_sealed(folder / self.FILE, self.as_dict())

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the record in a folder; None where there is none, one that is damaged, or none of this kind."""
        found = read_sealed(folder / cls.FILE)
        try:
            return None if found is None else cls.from_dict(found)
        except (KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def foreign(cls, folder: Path) -> bool:
        """Tell whether the file of that name is there and holds something else."""
        return read_sealed(folder / cls.FILE) is not None and cls.read(folder) is None

    def intact(self, folder: Path) -> bool:
        """Tell whether what the record is about still stands beside it as it was written."""
        return True


def _read(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return _read(next(part for part in arguments if part is not type(None)), value)
    if origin in (list, tuple) and arguments:
        return [_read(arguments[0], entry) for entry in value]
    if origin is dict:
        return {name: _read(arguments[1], entry) for name, entry in value.items()}
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_dict(value)
    return value
