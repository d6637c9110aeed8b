"""The benchmarks by name, and the words of their command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnpo.choices import choose
from mnpo.common.seals import write_sealed
from mnpo.llm.benchmarks import alpaca_eval, arena_hard, mt_bench, paper
from mnpo.llm.benchmarks.running import prepared
from mnpo.llm.config import SUITES, Config, Draft, is_configuration, load
from mnpo.llm.config.reading import is_override
from mnpo.llm.data.made import PREFIX
from mnpo.llm.players.words import named, player_of

#: Where what is found goes, unless a word says otherwise.
OUTPUT = "runs/benchmark"
#: The word for all judged benchmarks that the paper has, and these.
ALL = "all"
PAPERS = ("alpaca-eval-2", "arena-hard", "mt-bench")
#: The word for those of lm-evaluation-harness.
ACADEMIC = "academic"
#: Keys whose values are by benchmark.
_BY_SUITE = ("questions", "baselines", "references", "judge_prompts")


class Existing(NamedTuple):
    """Statistics alone: the files that they take, the first of which must be given, and who computes them."""

    files: tuple[str, ...]
    compute: Callable[..., dict[str, Any]]


EXISTING: Mapping[str, Existing] = {
    "alpaca-eval-2": Existing(("annotations", "difficulty", "gamed"), alpaca_eval.statistics),
    "mt-bench": Existing(("judgments",), mt_bench.existing),
    "arena-hard": Existing(("judgments", "answers", "baseline"), arena_hard.existing),
    "arena-hard-v2": Existing(("judgments", "answers", "baseline"), arena_hard.existing),
}


def wants_statistics(suite: str, words: Sequence[str]) -> bool:
    """Tell whether judgments that exist are named: then nobody is asked."""
    known = EXISTING.get(suite)
    return known is not None and any(word.startswith(f"{known.files[0]}=") for word in words)


def existing(suite: str, words: Sequence[str]) -> dict[str, Any]:
    """Compute a benchmark's statistics from judgments that exist.

    Args:
        suite: a key of `EXISTING`.
        words: `key=FILE`.

    Raises:
        ValueError: an unknown benchmark or key, a file that is not there, or what cannot be read of it.
    """
    names, compute = choose(suite, EXISTING, "benchmark")
    files: dict[str, Path] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise ValueError(f"expected key=FILE; found {word!r}")
        choose(key, dict.fromkeys(names), f"key of {suite}")
        files[key] = Path(value).expanduser()
        if not files[key].is_file():
            raise ValueError(f"{key}={value}: no such file")
    if names[0] not in files:
        raise ValueError(f"{suite} needs {names[0]}=FILE: judgments that exist; also {', '.join(names[1:])}")
    return compute(*(files.get(name) for name in names))


def configured(suite: str, words: Sequence[str]) -> Config:
    """Return the configuration that the words of a judged benchmark stand for.

    Args:
        suite: a benchmark, or "all".
        words: `model=PLAYER`, several times for several; `judge={..}`; files of one benchmark by their key alone,
            `questions=FILE`; and `key=value`. The first may be a preset or a YAML file.

    Raises:
        ValueError: a word that cannot be read, a file that is not there or of another format, or no judge.
    """
    suites = list(PAPERS) if suite == ALL else [suite]
    for one in suites:
        choose(one, {**SUITES, ACADEMIC: "", ALL: ""}, "benchmark")
    given = [word for word in words if not is_override(word)]
    source = given.pop(0) if given and is_configuration(given[0]) else None
    if given:
        raise ValueError(f"expected key=value; found {given[0]!r} (a model is given as model={given[0]})")
    if source is None:
        draft = Draft({"folders": {"output_dir": OUTPUT}, "model": {"model_name_or_path": "none"}})
    else:
        draft = Draft(load(source))
        draft.sections["folders"] = {"output_dir": OUTPUT}
    draft.sections["benchmark"]["suites"] = [] if suite == ACADEMIC else suites
    players = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            continue
        if name == "model":
            players.append(value)
        elif name in _BY_SUITE and not value.startswith("{"):
            if len(suites) > 1:
                raise ValueError(f"{name} of several benchmarks: {name}={{{suites[0]}: FILE, ..}}")
            draft.sections["benchmark"][name] = {suites[0]: value}
        else:
            draft.read(word)
    if players:
        draft.sections["contest"]["entrants"] = named(players)
    if not draft.sections["contest"].get("entrants"):
        raise ValueError("a benchmark needs somebody to test: model=..")
    config = draft.resolved()
    check_files(config)
    for one in config.benchmark.suites:
        prepared(one, config.benchmark)
    return config


def run_academic(
    config: Config, processes: int | None, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Measure models on academic benchmarks, and keep what was found for the paper's tables.

    Args:
        config: see `configured`.
        processes: how many share the questions.
        progress: called with how many of all results are there.

    Raises:
        ValueError: a player that is no model, or see `mnpo.llm.benchmarks.academic.academic`.
    """
    from mnpo.llm.benchmarks.academic import academic

    players = [player_of(name, spec) for name, spec in config.contest.entrants.items()]
    other = next((player for player in players if player.kind != "model"), None)
    if other is not None:
        raise ValueError(f"academic benchmarks measure models; {other.name} is a player of kind {other.kind}")
    home, asked = config.folders.home, config.benchmark
    found = academic(
        {player.name: str(_folder(player.place, home)) for player in players},
        asked.tasks or None,
        output=home / ACADEMIC,
        limit=asked.most_questions,
        include_path=None if asked.task_files is None else Path(asked.task_files),
        chat_template=asked.chat_prompts,
        processes=processes or 1,
        dtype=config.model.dtype,
        device="cpu" if config.compute.use_cpu else None,
        execute_code=asked.execute_code,
        seed=config.compute.seed,
        progress=progress,
    )
    write_sealed(home / paper.ACADEMIC, found)
    return found


def _folder(model: str, home: Path) -> Path | str:
    """Return the folder of a small model, made on the spot; another model by its name."""
    if not model.startswith(PREFIX):
        return model
    from mnpo.llm.models import tiny

    return tiny.build(model, home)


def check_files(config: Config) -> None:
    """Refuse files that are not there, before anything is loaded.

    Raises:
        ValueError: names the key and the file.
    """
    benchmark = config.benchmark
    by_suite = {(name, suite): file for name in _BY_SUITE for suite, file in getattr(benchmark, name).items()}
    alone = {("difficulty", ""): benchmark.difficulty, ("gamed", ""): benchmark.gamed}
    for (name, _), file in {**by_suite, **alone}.items():
        local = file is not None and (file.startswith((".", "/", "~")) or Path(file).suffix != "")
        if local and "://" not in str(file) and not Path(str(file)).expanduser().is_file():
            raise ValueError(f"{name}={file}: no such file")
