"""Run folders and result files, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("mnpo", "numpy", "scipy", "cvxpy", "clarabel", "matplotlib", "preflibtools", "prefsampling")


def as_json(content: Any) -> str:
    """Return JSON text; numbers that are not finite become null, as JSON has none."""
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def write_file(path: Path, text: str) -> None:
    """Write a text file to a temporary name beside it and rename it into place.

    Raises:
        ValueError: the folder does not exist or cannot be written.
    """
    check_file(path)
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
        path.write_text(text, encoding="utf-8")
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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
    folder = Path(folder)
    missing = [parent for parent in (folder.parent, *folder.parent.parents) if not parent.exists()]
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another --out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial"))
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror}") from None
    try:
        yield partial
        record = {"command": ["mnpo", *sys.argv[1:]], **config, "versions": versions()}
        (partial / "config.json").write_text(as_json(record), encoding="utf-8")
        partial.chmod(0o777 & ~_umask())
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
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


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
