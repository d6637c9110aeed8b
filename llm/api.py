"""Runs from Python: the loop, or one of its stages, with the configuration of the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mnpo.common.ownership import owned
from mnpo.common.progress import Progress
from mnpo.llm.checks import check_run, check_stage
from mnpo.llm.config import Config, Draft, load
from mnpo.llm.oracles.base import TextOracle
from mnpo.llm.records import Run
from mnpo.llm.running import run_loop
from mnpo.llm.runtime.progress import progress as shown_progress
from mnpo.llm.stages import running

#: What a configuration can be given as.
Source = Config | str | Path | Mapping[str, Any]
#: A judge of one's own: a function of (prompt, response) or (prompt, first, second), or an oracle.
Judge = Callable[..., Any] | TextOracle | type[TextOracle]


def train(
    config: Source = "tiny",
    *overrides: str,
    oracle: Judge | None = None,
    processes: int | None = None,
    accelerate: str | None = None,
    progress: Progress | bool = False,
    wait: bool = False,
) -> Run:
    """Run the iterated loop, as `mnpo llm train` does, and return its record.

    Args:
        config: a preset's name, a YAML file, keys and values (with or without their sections), or a `Config`.
        overrides: `key=value` texts on top.
        oracle: who judges, instead of the configuration's `oracle`.
        processes: how many processes each stage has; one for each GPU, or one, unless given.
        accelerate: how they share the work: single, ddp, zero2, zero3, fsdp, or accelerate's own file.
        progress: whether progress is shown, or what is called as the work goes on.
        wait: whether to wait while somebody else works in the output folder.

    Raises:
        ValueError: bad input, or an output folder that holds another run or is in use; what is done is kept.
    """
    whole = as_config(config, *overrides, oracle=oracle)
    check_run(whole)
    with _working(whole, progress, wait) as report:
        return run_loop(whole, processes=processes, accelerate=accelerate, progress=report)


def run_stage(
    name: str,
    config: Source,
    *overrides: str,
    oracle: Judge | None = None,
    processes: int | None = None,
    accelerate: str | None = None,
    progress: Progress | bool = False,
    wait: bool = False,
) -> Any:
    """Run one stage, as `mnpo llm NAME` does, and return its record (`mnpo.llm.stages.records`).

    Args:
        name: diagnose, sample, annotate, score, fit, evaluate, fit-oracle or test-oracle.
        config, overrides, oracle, processes, accelerate, progress, wait: as for `train`.

    Raises:
        ValueError: bad input, or an output folder that is in use; what was done is kept.
    """
    whole = as_config(config, *overrides, oracle=oracle)
    check_stage(name, whole)
    with _working(whole, progress, wait) as report:
        return running.run_stage(name, whole, processes=processes, accelerate=accelerate, progress=report)


def as_config(config: Source, *overrides: str, oracle: Judge | None = None) -> Config:
    """Return a configuration, resolved, of whatever it is given as.

    Raises:
        ValueError: an unknown preset, file or key, or a bad value.
    """
    if isinstance(config, str | Path):
        draft = Draft(load(str(config), overrides))
    else:
        draft = Draft(config)
        for text in overrides:
            draft.read(text)
    if oracle is not None:
        draft.sections["judging"]["oracle"] = {"kind": "python", "function": oracle}
    return draft.resolved()


@contextmanager
def _working(config: Config, progress: Progress | bool, wait: bool) -> Iterator[Progress | None]:
    """Own the output folder, where several processes work together the first of them alone."""
    first = os.environ.get("RANK", "0") == "0"
    with owned(config.folders.home, wait=wait) if first else nullcontext():
        if not isinstance(progress, bool):
            yield progress
            return
        with shown_progress(progress) as report:
            yield report if progress else None
