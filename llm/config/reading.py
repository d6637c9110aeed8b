"""Reading configurations: packaged presets, YAML files, and `key=value` on top."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from mnpo.choices import choose
from mnpo.common.given import user_path
from mnpo.llm.config.parsing import parse, parse_file
from mnpo.llm.config.whole import Config, Draft, Place

_OVERRIDE = re.compile(r"[A-Za-z_][\w.-]*=")


def is_override(text: str) -> bool:
    """Tell a `key=value` from the name of a configuration, whose path may hold an equals sign too."""
    if not _OVERRIDE.match(text):
        return False
    try:
        return not user_path(text).is_file()
    except (OSError, RuntimeError, ValueError):  # too long for a name, no such user, or a zero byte
        return True


def is_configuration(text: str) -> bool:
    """Tell a preset or a YAML file from other things that a command is given."""
    return Path(text).suffix in (".yaml", ".yml") or (text in presets() and not Path(text).exists())


def presets() -> dict[str, dict[str, Any]]:
    """Return the packaged configurations as they are written, with `purpose`, their first comment line."""
    folder = resources.files("mnpo.llm") / "presets"
    texts = {entry.name.removesuffix(".yaml"): entry.read_text("utf-8") for entry in folder.iterdir()}
    purposes = {name: text.splitlines()[0].lstrip("# ") for name, text in texts.items()}
    return {name: {"purpose": purposes[name], **parse(texts[name])} for name in sorted(texts)}


def load(source: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        source: a preset's name or a YAML file, which may name a preset to start from (`preset: ..`); None: "tiny".
        overrides: `section.key=value` or `key=value` texts, further dots for keys within keys; values are read as
            YAML.

    Raises:
        ValueError: no such preset or file, an unknown key (with the nearest one), or a value of the wrong kind.
    """
    with _named(source):
        draft = _read("tiny" if source is None else source)
    for text in overrides:
        draft.read(text)
    with _named(source):
        return draft.resolved()


@contextmanager
def _named(source: str | None) -> Iterator[None]:
    """Have errors name the file that they come from."""
    try:
        yield
    except ValueError as error:
        if source is None or source in str(error) or Path(source).suffix not in (".yaml", ".yml"):
            raise
        raise ValueError(f"{source}: {error}") from None


def given(source: str, overrides: Sequence[str] = ()) -> set[Place]:
    """Return the keys that a user's own file and words name, of a configuration that `load` has read; see there."""
    draft, path = Draft(), user_path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        draft = Draft({name: value for name, value in parse_file(path).items() if name != "preset"})
    for text in overrides:
        draft.read(text)
    return {Place(section, key) for section, values in draft.sections.items() for key in values}


def _read(source: str) -> Draft:
    path = user_path(source)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        choose(source, presets(), "preset (or .yaml file)")
        content = (resources.files("mnpo.llm") / "presets" / f"{source}.yaml").read_text("utf-8")
        return Draft(parse(content))
    if not path.exists():
        raise ValueError(f"no configuration {source}")
    raw = parse_file(path)
    if not isinstance(raw, dict) or not all(isinstance(name, str) for name in raw):
        raise ValueError(f"{source} must hold keys and values")
    base = raw.pop("preset", None)
    draft = Draft() if base is None else _read_preset(str(base))
    for section, values in Draft(raw).sections.items():
        draft.sections[section] |= values
    return draft


def _read_preset(name: str) -> Draft:
    choose(name, presets(), "preset")
    return _read(name)
