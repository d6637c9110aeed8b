"""What a registered function takes, read off its signature.

    def mpo(eta: float, refresh: Annotated[int, Option("updates between two refreshments")] = 50): ..

A parameter's annotation says the kind of its value and, with `Option`, what it is for and what it is chosen from.
The command line, configuration files and tables of rules read the same signature: an option is written once.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnpo.choices import suggestion
from mnpo.values import Range, coerce

#: The default of an option that must be given.
REQUIRED: Any = inspect.Parameter.empty

_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True)
class Option:
    """What a registered function takes under one name.

    In an annotation the help, choices and range are given; `options_of` fills in the rest.

    Attributes:
        help: one line for people.
        choices: the texts that are accepted; empty for any value of the kind.
        least, most: the range of numbers.
        default: what holds where none is given; `REQUIRED` where one must be.
        kind: bool, int, float or str.
        many: whether several values of the kind are taken.
        optional: whether None is a value.
    """

    help: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    default: Any = REQUIRED
    kind: type = str
    many: bool = False
    optional: bool = False

    @property
    def kind_name(self) -> str:
        """The kind in words."""
        name = _KINDS[self.kind]
        return f"{name}s" if self.many else name

    @property
    def default_text(self) -> str:
        """The default as it would be typed; empty where there is none."""
        if self.default is REQUIRED or self.default is None:
            return ""
        return ",".join(map(str, self.default)) if self.many else str(self.default)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        default = None if self.default is REQUIRED else self.default
        return {
            "help": self.help,
            "type": self.kind_name,
            "choices": list(self.choices),
            "required": self.default is REQUIRED,
            "default": list(default) if isinstance(default, tuple) else default,
        }

    def read(self, value: Any, label: str) -> Any:
        """Return a value as typed, or as YAML reads it, as what the option takes.

        Several numbers are a list, or a text with commas or strokes: [0.7, 0.3], "0.7,0.3" or "0.7/0.3".

        Args:
            value: what was found.
            label: what it is called in errors, which start with it.

        Raises:
            ValueError: a value of another kind, or none of the choices.
        """
        if value is None and self.optional:
            return None
        if not self.many:
            return self._read_one(value, label)
        if isinstance(value, str):
            value = re.split("[,/]", value)
        if not isinstance(value, Sequence):
            value = [value]
        return [self._read_one(entry, label) for entry in value]

    def _read_one(self, value: Any, label: str) -> Any:
        if isinstance(value, str) and self.kind in (bool, int):
            value = _from_text(value.strip(), self.kind)
        found = coerce(value, self.kind, label)
        if self.choices and found not in self.choices:
            raise ValueError(f"{label}: unknown value {found!r}; {suggestion(found, self.choices)}")
        self.check(found, label)
        return found

    def check(self, number: Any, label: str) -> None:
        """Refuse a number outside the range.

        Args:
            number: one of the option's kind.
            label: what it is called.

        Raises:
            ValueError: says what is accepted.
        """
        Range(self.least, self.most).check(label, number)


def options_of(build: Callable[..., Any]) -> Mapping[str, Option]:
    """Return what a function takes, by name, in the order of its signature."""
    hints = typing.get_type_hints(build, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(build).parameters.items():
        hint, given = hints.get(name, str), Option()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            given = next((extra for extra in extras if isinstance(extra, Option)), given)
        kind, many, optional = _shape(hint)
        found[name] = replace(given, default=parameter.default, kind=kind, many=many, optional=optional)
    return found


def _shape(hint: Any) -> tuple[type, bool, bool]:
    """Return the plain kind that an annotation names, whether it takes several, and whether it takes None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = typing.get_args(hint)
        # Of "a number, or an array of them" people type the number.
        kind, many, _ = _shape(next(part for part in parts if part is not type(None)))
        return kind, many, type(None) in parts
    origin = typing.get_origin(hint)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return typing.get_args(hint)[0], True, False
    return (hint if hint in _KINDS else str), False, False


def _from_text(text: str, kind: type) -> Any:
    """Return what a text stands for; the text itself where it is not of the kind, which `coerce` then refuses."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return int(text)
    except ValueError:
        return text
