"""Running a stage in this process or in several."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from mnpo.common.progress import Progress
from mnpo.llm.config import Config, to_yaml
from mnpo.llm.config.writing import check_plain
from mnpo.llm.runtime.launch import plan
from mnpo.llm.runtime.workers import WorkerFailed, Workers
from mnpo.llm.stages.registry import keep_config, stage_named

#: What workers run.
MODULE = "mnpo.llm.stages"

#: Runs a stage by its name and returns its record.
RunStage = Callable[[str, Config], Any]


def run_stage(
    name: str,
    config: Config,
    *,
    processes: int | None = None,
    accelerate: str | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Any:
    """Run one stage and return its record.

    Args:
        name: of the stage, one of `mnpo.llm.stages.registry.STAGES`.
        config: the run; everything is written below its `output_dir`.
        processes: how many processes; one for each GPU, or one, unless given.
        accelerate: how they share the work: single, ddp, zero2, zero3, fsdp, or accelerate's own file.
        progress: called as the work goes on, where this process does it.
        workers: those of a run, who do it where it is shared; some for this stage alone unless given.

    Raises:
        ValueError: bad input; what was done is kept.
        WorkerFailed: a process that failed otherwise.
    """
    stage = stage_named(name)
    how = plan(processes, accelerate, use_cpu=config.compute.use_cpu)
    config = config.having(training=how.arguments)
    if how.here:
        record: Any = stage.run(config, progress)
    else:
        check_plain(config)
        with nullcontext(workers) if workers is not None else Workers(MODULE) as doing:
            doing.run(how, name, to_yaml(config))
        record = stage.finished(config)
        if record is None:
            raise WorkerFailed(f"stage {name} left no record in {config.folders.home}")
    if name == "fit" and os.environ.get("RANK", "0") == "0":
        keep_config(config)
    return record
