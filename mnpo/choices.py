"""Names that a user chooses from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def choose(name: str, options: Mapping[str, Value], kind: str) -> Value:
    """Look a name up.

    Raises:
        ValueError: an unknown name, with the nearest one, or with all of them if none is near.
    """
    if name in options:
        return options[name]
    raise ValueError(f"unknown {kind} {name!r}; {suggestion(name, options)}")


def suggestion(name: str, options: Iterable[str]) -> str:
    """Say which known name is nearest, or list them all."""
    names = sorted(options)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"
