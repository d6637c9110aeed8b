"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; None where there is none, or none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name that becomes `path` when the block ends well, and vanishes if it does not.

    A symbolic link stays, and what it points to is replaced. A device or a pipe is written to as it is: the path
    yielded is its own.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(**_beside(path, "partial"))
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of `path` when the block ends well, and vanishes if not.

    Args:
        path: of the folder.
        keep: whether one that stands there by then stays: whoever reads it need not lose it.

    Raises:
        OSError: the folder cannot be made or replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(**_beside(path, "partial")))
    try:
        yield partial
        follow_umask(partial)
        if path.exists() and keep:
            shutil.rmtree(partial)
        elif path.exists():
            _replace_folder(partial, path)
        else:
            os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def clear_partials(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder."""
    for left in [*folder.glob(".*.partial"), *folder.glob(".*.old")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def follow_umask(folder: Path) -> None:
    """Give a folder, and all in it, the permissions of new files: libraries leave some for their owner only."""
    mask = umask()
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o777 | (0o777 if path.is_dir() else 0o666) & ~mask)


def umask() -> int:
    """Return the permissions that new files lack; temporary files are made for their owner only."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _replace_folder(new: Path, path: Path) -> None:
    """Put a folder in the place of another, which is moved away first: a full folder cannot be renamed over."""
    old = Path(tempfile.mkdtemp(**_beside(path, "old")))
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old)


def _beside(path: Path, suffix: str) -> dict[str, Any]:
    """Say how a temporary name is made: in the same folder, since only there renaming is one step."""
    return {"dir": path.parent, "prefix": f".{path.name}.", "suffix": f".{suffix}"}
