"""`mnpo sim`: games, solved, played and verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnpo.cli import options as opt

if TYPE_CHECKING:
    pass

app = typer.Typer(
    help="Solve, play and verify preference games. Without a command: the default study.",
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
    """Solve, play and verify preference games.

    Without a command: two- against n-player play on a synthetic population of annotators whose majorities
    cycle, with exact equilibria, TD-MNPO trajectories, tables and figures.
    """
    if context.invoked_subcommand is not None:
        given = [
            name for name, source in _sources(context).items() if source == "COMMANDLINE" and name != "debug"
        ]
        if given:
            name = "json" if given[0] == "as_json" else given[0]
            raise ValueError(f"--{name} goes after {context.invoked_subcommand!r}, not before it")
        return
    from mnpo.sim.studies import DEFAULT_GAME

    _compare(DEFAULT_GAME, players, tau, eta, steps, "current", None, seed, as_json, out, with_headline=True)


@app.command()
def compare(
    game: opt.GameName,
    players: opt.PlayerCounts = None,
    tau: opt.StudyTau = None,
    eta: opt.Eta = 0.5,
    steps: opt.Steps = 1000,
    advantage: Annotated[str, typer.Option(help="TD-MNPO's advantage: current or population.")] = "current",
    reference: opt.Reference = None,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Two- against n-player play on a game: exact equilibria, TD-MNPO trajectories, figures.

    [dim]mnpo sim compare sushi.soc --players 2,3,4,6,10 --tau 0.05[/dim]
    """
    _compare(game, players, tau, eta, steps, advantage, reference, seed, as_json, out)


@app.command()
def solve(
    game: opt.GameName,
    players: opt.Players = None,
    tau: opt.Tau = None,
    reference: opt.Reference = None,
    method: Annotated[
        str,
        typer.Option(help="auto; newton (tau > 0); convex (pairwise, tau > 0); linear (pairwise, tau = 0)."),
    ] = "auto",
    tol: Annotated[float, typer.Option(help="Exploitability that the certificate allows.")] = 1e-10,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File for the equilibrium; mnpo sim verify reads it.", show_default=False
        ),
    ] = None,
    debug: opt.Debug = False,
) -> None:
    """Find a Nash equilibrium, exactly, with its certificate.

    [dim]mnpo sim solve rps:bias=0.2 --players 2 --tau 0.01[/dim]
    """
    from mnpo.equilibria import solve as find
    from mnpo.sim.load import load_game
    from mnpo.sim.records import as_json as json_text
    from mnpo.sim.records import check_file, write_file

    if out is not None:
        check_file(out)
    spec = load_game(game, players=players, seed=seed)
    found = find(
        spec.game(players, opt.parse_numbers(tau, "tau"), opt.read_reference(reference)),
        method,
        tolerance=tol,
    )
    record = {"kind": "solve", "game": spec.name, "notes": list(spec.notes), **found.as_dict()}
    if out is not None:
        write_file(out, json_text(record))
    if as_json:
        typer.echo(json_text(record), nl=False)
    else:
        from mnpo.cli import show

        show.notes(spec.notes)
        show.policies(found.policies, found.game.responses)
        show.equilibrium(found)
        show.certificate(found.certificate)
        if out is not None:
            show.line(f"written to {out}")
    if not found.certificate.holds:
        raise typer.Exit(1)


@app.command()
def run(
    game: opt.GameName,
    rule: opt.RuleName = "td-mnpo",
    players: opt.Players = None,
    tau: opt.Tau = None,
    eta: opt.Eta = 0.5,
    steps: opt.Steps = 1000,
    advantage: Annotated[
        str | None,
        typer.Option(help="TD-MNPO's advantage: current or population.", show_default="current"),
    ] = None,
    anchor: Annotated[
        str | None, typer.Option(help="HT-MNPO's anchor: opponents or own.", show_default="opponents")
    ] = None,
    refresh: Annotated[
        int | None, typer.Option(help="MPO: updates between refreshments.", min=1, show_default="50")
    ] = None,
    external: Annotated[
        list[Path] | None,
        typer.Option(help="EO-MNPO: a file of policies; may be repeated.", show_default=False),
    ] = None,
    external_tau: Annotated[
        str | None,
        typer.Option(help="EO-MNPO: strength of each external policy, with commas.", show_default="0.1"),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Learn win rates from this many pairs an update.", show_default="exact")
    ] = None,
    pairs: Annotated[str, typer.Option(help="Sampled pairs: iid, third or best-worst.")] = "third",
    soft: Annotated[
        bool, typer.Option("--soft", help="Win probabilities in place of sampled labels.")
    ] = False,
    every: Annotated[
        int | None,
        typer.Option(
            help="Record the gap after this many updates.", min=1, show_default="about 1,000 records"
        ),
    ] = None,
    reference: opt.Reference = None,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Run an update rule on a game and record its duality gap.

    [dim]mnpo sim run random:seed=3 --rule inpo --tau 0.05 --eta 0.2 --steps 500[/dim]
    """
    from mnpo.sim.load import load_game
    from mnpo.sim.readers import read_policies
    from mnpo.sim.studies import play

    spec = load_game(game, players=players, seed=seed)
    config = {
        "game": spec.name,
        "rule": rule,
        "players": players,
        "tau": tau,
        "eta": eta,
        "steps": steps,
        "advantage": advantage,
        "anchor": anchor,
        "refresh": refresh,
        "external": [str(path) for path in external or ()],
        "external_tau": external_tau,
        "samples": samples,
        "pairs": pairs if samples else None,
        "soft": soft,
        "reference": reference,
        "seed": seed,
    }
    feedback = None
    if samples is not None:
        import numpy as np

        from mnpo.feedback import Sampled

        feedback = Sampled(samples, np.random.default_rng(seed or 0), pairs=pairs, soft=soft)
    with _recorded("run", config, out, as_json) as keep:
        with _progress() as progress:
            trajectory = play(
                spec,
                rule,
                players=players,
                tau=opt.parse_numbers(tau, "tau"),
                reference=opt.read_reference(reference),
                eta=eta,
                steps=steps,
                every=every,
                externals=[read_policies(path) for path in external or ()],
                feedback=feedback,
                advantage=advantage,
                anchor=anchor,
                refresh=refresh,
                external_tau=None if external_tau is None else opt.parse_list(external_tau, "external-tau"),
                progress=lambda done: progress(rule, done, steps),
            )
        record = {"kind": "run", "game": spec.name, "notes": list(spec.notes), **trajectory.as_dict()}
        taken = trajectory.steps
        record["resolved"] = {
            "players": trajectory.game.players,
            "tau": trajectory.game.player_tau.tolist(),
            "every": int(taken[1] - taken[0]) if len(taken) > 1 else 1,
            "reference": "uniform" if reference is None and spec.reference is None else "given",
        }
        keep(record)
    if not as_json:
        from mnpo.cli import show

        show.notes(spec.notes)
        show.trajectory(trajectory)
        show.policies(trajectory.policies, trajectory.game.responses)
        show.folder(keep.folder)


@app.command()
def verify(
    game: opt.GameName,
    policies: Annotated[
        Path,
        typer.Argument(
            metavar="POLICIES",
            help="What solve --out wrote, or numbers in .json .csv .npy .npz.",
            show_default=False,
        ),
    ],
    players: opt.Players = None,
    tau: Annotated[
        str | None,
        typer.Option(
            "--tau", "-t", help="KL strength.", show_default="the policies' file's, the game's, or 0.1"
        ),
    ] = None,
    reference: opt.Reference = None,
    tol: Annotated[float, typer.Option(help="Exploitability allowed to each player.")] = 1e-10,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Check somebody's policies; exit status 1 if they are no equilibrium at the tolerance.

    [dim]mnpo sim verify rps equilibrium.json[/dim]
    """
    from mnpo.certificates import verify as check
    from mnpo.sim.load import load_game
    from mnpo.sim.readers import read_claim
    from mnpo.sim.records import as_json as json_text

    claim = read_claim(policies)
    number = players if players is not None else claim.players
    spec = load_game(game, players=number, seed=seed)
    strength = opt.parse_numbers(tau, "tau")
    strength = claim.tau if strength is None else strength
    given = opt.read_reference(reference)
    played = spec.game(number, strength, claim.reference if given is None else given)
    certificate = check(played, claim.policies, tol)
    if as_json:
        typer.echo(json_text({"kind": "verify", "game": spec.name, **certificate.as_dict()}), nl=False)
    else:
        from mnpo.cli import show

        show.notes(spec.notes)
        show.played(spec.name, played)
        show.certificate(certificate)
    if not certificate.holds:
        raise typer.Exit(1)


@app.command()
def games(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the catalogue, with each game's parameters."""
    from mnpo.sim.catalogue import CATALOGUE

    if as_json:
        from mnpo.sim.records import as_json as json_text

        rows = [
            {"name": entry.name, "summary": entry.summary, "parameters": entry.parameters}
            for entry in CATALOGUE.values()
        ]
        typer.echo(json_text(rows), nl=False)
        return
    from mnpo.cli import show

    show.catalogue(CATALOGUE)


@app.command(name="show")
def show_game(
    game: opt.GameName,
    players: opt.Players = None,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Show the win matrix as a picture, and its facts: Condorcet winner, Smith set, majority cycles.

    [dim]mnpo sim show annotators[/dim]
    """
    from mnpo.sim.load import load_game
    from mnpo.sim.studies import win_record

    spec = load_game(game, players=players, seed=seed)
    wins = win_record(spec)
    if wins is None:
        raise ValueError(f"{game} has no win matrix: its oracle is made for {spec.oracle.players} players")
    record = {"kind": "show", "game": spec.name, "notes": list(spec.notes), **wins}
    with _recorded("show", {"game": spec.name, "seed": seed}, out, as_json) as keep:
        keep(record)
    if not as_json:
        from mnpo.cli import show

        show.notes(spec.notes)
        show.win_matrix(record)
        show.folder(keep.folder)


@app.command()
def rules(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the update rules: paper, anchors, advantage, oracle calls per update."""
    from mnpo.sim.rule_table import rule_rows

    rows = rule_rows()
    if as_json:
        from mnpo.sim.records import as_json as json_text

        typer.echo(json_text(rows), nl=False)
        return
    from mnpo.cli import show

    show.rules(rows)


@app.command()
def check(
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULE ...]", help="Rules and objectives.", show_default="all"),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Only this test; may be repeated.", show_default="all")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", "-s", help="Updates of a rule.", min=1)] = 5000,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Algorithmic unit tests: does a rule or an objective end at the equilibrium of games with known answers?

    [dim]mnpo sim check inpo dpo simpo[/dim]
    """
    from mnpo.sim.checks import CASES
    from mnpo.sim.checks import check as run_checks

    config = {"methods": methods or None, "tests": test or None, "steps": steps}
    with _recorded("check", config, out, as_json) as keep:
        with _progress() as progress:
            verdicts = run_checks(methods or [], test or [], steps=steps, progress=progress)
        record = {
            "kind": "check",
            "game": "check",
            "tests": {case.name: case.asks for case in CASES.values()},
            "rows": [verdict.as_dict() for verdict in verdicts],
        }
        keep(record)
    if not as_json:
        from mnpo.cli import show

        show.verdicts(record)
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
    """Predicted local rate against step, stable steps and best step, for TD-MNPO with n players and other rules.

    [dim]mnpo sim rates random --tau 0.01[/dim]
    """
    from mnpo.sim.load import load_game
    from mnpo.sim.rate_tables import rate_table

    spec = load_game(game, seed=seed)
    config = {"game": spec.name, "tau": tau, "players": players, "reference": reference, "seed": seed}
    with _recorded("rates", config, out, as_json) as keep:
        with _progress() as progress:
            record = rate_table(
                spec,
                tau=tau,
                players=opt.parse_counts(players, "players") or [],
                reference=opt.read_reference(reference),
                progress=progress,
            )
        keep(record)
    if not as_json:
        from mnpo.cli import show

        show.notes(spec.notes)
        show.rates(record)
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
    """Recommend step, players and weights for a rule on a game, with the predicted number of updates.

    [dim]mnpo sim tune random --rule td-mnpo --tau 0.01[/dim]
    """
    from mnpo.sim.load import load_game
    from mnpo.sim.rate_tables import recommend
    from mnpo.sim.records import as_json as json_text

    spec = load_game(game, seed=seed)
    with _progress() as progress:
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
    from mnpo.cli import show

    show.notes(spec.notes)
    show.tuned(record)


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
    seeds: Annotated[int, typer.Option(help="Seeds of each cell.", min=1)] = 10,
    steps: Annotated[int, typer.Option("--steps", "-s", help="Number of updates.", min=1)] = 1000,
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
    """Run every rule on every game at every setting and seed; one Parquet table, continued when interrupted.

    [dim]mnpo sim sweep random rps --rules inpo,td-mnpo --players 2,4 --eta 0.1,0.5 --seeds 20 --jobs 2[/dim]
    """
    from mnpo.sim.plots import save
    from mnpo.sim.records import as_json as json_text
    from mnpo.sim.records import default_folder, write_file
    from mnpo.sim.sweeps import cells, summary
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
    with _progress() as progress:
        table = run_sweep(laid, folder, jobs=jobs, backend=backend, address=address, progress=progress)
    record = summary(table)
    write_file(folder / "results.json", json_text(record))
    save(record, folder)
    if as_json:
        typer.echo(json_text({**record, "table": str(table)}), nl=False)
        return
    from mnpo.cli import show

    show.sweep(record)
    show.folder(folder)


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
    with _recorded("compare", config, out, as_json) as keep:
        with _progress() as progress:
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
        from mnpo.cli import show

        show.notes(comparison.spec.notes)
        show.comparison(record)
        show.folder(keep.folder)


class _Keeper:
    """Takes a command's record; where it is written to is `folder`, None for nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.record: dict[str, Any] = {}

    def __call__(self, record: dict[str, Any]) -> None:
        self.record = record


@contextmanager
def _recorded(command: str, config: dict[str, Any], out: Path | None, as_json: bool) -> Iterator[_Keeper]:
    """Give a function that keeps a record: in a run folder with figures, and on standard output as JSON.

    The folder is opened before the work, so that one that cannot be written costs none, and stands when the block
    ends.
    """
    from mnpo.sim.records import as_json as json_text
    from mnpo.sim.records import default_folder, run_folder

    if as_json and out is None:
        keeper = _Keeper(None)
        yield keeper
        typer.echo(json_text(keeper.record), nl=False)
        return
    folder = out if out is not None else default_folder(command)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in config.items()}
    keeper = _Keeper(folder)
    with run_folder(folder, {"kind": command, "options": options}) as partial:
        yield keeper
        from mnpo.sim.plots import save

        # What was left to defaults is in the record by now.
        for key, value in keeper.record.get("resolved", {}).items():
            if options.get(key) is None:
                options[key] = value
        (partial / "results.json").write_text(json_text(keeper.record), encoding="utf-8")
        save(keeper.record, partial)
    # The results stand before anything is printed: a reader that goes away loses nothing.
    if as_json:
        typer.echo(json_text(keeper.record), nl=False)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows what is being done and the time left, on a terminal's standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _sources(context: typer.Context) -> dict[str, str]:
    return {
        name: source.name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None
    }
