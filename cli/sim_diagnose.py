"""`mnpo sim diagnose`: whether a game can gain anything on given preferences."""

from __future__ import annotations

from typing import Annotated

import typer

from mnpo.cli import options as opt
from mnpo.cli.recording import recorded

app = typer.Typer()


@app.command()
def diagnose(
    game: Annotated[
        str,
        typer.Argument(
            metavar="GAME",
            help="A game as for [cyan]mnpo sim solve[/cyan], or a .jsonl of judged responses: "
            "all_generated_responses with all_rm_scores, or all_rm_scores_NAME for several annotators.",
            show_default=False,
        ),
    ],
    tau: Annotated[
        float | None, typer.Option("--tau", "-t", help="KL strength.", show_default="the game's, or 0.1")
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option(
            help="Binary labels of each pair that win probabilities are shares of.",
            min=1,
            max=10**9,
            show_default="of votes their number, else deterministic",
        ),
    ] = None,
    scale: Annotated[float, typer.Option(help="What rewards are divided by.")] = 1.0,
    prompts: Annotated[
        int | None,
        typer.Option(help="Of judged responses the first so many.", min=1, show_default="all"),
    ] = None,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Say how non-transitive preferences are, and what a game and more players could gain on them.

    [dim]mnpo sim diagnose annotators[/dim]
    """
    from mnpo.sim.diagnosing import diagnose as find

    config = {"game": game, "tau": tau, "labels": labels, "scale": scale, "prompts": prompts, "seed": seed}
    with recorded("diagnose", config, out, as_json) as keep:
        record = find(game, tau=tau, labels=labels, scale=scale, prompts=prompts, seed=seed or 0)
        record["resolved"] = {"tau": record["tau"]}
        keep(record)
    if not as_json:
        from mnpo.cli import show
        from mnpo.cli.show_diagnosis import diagnosis

        show.notes(record["notes"])
        diagnosis(record, record["cycles"])
        show.folder(keep.folder)
