"""The stages of a run by name: what the command line, launched processes, notebooks and the loop call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from mnpo.choices import choose
from mnpo.common.files import whole_file
from mnpo.common.progress import Progress
from mnpo.common.records import FileRecord
from mnpo.llm.config import Config, to_yaml
from mnpo.llm.stages import records


@dataclass(frozen=True)
class Stage:
    """A stage: one function in a file of its own. Its parameters are the sections that it depends on.

    Attributes:
        name: of the function, and of its file.
        record: what it leaves in the output folder.
    """

    name: str
    record: type[FileRecord]

    @cached_property
    def function(self) -> Callable[..., FileRecord]:
        """The stage itself, imported when it is first wanted."""
        name = self.name.replace("-", "_")
        found: Callable[..., FileRecord] = getattr(import_module(f"mnpo.llm.stages.{name}"), name)
        return found

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The sections that it depends on."""
        return tuple(name for name in inspect.signature(self.function).parameters if name != "progress")

    def run(self, config: Config, progress: Progress | None = None) -> FileRecord:
        """Run the stage in this process.

        Raises:
            ValueError: bad input.
        """
        return self.function(**{name: getattr(config, name) for name in self.reads}, progress=progress)

    def finished(self, config: Config) -> FileRecord | None:
        """Return the record that the stage left in the output folder, if there is one."""
        return self.record.read(config.folders.home)


STAGES = {
    name: Stage(name, record)
    for name, record in {
        "diagnose": records.Diagnosed,
        "sample": records.Samples,
        "annotate": records.Annotations,
        "score": records.Scores,
        "fit": records.Fitted,
        "evaluate": records.Evaluated,
        "fit-oracle": records.FittedOracle,
        "test-oracle": records.OracleTested,
        "tournament": records.TournamentHeld,
        "benchmark": records.Benchmarked,
    }.items()
}


def stage_named(name: str) -> Stage:
    """Look a stage up.

    Raises:
        ValueError: an unknown name, with the nearest one.
    """
    return choose(name, STAGES, "stage")


def keep_config(config: Config) -> None:
    """Leave a configuration in its output folder, for the commands of its stages."""
    with whole_file(config.folders.home / "config.yaml") as partial:
        partial.write_text(to_yaml(config), encoding="utf-8")


def run_here(name: str, config: Config, progress: Progress | None = None) -> Any:
    """Run a stage by its name in this process, and return its record."""
    return stage_named(name).run(config, progress)
