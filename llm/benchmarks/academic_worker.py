"""Measuring models in one process or in several, which run `python -m mnpo.llm.benchmarks.academic_worker`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from mnpo.llm.benchmarks.academic_tasks import silent
from mnpo.llm.runtime.launch import plan
from mnpo.llm.runtime.processes import Group, join
from mnpo.llm.runtime.serving import serve
from mnpo.llm.runtime.workers import Workers

#: What workers run.
MODULE = "mnpo.llm.benchmarks.academic_worker"


class Doing:
    """Does jobs in this process or in several, which start with the first one."""

    def __init__(self, processes: int, device: str | None) -> None:
        self._processes, self._device = processes, device
        self._workers: Workers | None = None
        self._bench: Any = None

    def __enter__(self) -> Self:
        if self._processes > 1:
            self._workers = Workers(MODULE).__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._workers is not None:
            self._workers.__exit__(*raised)

    def do(self, job: dict[str, Any]) -> None:
        """Do a job.

        Raises:
            ValueError: a task or a model that cannot be loaded.
            WorkerFailed: a process that failed otherwise.
        """
        if self._workers is not None:
            how = plan(self._processes, "ddp", use_cpu=self._device == "cpu")
            self._workers.run(how, job["settings"]["task"], json.dumps(job))
            return
        if self._bench is None:
            import torch

            with silent():
                from mnpo.llm.benchmarks.academic_harness import Bench
            name = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
            self._bench = Bench(Group(0, 1, torch.device(name)))
        self._bench.do(job)


def main() -> int:
    """Take jobs until there are no more."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries talk; standard output is the command's
    return serve(_begin)


def _begin() -> Callable[[str, str], None]:
    """Load what is needed; return what does a job, given its task and the file that describes it."""
    from mnpo.llm.runtime.progress import quiet

    quiet()
    from mnpo.llm.benchmarks.academic_harness import Bench

    benches: dict[bool, Bench] = {}

    def run(_: str, file: str) -> None:
        job = json.loads(Path(file).read_text(encoding="utf-8"))
        use_cpu = job["device"] == "cpu"
        if use_cpu not in benches:
            benches[use_cpu] = Bench(join(use_cpu))
        benches[use_cpu].do(job)

    return run


if __name__ == "__main__":
    sys.exit(main())
