"""Bad input as data: cases in JSON lines, run in this process as a user's command would be.

A case has `kind` (the class that it is of), `command` (arguments of `mnpo`), `files` (path -> content) and `says`, a
word that the one line must hold. A content is a text, or one key with what it is made of: `hex`, `base64`, `lines` (a
list), `repeat` ([text, times]), `gz` (a content, compressed), `json` (plain data), `npy` (nested lists), `link` (where
a symbolic link leads), `folder` (an empty one: true), `pipe` (one that nobody writes to: true), `model` (a folder with
the small model of the tests in which some files have another content, or none: null). There `merge` is the JSON that
stands there with other keys, and `cut` its first bytes. What a command may leave is in the folder `out`.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnpo.cli.main import main
from mnpo.common import progress

CORPUS = Path(__file__).parents[1] / "hostile"
#: Seconds after which a command counts as hung.
HANGS = 10


def cases(name: str) -> list[Any]:
    """Return the cases of `tests/hostile/<name>.jsonl` as parameters of a test."""
    lines = (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.strip()]
    return [
        pytest.param(case, id=f"{number}-{case['kind']}".replace(" ", "-"))
        for number, case in enumerate(found, start=1)
    ]


def content(given: Any, stands: Path | None = None) -> bytes:
    """Return what a file of a case holds, in place of one that stands there."""
    if isinstance(given, str):
        return given.encode("utf-8", "surrogatepass")
    ((how, value),) = given.items()
    match how:
        case "hex":
            return bytes.fromhex(value)
        case "base64":
            return base64.b64decode(value)
        case "lines":
            return "".join(f"{line}\n" for line in value).encode("utf-8", "surrogatepass")
        case "repeat":
            return str(value[0]).encode() * int(value[1])
        case "gz":
            return gzip.compress(content(value), mtime=0)
        case "json":
            return json.dumps(value).encode()
        case "merge":
            assert stands is not None
            return json.dumps(json.loads(stands.read_text()) | value).encode()
        case "cut":
            assert stands is not None
            return stands.read_bytes()[:value]
        case "npy":
            sink = io.BytesIO()
            np.save(sink, np.array(value))
            return sink.getvalue()
    raise ValueError(f"unknown content {how}")


def write(folder: Path, files: dict[str, Any], model: Path | None = None) -> None:
    """Put the files of a case into a folder; `model` is the small model's."""
    for name, given in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(given, dict) and "link" in given:
            path.symlink_to(given["link"])
        elif isinstance(given, dict) and "folder" in given:
            path.mkdir()
        elif isinstance(given, dict) and "pipe" in given:
            os.mkfifo(path)
        elif isinstance(given, dict) and "model" in given:
            assert model is not None
            changed_model(path, model, given["model"])
        else:
            path.write_bytes(content(given))


def changed_model(folder: Path, model: Path, changes: dict[str, Any]) -> None:
    """Make a folder with a model of which some files are changed; the others are links to its own."""
    folder.mkdir()
    for file in model.iterdir():
        if file.name not in (*changes, "checksums.json"):  # changed on purpose
            (folder / file.name).symlink_to(file)
    for name, given in changes.items():
        if given is not None:
            (folder / name).write_bytes(content(given, model / name))


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail where the block takes longer."""

    def ring(*_: object) -> None:
        raise AssertionError(f"hangs: nothing within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return every file of a folder with its content, and every folder; `out` is the command's own."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).parts[0] != "out"
    }


def refused(
    case: dict[str, Any], folder: Path, monkeypatch: Any, capsys: Any, model: Path | None = None
) -> None:
    """Run a case and assert that it is refused: one line that says why, status 2, nothing left, in seconds."""
    write(folder, case.get("files", {}), model)
    before = tree(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(progress, "SILENT", 2.0 * HANGS)  # a busy machine is no long command
    monkeypatch.setattr(sys, "argv", ["mnpo", *map(str, case["command"])])
    capsys.readouterr()
    with within(HANGS), pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "bug in mnpo" not in err
    assert stop.value.code == 2, err or out[-500:]
    assert out == ""
    assert err.startswith("mnpo: ")
    assert err.count("\n") == 1
    assert case["says"] in err
    assert tree(folder) == before
