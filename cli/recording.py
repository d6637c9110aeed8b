"""How a command keeps its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


class Keeper:
    """Takes a command's record; where it is written to is `folder`, None for nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.record: dict[str, Any] = {}
        self.printed: Any = self.record

    def __call__(self, record: dict[str, Any], printed: Any = None) -> None:
        """Take the record, and what --json prints of it: all unless given."""
        self.record = record
        self.printed = record if printed is None else printed


@contextmanager
def recorded(command: str, config: dict[str, Any], out: Path | None, as_json: bool) -> Iterator[Keeper]:
    """Give a function that keeps a record: in a run folder with figures, and on standard output as JSON.

    The folder is opened before the work, so that one that cannot be written costs none, and stands when the block
    ends.
    """
    from mnpo.sim.records import as_json as json_text
    from mnpo.sim.records import default_folder, run_folder

    if as_json and out is None:
        keeper = Keeper(None)
        yield keeper
        typer.echo(json_text(keeper.printed), nl=False)
        return
    folder = out if out is not None else default_folder(command)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in config.items()}
    keeper = Keeper(folder)
    with run_folder(folder, {"kind": command, "options": options}) as partial:
        yield keeper
        from mnpo.sim.plots import draw

        # What was left to defaults is in the record by now.
        for key, value in keeper.record.get("resolved", {}).items():
            if options.get(key) is None:
                options[key] = value
        (partial / "results.json").write_text(json_text(keeper.record), encoding="utf-8")
        draw(keeper.record, partial)
    # The results stand before anything is printed: a reader that goes away loses nothing.
    if as_json:
        typer.echo(json_text(keeper.printed), nl=False)
