"""Writing a configuration as a page that a person can read and `load` reads back."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from mnpo.llm.config.keys import Section
from mnpo.llm.config.whole import SECTIONS, Config

#: Where comments beside values begin, and how long lines become.
_COLUMN, _WIDTH = 46, 118


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper, which says of a Python object what it is: it cannot be read back."""


_Dumper.add_multi_representer(
    object,
    lambda dumper, value: dumper.represent_str(f"<{getattr(value, '__qualname__', type(value).__name__)}>"),
)


def to_yaml(config: Config) -> str:
    """Return a configuration as YAML, each section and each key with its comment."""
    parts = []
    for name, kind in SECTIONS.items():
        section = getattr(config, name)
        title = (kind.__doc__ or "").strip().split("\n\n")
        about = [" ".join(part.split()) for part in title]
        lines = [f"# {line}" for part in about for line in textwrap.wrap(part, _WIDTH - 2)]
        values = section.as_dict()
        if not values:
            parts.append("\n".join([*lines, f"{name}: {{}}"]))
            continue
        known = kind.known_keys() if issubclass(kind, Section) else {}
        lines.append(f"{name}:")
        for key, value in values.items():
            lines += _entry(key, value, known[key].about if key in known else "")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def check_plain(config: Config) -> None:
    """Refuse a configuration that other processes could not read.

    Raises:
        ValueError: one that holds a Python object, such as a judge from a notebook.
    """
    if any(_objects(value) for values in config.as_dict().values() for value in values.values()):
        raise ValueError(
            "several processes need a judge that stands in a file: oracle={kind: python, file: .., function: ..}"
        )


def _objects(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_objects, value.values() if isinstance(value, dict) else value))
    return value is not None and not isinstance(value, str | int | float)


def _entry(key: str, value: Any, about: str) -> list[str]:
    """One key: its comment beside it where there is room, above it where there is none."""
    dumped = yaml.dump(
        {key: value},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=_WIDTH,
        default_flow_style=False,
    )
    written = [f"  {line}" for line in dumped.rstrip("\n").split("\n")]
    if not about:
        return written
    start = max(_COLUMN, len(written[0]) + 2)
    if len(written) == 1 and start + 2 + len(about) <= _WIDTH:
        return [f"{written[0]:<{start}}# {about}"]
    return [*(f"  # {line}" for line in textwrap.wrap(about, _WIDTH - 4)), *written]
