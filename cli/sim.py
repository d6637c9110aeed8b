"""`mnpo sim`: the default study, the same on a given game, and the commands of its neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnpo.cli import options as opt
from mnpo.cli import sim_diagnose, sim_games, sim_methods
from mnpo.cli.recording import recorded
from mnpo.common.progress import progress as progress_bar
from mnpo.common.progress import pulse

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def default(
    context: typer.Context,
    players: opt.PlayerCounts = None,
    tau: opt.StudyTau = None,
    eta: opt.Eta = 0.5,
    steps: opt.Steps = 1000,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Solve, play and verify preference games. Without a command: the default study.

    The default study compares two- with n-player play on a synthetic population of annotators whose majorities
    cycle: exact equilibria, trajectories of TD-MNPO, tables and figures.
    """
    context.with_resource(pulse(f"mnpo sim {context.invoked_subcommand or ''}".rstrip()))
    if context.invoked_subcommand is not None:
        given = opt.given(context) - {"debug"}
        if given:
            name = min(given).removeprefix("as_")
            raise ValueError(f"--{name} goes after {context.invoked_subcommand!r}, not before it")
        return
    from mnpo.sim.studies import STUDY_GAME

    _compare(STUDY_GAME, players, tau, eta, steps, "current", None, seed, as_json, out, with_headline=True)


@app.command()
def compare(
    game: opt.GameName,
    players: opt.PlayerCounts = None,
    tau: opt.StudyTau = None,
    eta: opt.Eta = 0.5,
    steps: opt.Steps = 1000,
    advantage: Annotated[str, typer.Option(help="TD-MNPO's, see [cyan]mnpo sim rules[/cyan].")] = "current",
    reference: opt.Reference = None,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Compare two- with n-player play on a game: exact equilibria, trajectories of TD-MNPO, figures.

    [dim]mnpo sim compare sushi.soc --players 2,3,4,6,10 --tau 0.05[/dim]
    """
    _compare(game, players, tau, eta, steps, advantage, reference, seed, as_json, out)


@app.command()
def plot(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run folder.", show_default=False)],
    debug: opt.Debug = False,
) -> None:
    """Draw the figures of a run folder again, from its results.json."""
    from mnpo.sim.plots import redraw

    for file in redraw(folder):
        typer.echo(file)


def _compare(
    game: str,
    players: str | None,
    tau: float | None,
    eta: float,
    steps: int,
    advantage: str,
    reference: Path | None,
    seed: int | None,
    as_json: bool,
    out: Path | None,
    with_headline: bool = False,
) -> None:
    from mnpo.sim.load import takes_seed
    from mnpo.sim.studies import compare as study

    counts = opt.parse_counts(players, "players")
    config = {
        "game": game,
        "players": counts,
        "tau": tau,
        "eta": eta,
        "steps": steps,
        "advantage": advantage,
        "reference": reference,
        "seed": seed,
    }
    if seed is not None and not with_headline and not takes_seed(game):
        raise ValueError(f"--seed has no effect: {game} is not random")
    with recorded("compare", config, out, as_json) as keep:
        with progress_bar() as progress:
            comparison = study(
                game,
                players=counts,
                tau=tau,
                eta=eta,
                steps=steps,
                advantage=advantage,
                reference=opt.read_reference(reference),
                seed=seed,
                progress=progress,
            )
            record = comparison.as_dict()
            if with_headline:
                from mnpo.sim.headline import headline

                counts = [row["players"] for row in record["players"]]
                record["headline"] = headline(game, record["tau"], counts, seed=seed or 0, progress=progress)
        record["resolved"] = {
            "players": [row["players"] for row in record["players"]],
            "tau": record["tau"],
            "reference": "uniform" if reference is None and comparison.spec.reference is None else "given",
        }
        keep(record)
    if not as_json:
        from mnpo.cli import show, show_games

        show.notes(comparison.spec.notes)
        show_games.comparison(record)
        show.folder(keep.folder)


# Commands in the order in which they are listed.
app.add_typer(sim_games.app)
app.add_typer(sim_diagnose.app)
app.add_typer(sim_methods.app)
