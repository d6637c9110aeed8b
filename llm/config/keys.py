"""What a key of the configuration is. Everything that is known of a key is said where the key is defined."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from mnpo.choices import choose
from mnpo.values import Range, coerce

#: Who may set a key in a run of several iterations: "run", once for all of it; "player", also in `players` and
#: `schedule`, for one player or from some iteration on; "iteration", the loop itself, for every iteration anew.
Scope = Literal["run", "player", "iteration"]

#: The largest number of a key that does not say another one: of what is counted, no machine has more.
MOST = 2**31 - 1


@dataclass(frozen=True)
class Key:
    """A key of a section.

    Attributes:
        about: one line for people.
        scope: see `Scope`.
        choices: the texts that it takes; name -> meaning, where they have one.
        least, most: the numbers that it takes, these included.
        above: the numbers that it takes, this one not included.
        share: whether it is a number of things, or below 1 a share of them.
        names_models: whether its values are models, which are compared by content.
        names_data: whether its value is data, which are compared by content where they are a file.
        free: whether it may change between two calls of the same run.
    """

    about: str
    scope: Scope = "player"
    choices: Collection[str] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    share: bool = False
    names_models: bool = False
    names_data: bool = False
    free: bool = False

    def check(self, name: str, value: Any) -> None:
        """Refuse a value out of range.

        Raises:
            ValueError: names the key, what was found and what is accepted.
        """
        if value is None:
            return
        if self.choices:
            choose(value, dict.fromkeys(self.choices), f"value of {name}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            Range(self.least, MOST if self.most is None else self.most, self.above).check(name, value)
            if self.share and value >= 1 and value % 1:
                raise ValueError(f"{name} must be a whole number, or a fraction below 1; found {value}")


def key(default: Any, about: str, **known: Any) -> Any:
    """Define a key of a section; a list or dictionary as default is copied for every section.

    Args:
        default: the value where none is given; `REQUIRED` for a key that must be.
        about: one line for people.
        known: further attributes of `Key`.
    """
    metadata = {"key": Key(about, **known)}
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


#: Columns of the held-out answers, which no opponent can be called, and names that no player can have.
COLUMNS = ("policy", "row", "prompt")
RESERVED = (*COLUMNS, "reference", "previous", "current")

#: The default of a key that must be given.
REQUIRED = object()


@dataclass(frozen=True, kw_only=True)
class Section:
    """Keys that belong together, checked as they are put together."""

    def __post_init__(self) -> None:
        for name, known in self.known_keys().items():
            known.check(name, getattr(self, name))

    @classmethod
    def known_keys(cls) -> dict[str, Key]:
        """Return all keys, in the order in which they are defined."""
        return {f.name: f.metadata["key"] for f in dataclasses.fields(cls)}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Build a section from values as YAML reads them.

        Raises:
            ValueError: a value of another kind or out of range, or a key that is missing.
        """
        hints = typing.get_type_hints(cls)
        values = {name: coerce(value, hints[name], name) for name, value in given.items()}
        for f in dataclasses.fields(cls):
            needed = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            if needed and values.get(f.name) is None:
                raise ValueError(f"the configuration lacks {f.name}")
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return the keys and values, as plain data but for Python objects that were given."""
        return {name: copied(getattr(self, name)) for name in self.known_keys()}


def copied(value: Any) -> Any:
    """Return a copy of lists and dictionaries at any depth; what they hold besides stays the same thing."""
    if isinstance(value, Mapping):
        return {name: copied(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [copied(inner) for inner in value]
    return value
