"""Values as people type them, or as YAML reads them, made into what a key or an option takes."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Whole numbers from here on are more than an array, a file or a seed can hold.
_TOO_LARGE = 2**63


@dataclass(frozen=True)
class Range:
    """The numbers that something takes.

    Attributes:
        least, most: these included.
        above: this one not included.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def check(self, name: str, value: float) -> None:
        """Refuse a number out of range; NaN is out of every range.

        Raises:
            ValueError: names what it is for, what was found and what is accepted.
        """
        if self.above is not None and not value > self.above:
            upper = "" if self.most is None else f" and at most {self.most:.15g}"
            raise ValueError(f"{name} must be above {self.above:.15g}{upper}; found {value}")
        if self.least is not None and not value >= self.least:
            raise ValueError(f"{name} must be at least {self.least:.15g}; found {value}")
        if self.most is not None and not value <= self.most:
            raise ValueError(f"{name} must be at most {self.most:.15g}; found {value}")


def shown(value: Any, most: int = 60) -> str:
    """Return a value as it is shown in an error: in one line, and cut where it is long."""
    if isinstance(value, dict | list) and value:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    try:
        text = repr(value[: most + 1] if isinstance(value, str) else value)
    except (RecursionError, ValueError):  # what holds itself, and whole numbers of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= most + 2 else f"{text[:most]}…"


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names as an error lists them: in one line, the first of many."""
    texts = [" ".join(name.split())[:60] for name in names[:most]]
    return ", ".join(texts) + ", .." * (len(names) > most) or "none"


def coerce(value: Any, hint: Any, key: str) -> Any:
    """Return a value as what a key takes: YAML reads 5e-7 as text, and an integer is a number too.

    Args:
        value: what was found.
        hint: the key's annotation, or the plain kinds that it takes.
        key: what it is called.

    Raises:
        ValueError: a value of another kind, or a number that is not finite or too large.
    """
    kinds = list(hint) if isinstance(hint, tuple) else list(_kinds(hint))
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise ValueError(f"{key} must be below 2^63; found a number of {value.bit_length()} bits")
    for kind in kinds:
        if kind in (dict, list) and isinstance(value, kind):
            return _inner(value, hint, key)
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if kind is float and not isinstance(value, bool):
            number = value if isinstance(value, int | float) else _number(value)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{key} must be a finite number; found {str(value)[:60]}")
            if number is not None:
                return number
        if kind is str and isinstance(value, str):
            return value
    if list in kinds and isinstance(value, str):
        return _inner([part.strip() for part in value.split(",")], hint, key)
    if str in kinds and isinstance(value, bool | int | float):
        return "no" if value is False else "yes" if value is True else str(value)
    names = {dict: "keys and values", list: "a list", bool: "true or false", int: "a whole number",
             float: "a number", str: "a text", type(None): "null"}  # fmt: skip
    wanted = " or ".join(dict.fromkeys(names.get(kind, "a text") for kind in kinds))
    raise ValueError(f"{key} must be {wanted}; found {shown(value)}")


def _inner(value: Any, hint: Any, key: str) -> Any:
    """Return a list or a dictionary with what it holds as its annotation says."""
    parts = (hint, *typing.get_args(hint)) if not isinstance(hint, tuple) else ()
    held = next((typing.get_args(part) for part in parts if typing.get_origin(part) is type(value)), ())
    if isinstance(value, list):
        return [_one(inner, held[0] if held else Any, f"{key}[{place}]") for place, inner in enumerate(value)]
    names, inners = held or (Any, Any)
    return {
        _one(name, names, f"a key of {key}"): _one(one, inners, f"{key}.{name}")
        for name, one in value.items()
    }


def _one(value: Any, hint: Any, key: str) -> Any:
    """Return what a list or a dictionary holds; where anything may be, its numbers must be finite."""
    if hint is not Any:
        return coerce(value, hint, key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return coerce(value, (int, float), key)
    return _inner(value, Any, key) if type(value) in (list, dict) else value


def _kinds(hint: Any) -> Iterator[Any]:
    """Yield the plain kinds of value that an annotation admits."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from _kinds(part)
    elif origin is typing.Literal:
        yield from (type(value) for value in typing.get_args(hint))
    elif origin in (list, tuple) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        yield list
    elif origin is dict or hint is Mapping:
        yield dict
    elif isinstance(hint, type) and hint in (bool, int, float, str, dict, list, type(None)):
        yield hint
    else:
        yield str


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None
