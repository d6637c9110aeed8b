"""`mnpo sim rules, check, rates, tune, sweep`: methods compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnpo.cli import options as opt
from mnpo.cli.recording import recorded
from mnpo.common.progress import progress as progress_bar

app = typer.Typer()


@app.command()
def rules(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the update rules: anchors, advantage, oracle calls per update, paper, options."""
    from mnpo.sim.rule_table import rule_rows

    rows = rule_rows()
    if as_json:
        from mnpo.sim.records import as_json as json_text

        typer.echo(json_text(rows), nl=False)
        return
    from mnpo.cli import show_methods

    show_methods.rules(rows)


@app.command()
def check(
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULE ...]", help="Rules and objectives.", show_default="all"),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Only this test; may be repeated.", show_default="all")
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", "-s", help="Updates of a rule.", min=1, max=opt.MOST_STEPS)
    ] = 5000,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Test rules and objectives on games with known answers: does each end at the equilibrium?

    [dim]mnpo sim check inpo dpo simpo[/dim]
    """
    from mnpo.sim.checks import check as run_checks
    from mnpo.sim.unit_tests import UNIT_TESTS

    config = {"methods": methods or None, "tests": test or None, "steps": steps}
    with recorded("check", config, out, as_json) as keep:
        with progress_bar() as progress:
            verdicts = run_checks(methods or [], test or [], steps=steps, progress=progress)
        record = {
            "kind": "check",
            "game": "check",
            "tests": {name: one.asks for name, one in UNIT_TESTS.items()},
            "rows": [verdict.as_dict() for verdict in verdicts],
        }
        keep(record)
    if not as_json:
        from mnpo.cli import show, show_methods

        show_methods.verdicts(record)
        show.folder(keep.folder)


@app.command()
def rates(
    game: opt.GameName,
    tau: opt.StudyTau = None,
    players: Annotated[
        str, typer.Option("--players", "-n", help="TD-MNPO's numbers of players, with commas.")
    ] = "2,3,4,5,6",
    reference: opt.Reference = None,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Predict how fast rules converge, without running them: rate against step, stable steps, best step.

    Compared are TD-MNPO with several numbers of players, ONPO and EGPO, near the equilibrium.

    [dim]mnpo sim rates random --tau 0.01[/dim]
    """
    from mnpo.sim.rate_tables import rate_table

    spec = opt.open_game(game, seed=seed)
    config = {"game": spec.name, "tau": tau, "players": players, "reference": reference, "seed": seed}
    with recorded("rates", config, out, as_json) as keep:
        with progress_bar() as progress:
            record = rate_table(
                spec,
                tau=tau,
                players=opt.parse_counts(players, "players") or [],
                reference=opt.read_reference(reference),
                progress=progress,
            )
        keep(record)
    if not as_json:
        from mnpo.cli import show, show_methods

        show.notes(spec.notes)
        show_methods.rates(record)
        show.folder(keep.folder)


@app.command()
def tune(
    game: opt.GameName,
    rule: opt.RuleName = "td-mnpo",
    tau: opt.StudyTau = None,
    players: Annotated[
        str, typer.Option("--players", "-n", help="Numbers of players to choose from, with commas.")
    ] = "2,3,4,5,6",
    weights: Annotated[bool, typer.Option("--weights", help="Choose the history weights too.")] = False,
    reference: opt.Reference = None,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Recommend step, number of players and weights for a rule on a game, with the predicted number of updates.

    [dim]mnpo sim tune random --rule td-mnpo --tau 0.01[/dim]
    """
    from mnpo.sim.rate_tables import recommend
    from mnpo.sim.records import as_json as json_text

    spec = opt.open_game(game, seed=seed)
    with progress_bar() as progress:
        record = recommend(
            spec,
            rule,
            tau=tau,
            players=opt.parse_counts(players, "players") or [],
            weights=weights,
            reference=opt.read_reference(reference),
            progress=progress,
        )
    if as_json:
        typer.echo(json_text(record), nl=False)
        return
    from mnpo.cli import show, show_methods

    show.notes(spec.notes)
    show_methods.tuned(record)


@app.command()
def sweep(
    games: Annotated[
        list[str],
        typer.Argument(
            metavar="GAMES",
            help="Catalogue names or files, several with spaces.",
            show_default=False,
        ),
    ],
    rules: Annotated[str, typer.Option(help="Rules, with commas.")] = "inpo,td-mnpo,onpo,egpo",
    players: Annotated[str, typer.Option("--players", "-n", help="Numbers of players, with commas.")] = "2,4",
    tau: Annotated[str, typer.Option("--tau", "-t", help="KL strengths, with commas.")] = "0.05",
    eta: Annotated[str, typer.Option("--eta", "-e", help="Step sizes, with commas.")] = "0.1,0.5",
    seeds: Annotated[int, typer.Option(help="Seeds of each cell.", min=1, max=10**6)] = 10,
    steps: Annotated[
        int, typer.Option("--steps", "-s", help="Number of updates.", min=1, max=opt.MOST_STEPS)
    ] = 1000,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes at a time; -1 for all cores.")] = 1,
    backend: Annotated[str, typer.Option(help="local, dask or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="A cluster's scheduler.", show_default="a local cluster")
    ] = None,
    as_json: opt.Json = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder; name it again to continue.", show_default="runs/sweep-.."),
    ] = None,
    debug: opt.Debug = False,
) -> None:
    """Run every rule on every game with every setting and seed, into one Parquet table.

    The same command continues a sweep that was interrupted.

    [dim]mnpo sim sweep random rps --rules inpo,td-mnpo --players 2,4 --eta 0.1,0.5 --seeds 20 --jobs 2[/dim]
    """
    from mnpo.sim.plots import draw
    from mnpo.sim.records import as_json as json_text
    from mnpo.sim.records import default_folder, write_file
    from mnpo.sim.sweep_tables import summary
    from mnpo.sim.sweeps import cells
    from mnpo.sim.sweeps import sweep as run_sweep

    laid = cells(
        games,
        rules.split(","),
        opt.parse_counts(players, "players") or [],
        opt.parse_list(tau, "tau"),
        opt.parse_list(eta, "eta"),
        seeds=seeds,
        steps=steps,
    )
    folder = out if out is not None else default_folder("sweep")
    with progress_bar() as progress:
        table = run_sweep(laid, folder, jobs=jobs, backend=backend, address=address, progress=progress)
    record = summary(table)
    write_file(folder / "results.json", json_text(record))
    draw(record, folder)
    if as_json:
        typer.echo(json_text({**record, "table": str(table)}), nl=False)
        return
    from mnpo.cli import show, show_methods

    show_methods.sweep(record)
    show.folder(folder)
