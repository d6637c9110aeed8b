"""What a folder holds, and whether work may go on there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mnpo.common.files import read_json


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
    there = read_json(folder / "manifest.json")
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
