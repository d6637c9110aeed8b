"""Run folders and result files, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mnpo.common.files import whole_file, whole_folder

_PACKAGES = ("mnpo", "numpy", "scipy", "cvxpy", "clarabel", "matplotlib", "preflibtools", "prefsampling")


def as_json(content: Any) -> str:
    """Return JSON text; numbers that are not finite become null, as JSON has none."""
    return json.dumps(_with_nulls(content), indent=2, allow_nan=False) + "\n"


def write_file(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; a link is followed, a device or a pipe is written to.

    Raises:
        ValueError: the folder does not exist or cannot be written.
    """
    check_file(path)
    try:
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None


def check_file(path: Path) -> None:
    """Refuse a result file that could not be written, before any work is done for it.

    Raises:
        ValueError: as `write_file`.
    """
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: no permission in {path.parent}")


def default_folder(name: str) -> Path:
    """Return runs/<name>-<date>-<time>, with a number added if it exists."""
    base = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


@contextmanager
def run_folder(folder: Path, config: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well, and vanishes if it does not.

    `config.json` with the resolved configuration, the command and the versions is put into it at the end.

    Args:
        folder: where the run is to stand; must not exist, or be empty.
        config: the resolved configuration; may be completed until the block ends.

    Raises:
        ValueError: the folder holds something already, or cannot be made.
    """
    if folder.exists() and folder.samefile(Path.cwd()):
        raise ValueError(
            f"cannot write {folder}: it is the folder that the command runs in; name another --out"
        )
    # A link to an empty folder stays: what it leads to is replaced. One that leads nowhere is no place.
    if folder.is_symlink() and not folder.exists():
        raise ValueError(f"cannot write {folder}: it is a link that leads nowhere")
    folder = Path(os.path.realpath(folder))
    missing = [parent for parent in (folder.parent, *folder.parent.parents) if not parent.exists()]
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another --out")
    try:
        with ExitStack() as stack:
            try:
                partial = stack.enter_context(whole_folder(folder))
            except OSError as error:
                raise ValueError(f"cannot write {folder}: {error.strerror}") from None
            yield partial
            record = {"command": ["mnpo", *sys.argv[1:]], **config, "versions": versions()}
            (partial / "config.json").write_text(as_json(record), encoding="utf-8")
            if folder.exists():
                folder.rmdir()  # refused where somebody else has written to it meanwhile
    except BaseException:
        for parent in missing:  # innermost first; whoever put something there keeps it
            with suppress(OSError):
                parent.rmdir()
        raise


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _with_nulls(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _with_nulls(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_with_nulls(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
