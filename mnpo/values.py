"""Values as people type them, or as YAML reads them, made into what a key or an option takes."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Whole numbers from here on are more than an array, a file or a seed can hold.
_TOO_LARGE = 2**63


def shown(value: Any, most: int = 60) -> str:
    """Return a value as it is shown in an error: in one line, and cut where it is long."""
    if isinstance(value, dict | list):
        return (
            f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
            if value
            else repr(value)
        )
    text = repr(value if not isinstance(value, str) else value[: most + 1])
    return text if len(text) <= most + 2 else f"{text[:most]}…"


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
            return value
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if kind is float and not isinstance(value, bool):
            number = value if isinstance(value, int | float) else _number(value)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{key} must be a finite number; found {value}")
            if number is not None:
                return number
        if kind is str and isinstance(value, str):
            return value
    if list in kinds and isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if str in kinds and isinstance(value, bool | int | float):
        return "no" if value is False else "yes" if value is True else str(value)
    names = {dict: "keys and values", list: "a list", bool: "true or false", int: "a whole number",
             float: "a number", str: "a text", type(None): "null"}  # fmt: skip
    wanted = " or ".join(dict.fromkeys(names.get(kind, "a text") for kind in kinds))
    raise ValueError(f"{key} must be {wanted}; found {value!r}")


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
