"""The stage that runs judged benchmarks."""

from __future__ import annotations

from typing import Any

from mnpo.choices import choose
from mnpo.common.files import clear_partials, whole_file
from mnpo.common.progress import Progress
from mnpo.common.seals import read_sealed
from mnpo.llm.benchmarks import paper
from mnpo.llm.benchmarks.running import prepared, run
from mnpo.llm.config import SUITES, Benchmark, Compute, Contest, Data, Folders, Models, Sampling
from mnpo.llm.models.job import Job
from mnpo.llm.players.words import player_of
from mnpo.llm.stages.records import Benchmarked


def benchmark(
    folders: Folders,
    model: Models,
    data: Data,
    sampling: Sampling,
    contest: Contest,
    benchmark: Benchmark,
    compute: Compute,
    progress: Progress | None = None,
) -> Benchmarked:
    """Run benchmarks: players answer the questions, the judge is asked, answers and verdicts are kept.

    Args:
        folders: everything is written below `output_dir`; the same command again asks nobody anything.
        model: how models are loaded.
        data: how long questions and answers may be.
        sampling: how answers are drawn; temperatures are the benchmarks' own.
        contest: who is tested.
        benchmark: which benchmarks, by which judge and protocol.
        compute: seed, device and precision.
        progress: called as the work goes on.

    Raises:
        ValueError: nobody to test, data that are not there, or somebody who does not answer.
    """
    for suite in benchmark.suites:
        choose(suite, SUITES, "benchmark")
    if not benchmark.suites:
        raise ValueError(f"suites must name a benchmark: {', '.join(SUITES)}")
    if not contest.entrants:
        raise ValueError("a benchmark needs somebody to test: model=..")
    players = [player_of(name, spec) for name, spec in contest.entrants.items()]
    suites = [prepared(suite, benchmark) for suite in benchmark.suites]
    job = Job.start(folders, model, compute, progress)
    if job.processes.first:
        clear_partials(job.home)
    results = {asked.suite: run(job, asked, players, sampling, data.max_length) for asked in suites}
    record = Benchmarked(
        protocol=benchmark.protocol,
        players=[player.as_dict() for player in players],
        suites=results,
        tables=paper.tables({**results, **_academic(job)}, benchmark.protocol),
    )
    if job.processes.first:
        record.write(job.home)
        for name, write in (("tables.md", paper.markdown), ("tables.tex", paper.latex)):
            with whole_file(job.home / name) as partial:
                partial.write_text(write(record.tables), encoding="utf-8")
    job.processes.wait()
    return record


def _academic(job: Job) -> dict[str, Any]:
    """Return the academic results that stand in the output folder, for the paper's tables."""
    file = job.home / paper.ACADEMIC
    found = read_sealed(file)
    if found is None and file.exists():
        raise ValueError(f"{file} is damaged; mnpo llm benchmark academic makes it again")
    return {"academic": found} if found is not None and "models" in found else {}
