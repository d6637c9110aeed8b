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
def score(
    source: Source,
    overrides: Overrides = None,
    processes: Processes = None,
    accelerate: Accelerate = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Compute the log-probabilities of preference pairs under every anchor.

    They are kept by content in output_dir: what is known already is not computed again.
    """
    _needs_torch()
    from mnpo.llm.stages import score_pairs

    _stage("score", source, overrides, processes, accelerate, as_json, score_pairs)


@app.command()
def fit(
    source: Source,
    overrides: Overrides = None,
    processes: Processes = None,
    accelerate: Accelerate = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Train a policy on preference pairs: one iteration, by an update rule or another objective.

    Scores first what is not scored. The same command again continues where it stopped.
    """
    _needs_torch()
    from mnpo.llm.fit import fit as run_fit

    _stage("fit", source, overrides, processes, accelerate, as_json, run_fit)


@app.command()
def presets(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the packaged configurations."""
    _needs_torch()
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
    _needs_torch()
    from mnpo.llm.config import load, to_yaml

    typer.echo(to_yaml(load(*_split(source, overrides))), nl=False)


def _stage(
    name: str,
    source: str,
    overrides: list[str] | None,
    processes: int | None,
    accelerate: str | None,
    as_json: bool,
    stage: Callable[[Config, Any], Any],
) -> None:
    from mnpo.cli import show_llm
    from mnpo.llm.config import load
    from mnpo.llm.fit import finished
    from mnpo.llm.launch import run
    from mnpo.llm.progress import progress, quiet

    quiet()
    first = os.environ.get("RANK", "0") == "0"
    config = load(*_split(source, overrides))

    def here(resolved: Config) -> Any:
        with progress(first) as report:
            return stage(resolved, report)

    found = run(name, config, here, processes=processes, accelerate=accelerate)
    if found is None:  # other processes did the work and left the record
        found = finished(config, name)
    if not first:
        return
    if as_json:
        _print_json(found)
    else:
        {"score": show_llm.scored, "fit": show_llm.fitted}[name](found)


def _split(source: str, overrides: list[str] | None) -> tuple[str, list[str]]:
    if "=" in source:
        raise ValueError(f"a preset or a YAML file comes before {source!r}, for example: tiny {source}")
    return source, overrides or []


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=2))


def _needs_torch() -> None:
    missing = [
        name
        for name in ("torch", "transformers", "datasets", "accelerate", "yaml")
        if find_spec(name) is None
    ]
    if missing:
        raise ValueError(f"mnpo llm needs {', '.join(missing)}: pip install 'mnpo[llm]'")
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress is shown once, by us
    # Large pages for large arrays: torch on a CPU is a fifth faster at a vocabulary of 256,000.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
