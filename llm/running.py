"""The loop as the command line and notebooks run it."""

from __future__ import annotations

from typing import Any

from mnpo.common.progress import Progress
from mnpo.llm.config import Config
from mnpo.llm.config.writing import check_plain
from mnpo.llm.loop import train
from mnpo.llm.records import Run
from mnpo.llm.runtime.launch import plan
from mnpo.llm.runtime.workers import Workers
from mnpo.llm.stages.running import MODULE, run_stage


def run_loop(
    config: Config,
    *,
    processes: int | None = None,
    accelerate: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run the loop of a configuration and return its record.

    Args:
        config: the run; everything is written below its `output_dir`.
        processes: how many processes each stage has; one for each GPU, or one, unless given.
        accelerate: how they share the work: single, ddp, zero2, zero3, fsdp, or accelerate's own file.
        progress: called as the work goes on.

    Raises:
        ValueError: bad input, or an output folder that holds another run; what is done is kept.
        WorkerFailed: a process that failed otherwise.
    """
    home = config.folders.home
    how = plan(processes, accelerate, use_cpu=config.compute.use_cpu)
    if not how.here:
        check_plain(config)

    def stage(name: str, one: Config) -> Any:
        part = f"{one.folders.home.relative_to(home)} "

        def named(what: str, done: int, total: int) -> None:
            if progress is not None:
                progress(part + what, done, total)

        return run_stage(
            name, one, processes=processes, accelerate=accelerate, progress=named, workers=workers
        )

    options = {"processes": processes, "accelerate": accelerate}
    options = {option: value for option, value in options.items() if value is not None}
    with Workers(MODULE) as workers:
        if not how.here and not _whole(config):
            workers.start(how)
        return train(config, stage, progress, options)


def _whole(config: Config) -> bool:
    """Tell whether it looks as if there were nothing left to do."""
    done = Run.read(config.folders.home)
    return done is not None and len(done.iterations) >= config.loop.iterations * len(done.players)
