"""How work shows where it is: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: Called with what is being done ("stage: details"), how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]

#: Seconds between two lines where there is no terminal.
EVERY = 15.0
#: Seconds after which a command that has said nothing says that it is at work.
SILENT = 5.0


@dataclass
class _Board:
    """What `progress` was told last, for `pulse` to repeat."""

    told: str = ""
    #: Whether bars are on the terminal, which say it themselves.
    bars: bool = False


_BOARD = _Board()


@contextmanager
def progress(
    shown: bool = True, *, lines: bool = False, group: Callable[[str], str] = lambda what: ""
) -> Iterator[Progress]:
    """Give a function that is told what is being done, how much of it is done, and of how much.

    All is shown on standard error.

    Args:
        shown: whether anything is shown.
        lines: whether a line is printed now and then where there is no terminal.
        group: what is being done -> the bar that shows it; one for everything unless given.
    """
    if shown and sys.stderr.isatty():
        with _bars(group) as report:
            yield report
    elif shown and lines:
        yield _Lines(group)
    elif shown:
        _BOARD.told = ""
        yield _Told()
    else:
        yield lambda what, done, total: None


@contextmanager
def pulse(what: str) -> Iterator[None]:
    """Say on standard error that work goes on, first after `SILENT` seconds, with what `progress` was told last.

    Args:
        what: is at work.
    """
    ended = threading.Event()

    def speak() -> None:
        began, wait = time.monotonic(), SILENT
        while not ended.wait(wait):
            wait = EVERY
            if not _BOARD.bars:
                told = f" ({_BOARD.told})" if _BOARD.told else ""
                print(
                    f"{what}: at work for {time.monotonic() - began:.0f} s{told}", file=sys.stderr, flush=True
                )

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _bars(group: Callable[[str], str]) -> Iterator[Progress]:
    """Give a function that moves one bar a group on the terminal; the bars go when the block ends."""
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}", markup=False), bars.BarColumn(), bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(), bars.TimeRemainingColumn(),
    )  # fmt: skip
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            name = group(what)
            if name not in tasks:
                tasks[name] = shown.add_task(what, total=total)
            shown.update(tasks[name], description=what, completed=done, total=total)

        _BOARD.bars = True
        try:
            yield report
        finally:
            _BOARD.bars = False


class _Lines:
    """Prints a line with the time left, at most one in `EVERY` seconds and one when something is finished."""

    def __init__(self, group: Callable[[str], str]) -> None:
        self._group = group
        self._start: dict[str, tuple[float, int]] = {}
        self._last = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        _BOARD.told = f"{what}: {done} of {total}"
        now = time.monotonic()
        began, before = self._start.setdefault(self._group(what), (now, done))
        if done < total and now - self._last < EVERY:
            return
        self._last = now
        left = (now - began) * (total - done) / max(done - before, 1)
        rest = f", {left:.0f} s left" if done - before > 0 and done < total else ""
        print(f"{what}: {done} of {total}{rest}", file=sys.stderr, flush=True)


class _Told:
    """Keeps what was told last, with the time left."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        left = (time.monotonic() - self._began) * (total - done) / max(done, 1)
        rest = f", about {left:.0f} s left" if 0 < done < total else ""
        _BOARD.told = f"{what}: {done} of {total}{rest}"
