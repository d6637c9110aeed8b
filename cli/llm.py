"""`mnpo llm`: the same update rules on language models."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnpo.cli import options as opt

if TYPE_CHECKING:
    from mnpo.llm.config import Config
    from mnpo.llm.locate import Progress

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
        help="On top of CONFIG; dots for keys within keys: [cyan]rule.eta=2 learning_rate=1e-5[/cyan].",
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


@app.command()
def train(
    source: Annotated[
        str,
        typer.Argument(metavar="[CONFIG]", help="A preset ([cyan]mnpo llm presets[/cyan]) or a YAML file."),
    ] = "tiny",
    overrides: Overrides = None,
    processes: Processes = None,
    accelerate: Accelerate = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Run the iterated loop: sample, annotate, score, fit and evaluate, in every iteration and for every player.

    Without CONFIG a small model that answers is made and trained on the spot, without network, within two minutes.
    The same command again continues where it stopped.
    """
    if "=" in source:
        source, overrides = "tiny", [source, *(overrides or [])]
    needs_torch()
    from mnpo.cli import show_llm
    from mnpo.llm.config import load
    from mnpo.llm.loop import train as run_loop
    from mnpo.llm.progress import progress, quiet

    quiet()
    config = load(source, overrides or [])
    with progress(_first()) as report:
        how = {"processes": processes, "accelerate": accelerate}
        how = {option: value for option, value in how.items() if value is not None}
        found = run_loop(config, _runner(processes, accelerate, report, config), report, how)
    _show(found, as_json, lambda: show_llm.trained(found, config.folder))


_STAGES = {
    "sample": """Sample responses to prompts: the first stage of an iteration.

    They are kept by content: what was drawn already is not drawn again.
    """,
    "annotate": """Let oracles judge what `sample` drew, and make preference pairs of their answers.

    Answers are kept: no question is asked twice.
    """,
    "score": """Compute the log-probabilities of preference pairs under every anchor.

    They are kept by content in output_dir: what is known already is not computed again.
    """,
    "fit": """Train a policy on preference pairs: one iteration, by an update rule or another objective.

    Scores first what is not scored. The same command again continues where it stopped.
    """,
    "evaluate": """Compare a policy with others on held-out prompts, under every oracle.

    Tested is what `fit` left in output_dir, or eval_model.
    """,
}


def _stage_command(name: str, about: str) -> None:
    """Add the command of one stage."""

    def command(
        source: Source,
        overrides: Overrides = None,
        processes: Processes = None,
        accelerate: Accelerate = None,
        as_json: opt.Json = False,
        debug: opt.Debug = False,
    ) -> None:
        needs_torch()
        from mnpo.cli import show_llm
        from mnpo.llm.config import load
        from mnpo.llm.progress import progress, quiet

        quiet()
        config = load(*_split(source, overrides))
        with progress(_first()) as report:
            found = _runner(processes, accelerate, report)(name, config)
        _show(found, as_json, lambda: show_llm.STAGES[name](found))

    app.command(name, help=about)(command)


for _name, _about in _STAGES.items():
    _stage_command(_name, _about)


@app.command()
def presets(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the packaged configurations."""
    needs_torch()
    from mnpo.cli import show_llm
    from mnpo.llm.config import presets

    rows = [{"name": name, **content} for name, content in presets().items()]
    if as_json:
        _print_json(rows)
    else:
        show_llm.presets(rows)


@app.command("show-config")
def show_config(
    source: Annotated[str, typer.Argument(metavar="[CONFIG]", help="A preset or a YAML file.")] = "tiny",
    overrides: Overrides = None,
    debug: opt.Debug = False,
) -> None:
    """Print a configuration, resolved, as YAML that CONFIG takes."""
    needs_torch()
    from mnpo.llm.config import load, to_yaml

    typer.echo(to_yaml(load(*_split(source, overrides))), nl=False)


def _runner(
    processes: int | None, accelerate: str | None, report: Progress, run: Config | None = None
) -> Callable[[str, Config], dict[str, Any]]:
    """Return what runs a stage by name, in this process or in several.

    Args:
        processes, accelerate: the options.
        report: is told how far a stage is.
        run: the run that the stages are part of, if they are.
    """
    from mnpo.llm.commands import STAGES, finished
    from mnpo.llm.launch import run as launch

    def run_stage(name: str, config: Config) -> dict[str, Any]:
        part = "" if run is None else f"{config.folder.relative_to(run.folder)} "

        def named(what: str, done: int, total: int) -> None:
            report(part + what, done, total)

        found: dict[str, Any] | None = launch(
            name, config, lambda resolved: STAGES[name].do(resolved, named),
            processes=processes, accelerate=accelerate,
        )  # fmt: skip
        # If other processes did the work, they left the record.
        return finished(config, name) if found is None else found

    return run_stage


def _show(found: Any, as_json: bool, show: Callable[[], None]) -> None:
    if not _first():
        return
    if as_json:
        _print_json(found)
    else:
        show()


def _first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _split(source: str, overrides: list[str] | None) -> tuple[str, list[str]]:
    if "=" in source:
        raise ValueError(f"a preset or a YAML file comes before {source!r}, for example: tiny {source}")
    return source, overrides or []


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=2))


def needs_torch() -> None:
    """Refuse to go on without the extra.

    Raises:
        ValueError: what is missing.
    """
    missing = [
        name
        for name in ("torch", "transformers", "datasets", "accelerate", "yaml")
        if find_spec(name) is None
    ]
    if missing:
        raise ValueError(f"language models need {', '.join(missing)}: pip install 'mnpo[llm]'")
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress is shown once, by us
    # Large pages for large arrays: torch on a CPU is a fifth faster at a vocabulary of 256,000.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
