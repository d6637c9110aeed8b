"""The academic benchmarks of the papers, measured by lm-evaluation-harness.

What is measured is kept, one file for each model, task and settings: the same command again computes what is
missing and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from mnpo.choices import choose
from mnpo.common.digests import data_digest, file_digest
from mnpo.common.seals import read_sealed
from mnpo.llm.benchmarks.academic_tasks import Source, silent, tree_digest
from mnpo.llm.benchmarks.academic_worker import Doing
from mnpo.llm.models.folders import base_of, check_policy, find, fingerprint, is_adapter


class Benchmark(NamedTuple):
    """A benchmark of the papers in the harness.

    Attributes:
        title: what papers call it.
        task: the harness's task.
        shots: how many solved examples come first.
        metric: which of the task's metrics is reported.
        filter: how the answer is taken out of what the model wrote; "none" where it is not.
        folders: where the task lies among the harness's.
        chat_task: the task where prompts are chats, if it is another one.
    """

    title: str
    task: str
    shots: int
    metric: str
    filter: str = "none"
    folders: tuple[str, ...] = ()
    chat_task: str | None = None


#: The papers' benchmarks by name. Shots are those of the Open LLM Leaderboard's first edition where it has the
#: benchmark, the task's own elsewhere.
BENCHMARKS = {
    benchmark.title.lower(): benchmark
    for benchmark in (
        Benchmark("IFEval", "ifeval", 0, "prompt_level_strict_acc", folders=("ifeval",)),
        Benchmark("GPQA", "gpqa_diamond_zeroshot", 0, "acc_norm", folders=("gpqa",)),
        Benchmark("MMLU", "mmlu", 5, "acc", folders=("mmlu/default",)),
        Benchmark("ARC", "arc_challenge", 25, "acc_norm", folders=("arc",)),
        Benchmark("HellaSwag", "hellaswag", 10, "acc_norm", folders=("hellaswag",)),
        Benchmark("TruthfulQA", "truthfulqa_mc2", 0, "acc", folders=("truthfulqa",)),
        Benchmark("Winogrande", "winogrande", 5, "acc", folders=("winogrande",)),
        Benchmark("GSM8K", "gsm8k", 5, "exact_match", "flexible-extract", ("gsm8k",)),
        Benchmark("Minerva-Math", "minerva_math", 4, "exact_match", folders=("minerva_math", "benchmarks")),
        Benchmark("AIME-24", "aime24", 0, "exact_match", folders=("aime",)),
        Benchmark("HumanEval", "humaneval", 0, "pass@1", "create_test", ("humaneval",), "humaneval_instruct"),
    )
}
#: Metrics that are no shares of 1.
_NO_SHARE = re.compile(r"perplexity|bits_per_byte|bleu|chrf|^ter$|rouge|likelihood|brier|^bypass$")
#: What a model's answers depend on besides its weights.
_WORDS = re.compile(
    r"(tokenizer|special_tokens|added_tokens|vocab|merges|chat_template|generation_config).*\.(json|txt|jinja)|.*\.model"
)


def academic(
    models: Mapping[str, str],
    tasks: Sequence[str] | None = None,
    *,
    output: Path,
    limit: int | None = None,
    include_path: Path | None = None,
    chat_template: bool = True,
    batch_size: int | str = 8,
    processes: int = 1,
    dtype: str = "float32",
    device: str | None = None,
    execute_code: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure models on academic benchmarks.

    Args:
        models: name -> folder of the model, or its name on the hub.
        tasks: keys of `BENCHMARKS` in any case, other tasks of the harness, or tasks below `include_path`; by
            default all of `BENCHMARKS`.
        output: folder in which results are kept.
        limit: at most so many questions of each task, for trials.
        include_path: a folder with tasks of one's own, in the harness's YAML.
        chat_template: whether prompts are written as chats, solved examples as earlier turns.
        batch_size: of each process; "auto" for the largest that fits.
        processes: how many share the questions.
        dtype: of the weights, a key of `mnpo.llm.models.loading.DTYPES`.
        device: where one process computes; by default a GPU if there is one.
        execute_code: whether tasks that run code which the model wrote may do so, on this machine and unprotected.
        seed: of the solved examples that are drawn, and of whatever a task draws.
        progress: called with how many of all results are there.

    Returns:
        protocol: what measured; models: name -> title -> value and standard_error in percent (None where there is
        none), metric, task, version, shots and count; notes: what is missing or differs.

    Raises:
        ValueError: lm-eval is not installed; an unknown task or model, or one that cannot be loaded; an argument
            out of range.
        WorkerFailed: one of several processes failed otherwise; the same command again goes on.
    """
    _check_installed()
    _check(models, limit, batch_size, processes, dtype, device)
    output = output.expanduser()
    with silent():
        asked, notes = _asked(tasks, include_path, output, chat_template, execute_code)
    settings = {
        "limit": limit, "chat_template": chat_template, "dtype": dtype, "seed": seed, "harness": _version(),
    }  # fmt: skip
    how = {"batch_size": batch_size, "device": device, "execute_code": execute_code}
    found: dict[str, dict[str, Any]] = {name: {} for name in models}
    folders = {name: find(given) for name, given in models.items()}
    for folder in folders.values():
        check_policy(folder)
    steps = [(name, one) for name in models for one in asked]
    with Doing(processes, device) as doing:
        for done, (name, one) in enumerate(steps):
            if progress is not None:
                progress(done, len(steps))
            job = _job(folders[name], one, settings, output) | how
            record = _kept(job)
            if record is None:
                doing.do(job)
                record = _kept(job)
            if record is None:
                raise ValueError(f"task {one.task} left no result in {job['file']}")
            found[name][one.title] = _row(record, one.metric)
            notes += [f"{name}, {one.title}: {note}" for note in record["notes"]]
            if not _is_share(found[name][one.title]["metric"]):
                notes.append(
                    f"{name}, {one.title}: the metric is no share of 1, so its value is no percentage"
                )
    if progress is not None:
        progress(len(steps), len(steps))
    return {"protocol": _protocol(settings), "models": found, "notes": notes}


class Asked(NamedTuple):
    """A task that is to be measured.

    Attributes:
        title: what it is called in the result.
        task: the harness's name.
        shots: how many solved examples; as the task says where None.
        metric: the harness's key of the metric; the task's first where None.
        source: where the task is found, for `mnpo.llm.benchmarks.harness`.
        content: a digest of the task and its data, where they are the user's own.
    """

    title: str
    task: str
    shots: int | None
    metric: str | None
    source: dict[str, Any]
    content: str | None


def _asked(
    tasks: Sequence[str] | None, include_path: Path | None, output: Path, chat: bool, execute_code: bool
) -> tuple[list[Asked], list[str]]:
    """Look the tasks up; also say which ones of the default are left out."""
    if tasks is not None and not tasks:
        raise ValueError("no tasks are given")
    home = None if include_path is None else include_path.expanduser().resolve()
    if home is not None and not home.is_dir():
        raise ValueError(f"include_path {include_path} is not a folder")
    stamp = "" if home is None else tree_digest(home, output.resolve())
    found: dict[str, Asked] = {}
    notes = []
    for name in BENCHMARKS if tasks is None else tasks:
        benchmark = BENCHMARKS.get(name.lower())
        wanted = name
        if benchmark is not None:
            wanted = (benchmark.chat_task if chat else None) or benchmark.task
        places = () if benchmark is None else benchmark.folders
        source = Source.of(wanted, places, home, stamp, BENCHMARKS)
        for task in source.members(wanted):
            title = task if benchmark is None else benchmark.title
            if not execute_code and source.executes(task):
                why = "runs code that the model writes, unprotected on this machine"
                if tasks is not None:
                    raise ValueError(f"{title} {why}: it needs execute_code")
                notes.append(f"{title} is left out: it {why}, and needs execute_code")
                continue
            shots = None if benchmark is None else benchmark.shots
            metric = None if benchmark is None else f"{benchmark.metric},{benchmark.filter}"
            found[title] = Asked(title, task, shots, metric, source.plain(), source.content(task, home))
    return list(found.values()), notes


def _job(folder: Path, one: Asked, settings: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Describe how a model is measured on a task, and in which file the result lies."""
    asked = {
        "model": _content(folder), "task": one.task, "shots": one.shots, "content": one.content, **settings,
    }  # fmt: skip
    file = output / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', one.task)}-{data_digest(asked)[:16]}.json"
    return {
        "settings": asked, "file": str(file.resolve()), "folder": str(folder.resolve()), "source": one.source,
    }  # fmt: skip


def _check_installed() -> None:
    try:
        with silent():
            import lm_eval.tasks  # noqa: F401
    except ImportError:
        raise ValueError("academic benchmarks need lm-eval: pip install 'mnpo[eval]'") from None


def _version() -> str:
    return version("lm_eval")


def _check(
    models: Mapping[str, str],
    limit: int | None,
    batch_size: int | str,
    processes: int,
    dtype: str,
    device: str | None,
) -> None:
    from mnpo.llm.models.weights import DTYPES

    if not models:
        raise ValueError("no models are given")
    choose(dtype, DTYPES, "dtype")
    if device is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise ValueError(f"device must be cpu, mps, cuda or cuda:N; found {device!r}")
    for name, number in (("limit", limit), ("processes", processes)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1; found {number}")
    if not re.fullmatch(r"[1-9]\d*|auto(:[1-9]\d*)?", str(batch_size)):
        raise ValueError(f"batch_size must be a positive number or auto; found {batch_size!r}")
    if processes > 1 and device not in (None, "cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda where processes share the work; found {device!r}")


def _content(folder: Path) -> str:
    """Return a digest of a model and of its tokenizer, chat template and settings of generation."""
    folders = [folder, base_of(folder)] if is_adapter(folder) else [folder]
    words = [
        [file.name, file_digest(file)]
        for one in folders
        for file in sorted(one.iterdir())
        if _WORDS.fullmatch(file.name)
    ]
    return data_digest(fingerprint(folder), words)


def _kept(job: dict[str, Any]) -> dict[str, Any] | None:
    found = read_sealed(Path(job["file"]))
    if found is None or found.get("settings") != job["settings"]:
        return None
    record: dict[str, Any] = found["result"]
    return record


def _row(record: dict[str, Any], metric: str | None) -> dict[str, Any]:
    """Report one metric of a task."""
    values = record["metrics"]
    key = next(iter(values)) if metric is None else metric
    if key not in values:
        raise ValueError(f"task {record['task']} has no metric {key}; it has {', '.join(values)}")
    name, _, how = key.partition(",")
    scale = 100 if _is_share(name) else 1
    value, error = values[key]
    return {
        "value": scale * value, "standard_error": None if error is None else scale * error,
        "metric": name if how == "none" else key,
        **{part: record[part] for part in ("task", "version", "shots", "count")},
    }  # fmt: skip


def _is_share(metric: str) -> bool:
    return _NO_SHARE.search(metric) is None


def _protocol(settings: Mapping[str, Any]) -> str:
    prompts = "chats" if settings["chat_template"] else "plain text"
    limit = settings["limit"]
    some = "" if limit is None else f"; only the first {limit} questions of each task"
    return f"lm-evaluation-harness {settings['harness']}, prompts written as {prompts}{some}"
