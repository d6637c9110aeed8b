"""`mnpo llm`: the same update rules on language models."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnpo.cli import options as opt

if TYPE_CHECKING:
    from mnpo.common.progress import Progress
    from mnpo.llm.config import Config

app = typer.Typer(
    help="Train language models by the rules of [cyan]mnpo sim[/cyan].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A preset ([cyan]mnpo llm presets[/cyan]) or a YAML file.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE ...]",
        help="On top of CONFIG, with or without the section: [cyan]sampling.temperature=0.7 rule.eta=2 "
        "learning_rate=1e-5[/cyan].",
        show_default=False,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option("--num-processes", help="Number of processes.", show_default="one for each GPU, or 1"),
]
Accelerate = Annotated[
    str | None,
    typer.Option(
        "--accelerate",
        help="How processes share the work: single, ddp, zero2, zero3, fsdp, or accelerate's own file.",
        show_default="single for one process, ddp for more",
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Wait while another command works in the output folder, instead of stopping."
    ),
]


@app.command()
def train(
    source: Annotated[
        str,
        typer.Argument(metavar="[CONFIG]", help="A preset ([cyan]mnpo llm presets[/cyan]) or a YAML file."),
    ] = "tiny",
    overrides: Overrides = None,
    processes: Processes = None,
    accelerate: Accelerate = None,
    wait: Wait = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Run the iterated loop: sample, annotate, score, fit and evaluate, in every iteration and for every player.

    Without CONFIG a small model that answers is made and trained on the spot, without network, within two minutes.
    The same command again continues where it stopped.
    """
    config = _load(source, overrides, default="tiny")
    from mnpo.llm.checks import check_run

    check_run(config)
    _note(source, overrides, config)
    from mnpo.cli import show_llm
    from mnpo.llm.running import run_loop

    with _working(config, wait) as report:
        found = run_loop(config, processes=processes, accelerate=accelerate, progress=report).as_dict()
    _show(found, as_json, lambda: show_llm.trained(found, config.folders.home))


@contextlib.contextmanager
def _working(config: Config, wait: bool) -> Iterator[Progress]:
    """Own the output folder and show progress; only the first of several processes owns and shows."""
    from mnpo.common.ownership import owned
    from mnpo.llm.runtime.processes import follow_launcher
    from mnpo.llm.runtime.progress import progress, quiet

    def waiting(owner: str) -> None:
        typer.echo(f"waiting for {owner}", err=True)

    quiet()
    follow_launcher()
    owner = owned(config.folders.home, wait=wait, waiting=waiting) if _first() else contextlib.nullcontext()
    with owner, progress(_first()) as report:
        yield report


def _staged(
    name: str, config: Config, processes: int | None, accelerate: str | None, wait: bool
) -> dict[str, Any]:
    """Run a stage; return its record as plain data."""
    from mnpo.llm.stages.running import run_stage

    with _working(config, wait) as report:
        found: dict[str, Any] = run_stage(
            name, config, processes=processes, accelerate=accelerate, progress=report
        ).as_dict()
    return found


def _stage_command(name: str, about: str) -> None:
    """Add the command of one stage."""

    def command(
        source: Source,
        overrides: Overrides = None,
        processes: Processes = None,
        accelerate: Accelerate = None,
        wait: Wait = False,
        as_json: opt.Json = False,
        debug: opt.Debug = False,
    ) -> None:
        config = _load(source, overrides)
        from mnpo.llm.checks import check_stage

        check_stage(name, config)
        _note(source, overrides, config, stage=name)
        from mnpo.cli import show_llm

        found = _staged(name, config, processes, accelerate, wait)
        _show(found, as_json, lambda: show_llm.stage(name, found))

    app.command(name, help=inspect.cleandoc(about))(command)


def _add_stages() -> None:
    from mnpo.llm.stages.names import ABOUT

    for name, about in ABOUT.items():
        _stage_command(name, about)


_add_stages()


@app.command("test-oracle")
def test_oracle(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="ORACLES.. DATA.. [KEY=VALUE ..]",
            help="Oracles: folders that [cyan]fit-oracle[/cyan] left, names such as [cyan]styles[/cyan], or "
            "[cyan]{kind: reward, model: ..}[/cyan]. Data: files, folders or names on the Hub. Or a configuration "
            "with oracle and dataset_name.",
            show_default=False,
        ),
    ],
    processes: Processes = None,
    accelerate: Accelerate = None,
    wait: Wait = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Test oracles on people's judgments: accuracy by subset, calibration, order, length, cycles.

    Several oracles and data sets are tested side by side. Answers are kept: the same command again asks nothing.
    """
    needs_torch()
    from mnpo.llm.fitting.words import configured

    config = configured(words)
    from mnpo.cli import show_llm

    found = _staged("test-oracle", config, processes, accelerate, wait)
    _show(found, as_json, lambda: show_llm.tested(found, config.folders.home))


@app.command()
def tournament(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="PLAYERS.. [KEY=VALUE ..]",
            help="Players: models' folders or names on the Hub, runs (all their iterations), files of responses, "
            "[cyan]{name: .., base_url: .., model: ..}[/cyan]. A preset or a YAML file may come before them.",
            show_default=False,
        ),
    ],
    processes: Processes = None,
    accelerate: Accelerate = None,
    wait: Wait = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Let everybody play everybody on the same prompts: ratings beside the exact equilibrium, which sees cycles.

    Responses and answers are kept: one more player costs what is its own, and the same command again nothing.

    [dim]mnpo llm tournament runs/a/model runs/b/model prompt_dataset_name=prompts.jsonl oracle=styles[/dim]
    """
    needs_torch()
    from mnpo.llm.players.configured import configured

    config = configured(words)
    from mnpo.cli import show_evaluation

    found = _staged("tournament", config, processes, accelerate, wait)
    _show(found, as_json, lambda: show_evaluation.tournament(found, config.folders.home))


@app.command()
def benchmark(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE",
            help="mt-bench, alpaca-eval-2, arena-hard, arena-hard-v2, academic, or all of the paper's.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE ..",
            help="[cyan]model=..[/cyan], once for each; [cyan]judge={model: .., base_url: ..}[/cyan]; "
            "[cyan]questions=FILE baselines=FILE references=FILE judge_prompts=FILE[/cyan], and other keys.",
            show_default=False,
        ),
    ] = None,
    processes: Processes = None,
    accelerate: Accelerate = None,
    wait: Wait = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Run the papers' benchmarks, or compute the judged ones' statistics from judgments that exist.

    Answers and verdicts are kept: the same command again asks nobody.

    [dim]mnpo llm benchmark mt-bench model=runs/a/model "judge={model: gpt-4, base_url: https://..}"[/dim]
    [dim]mnpo llm benchmark alpaca-eval-2 annotations=FILE difficulty=FILE gamed=FILE --json[/dim]
    """
    needs_torch()
    from mnpo.cli import show_evaluation
    from mnpo.llm.benchmarks.suites import (
        ACADEMIC,
        ALL,
        configured,
        existing,
        run_academic,
        wants_statistics,
    )

    given = words or []
    if wants_statistics(suite, given):
        alone = existing(suite, given)
        _show(alone, as_json, lambda: show_evaluation.statistics(alone))
        return
    config = configured(suite, given)
    if suite in (ACADEMIC, ALL):
        with _working(config, wait) as report:
            measured = run_academic(config, processes, lambda done, total: report(ACADEMIC, done, total))
        if suite == ACADEMIC:
            _show(measured, as_json, lambda: show_evaluation.academic(measured))
            return
    found = _staged("benchmark", config, processes, accelerate, wait)
    _show(found, as_json, lambda: show_evaluation.benchmarked(found, config.folders.home))


@app.command()
def presets(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the packaged configurations."""
    _needs("yaml")
    from mnpo.llm.config import presets

    rows = [{"name": name, **content} for name, content in presets().items()]
    if as_json:
        _print_json(rows)
        return
    from mnpo.cli import show_llm

    show_llm.presets(rows)


@app.command("show-config")
def show_config(
    source: Annotated[str, typer.Argument(metavar="[CONFIG]", help="A preset or a YAML file.")] = "tiny",
    overrides: Overrides = None,
    debug: opt.Debug = False,
) -> None:
    """Print a configuration, resolved, with the comment of every key; CONFIG takes it as a file."""
    config = _load(source, overrides, default="tiny")
    from mnpo.llm.config import to_yaml

    typer.echo(to_yaml(config), nl=False)


def _load(source: str, overrides: list[str] | None, default: str | None = None) -> Config:
    """Read a configuration; without `default` CONFIG must be given."""
    needs_torch()
    from mnpo.llm.config import load
    from mnpo.llm.config.reading import is_override

    if is_override(source):
        if default is None:
            raise ValueError(f"a preset or a YAML file comes before {source!r}, for example: tiny {source}")
        source, overrides = default, [source, *(overrides or [])]
    return load(source, overrides or [])


def _note(source: str, overrides: list[str] | None, config: Config, stage: str | None = None) -> None:
    """Say in a line each what may be meant otherwise, before the work begins."""
    from mnpo.llm.config.reading import given, is_override
    from mnpo.llm.idle import idle, whom_it_tests

    if not _first():
        return
    words = [source, *(overrides or [])] if is_override(source) else overrides or []
    keys = given("tiny" if is_override(source) else source, words)
    for note in [*idle(config, keys), *(whom_it_tests(config) if stage == "evaluate" else ())]:
        typer.echo(f"mnpo: note: {note}", err=True)


def _show(found: Any, as_json: bool, show: Callable[[], None]) -> None:
    if not _first():
        return
    if as_json:
        _print_json(found)
    else:
        show()


def _first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=2))


def needs_torch() -> None:
    """Refuse to go on without the extra.

    Raises:
        ValueError: what is missing.
    """
    _needs("torch", "transformers", "datasets", "accelerate", "yaml")
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress is shown once, by us
    # Large pages for large arrays: torch on a CPU is a fifth faster at a vocabulary of 256,000.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _needs(*names: str) -> None:
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ValueError(f"language models need {', '.join(missing)}: pip install 'mnpo[llm]'")
