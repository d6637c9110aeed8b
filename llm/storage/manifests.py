"""What a folder holds, and whether work may go on there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mnpo.common.seals import read_sealed, write_sealed

#: The file in a folder that says what it holds.
MANIFEST = "manifest.json"


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Say what a folder holds."""
    write_sealed(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what a folder says that it holds; None if it says nothing, or nothing that can be read."""
    return read_sealed(folder / MANIFEST)


def set_aside_if_unknown(folder: Path, *made: Path) -> None:
    """Rename a folder whose manifest is damaged, with what was made of it: nobody can tell what they are.

    Args:
        folder: of work that goes on.
        made: folders that are moved into it.
    """
    if (folder / MANIFEST).is_file() and read_manifest(folder) is None:
        for one in made:
            if one.is_dir():
                one.rename(folder / one.name)
        set_aside(folder)


def set_aside(folder: Path) -> None:
    """Rename a folder, so that the work in it begins anew and nothing is lost."""
    before = len(list(folder.parent.glob(f"{folder.name}-set-aside-*")))
    folder.rename(folder.parent / f"{folder.name}-set-aside-{before + 1}")


def check_same(
    folder: Path,
    manifest: Mapping[str, Mapping[str, Any]],
    what: str,
    where: Path,
    corrected: Callable[[str], bool] = lambda key: False,
) -> None:
    """Refuse to continue another run.

    Args:
        folder: with the `manifest.json` of what is there.
        manifest: of what is wanted; `config` holds keys, other parts digests of what they name.
        what: kind of run.
        where: what the run's folder is called.
        corrected: tells whether a key may differ, since nothing that is finished depends on it.

    Raises:
        ValueError: names the keys that differ.
    """
    there = read_manifest(folder)
    if there is None:
        return
    differing = []
    for part, values in manifest.items():
        known = there.get(part, {})
        for key in sorted({*known, *values}):
            if known.get(key) == values.get(key) or corrected(key):
                continue
            name = key.rpartition(".")[2]
            shown = f"{name}: {known.get(key)!r} there, {values.get(key)!r} here"
            differing.append(shown if part == "config" else f"the content of {part} {name}")
    if differing:
        raise ValueError(
            f"{where} holds a {what} with another configuration ({'; '.join(differing)}); "
            "choose another output_dir"
        )
