"""One bit of what a run keeps is flipped, and the run goes on: the same result, or one line; no crash."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mnpo.common.digests import file_digest
from mnpo.common.seals import read_sealed
from mnpo.llm.data.tables import content_digest, open_table

#: Seconds after which a run counts as hung.
HANGS = 120
#: What an iteration leaves that others read: tables.
TABLES = ("prompts-and-responses", "annotations", "preferences", "scored/train", "held-out")


def kept(folder: Path) -> list[Path]:
    """Return the files that a run keeps, but for those that are there to be looked at and empty ones."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink()]
    return [file for file in files if file.suffix not in (".png", ".svg") and file.stat().st_size]


def kind_of(folder: Path, file: Path) -> str:
    """Return what a file is of: the first folder in which it is, below an iteration, and its name without numbers."""
    parts = [part for part in file.relative_to(folder).parts if not part.startswith("iteration-")]
    where = parts[0] if len(parts) > 1 else "."
    name = "store" if file.suffix == ".blocks" else file.name
    return f"{where}/{name}"


def places(folder: Path, count: int, rng: np.random.Generator) -> Iterator[tuple[Path, int, int]]:
    """Yield files with a byte and a bit, every kind of file as often as any other."""
    by_kind: dict[str, list[Path]] = {}
    for file in kept(folder):
        by_kind.setdefault(kind_of(folder, file), []).append(file)
    kinds = sorted(by_kind)
    for number in range(count):
        some = by_kind[kinds[number % len(kinds)]]
        file = some[rng.integers(len(some))]
        yield file, int(rng.integers(file.stat().st_size)), int(rng.integers(8))


def with_bit(content: bytes, byte: int, bit: int) -> bytes:
    """Return a content with one bit flipped."""
    changed = bytearray(content)
    changed[byte] ^= 1 << bit
    return bytes(changed)


def outcome(folder: Path) -> dict[str, Any]:
    """Return what must be the same however a run came about: weights, tables, and the numbers of its evaluations."""
    found: dict[str, Any] = {}
    for home in sorted(folder.glob("iteration-*")):
        for file in sorted((home / "model").iterdir()):
            if file.name != "checksums.json":
                found[f"{home.name}/model/{file.name}"] = file_digest(file)
        for table in TABLES:
            found[f"{home.name}/{table}"] = content_digest(open_table(home / table))
        evaluated = read_sealed(home / "evaluation.json") or {}
        found[home.name] = {key: evaluated.get(key) for key in ("win_rate", "length", "ended", "kl", "gap")}
    rows = (read_sealed(folder / "results.json") or {}).get("iterations", [])
    found["rows"] = [
        {key: row[key] for key in ("win_rate", "loss", "kl", "gap") if key in row} for row in rows
    ]
    return found


def oracle_outcome(folder: Path) -> dict[str, Any]:
    """Return what must be the same of a fitted oracle: its weights and its card."""
    files = sorted((folder / "model").iterdir())
    return {file.name: file_digest(file) for file in files if file.name != "checksums.json"}


def goes_on(run: Callable[[Path], Any], folder: Path, look: Callable[[Path], Any]) -> tuple[str, Any]:
    """Run in a process of its own that may crash; return how it ended, and with what.

    Returns:
        "done" and the outcome, "refused" and the line, or "crashed" and the exit status or the error.
    """
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe(duplex=False)
    process = forking.Process(target=_told, args=(run, folder, look, theirs))
    process.start()
    theirs.close()
    try:
        found: tuple[str, Any] = ours.recv() if ours.poll(HANGS) else ("crashed", "hangs")
    except EOFError:
        process.join()
        found = "crashed", process.exitcode
    process.kill()
    process.join()
    return found


def _told(run: Callable[[Path], Any], folder: Path, look: Callable[[Path], Any], line: Any) -> None:
    try:
        run(folder)
        line.send(("done", look(folder)))
    except (ValueError, OSError) as error:
        line.send(("refused", str(error)))
    except BaseException as error:
        line.send(("crashed", repr(error)))


def try_flips(
    run: Callable[[Path], Any],
    look: Callable[[Path], Any],
    before: Path,
    work: Path,
    wanted: Any,
    *,
    count: int,
    seed: int,
) -> Counter[str]:
    """Flip one bit after the other, each in a copy of a folder, let the work in it go on, and look at what comes out.

    Returns:
        How often it ended how, by kind of file.
    """
    ends: Counter[str] = Counter()
    for file, byte, bit in places(before, count, np.random.default_rng(seed)):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(before, work)
        (work / file.relative_to(before)).write_bytes(with_bit(file.read_bytes(), byte, bit))
        how, found = goes_on(run, work, look)
        where = f"{file.relative_to(before)}, byte {byte}, bit {bit}: {found}"
        assert how != "crashed", where
        assert how == "refused" or found == wanted, where
        ends[f"{how}: {kind_of(before, file)}"] += 1
    return ends
