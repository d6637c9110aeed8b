"""`mnpo sim solve, run, verify, games, show`: one game at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnpo.cli import options as opt
from mnpo.cli.recording import recorded
from mnpo.cli.rule_options import RuleCommand, given_options, resolved_options
from mnpo.common.progress import progress as progress_bar

app = typer.Typer()


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
    tol: opt.Tolerance = 1e-10,
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
    from mnpo.sim.records import as_json as json_text
    from mnpo.sim.records import check_file, write_file

    if out is not None:
        check_file(out)
    spec = opt.open_game(game, players, seed)
    played = spec.game(players, opt.parse_numbers(tau, "tau"), opt.read_reference(reference))
    with progress_bar() as progress:
        size = f"{played.players} players, {played.contexts} contexts, {played.actions} responses"
        progress(f"equilibrium of {size}", 0, 1)
        found = find(played, method, tolerance=tol)
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


@app.command(cls=RuleCommand)
def run(
    context: typer.Context,
    game: opt.GameName,
    rule: opt.RuleName = "td-mnpo",
    players: opt.Players = None,
    tau: opt.Tau = None,
    eta: opt.Eta = 0.5,
    steps: opt.Steps = 1000,
    external: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of an external policy, for rules that are anchored on such; may be repeated.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Learn win rates from this many pairs an update.", min=1, max=10**9, show_default="exact"
        ),
    ] = None,
    pairs: Annotated[
        str | None, typer.Option(help="Sampled pairs: iid, third or best-worst.", show_default="third")
    ] = None,
    soft: Annotated[
        bool, typer.Option("--soft", help="Win probabilities in place of sampled labels.")
    ] = False,
    every: Annotated[
        int | None,
        typer.Option(
            help="Record the gap after this many updates.",
            min=1,
            max=opt.MOST_STEPS,
            show_default="about 1,000 records",
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

    opening = opt.open_game if samples is None else load_game
    spec = opening(game, players=players, seed=seed)
    options = given_options(context, rule)
    config = {
        "game": spec.name,
        "rule": rule,
        "players": players,
        "tau": tau,
        "eta": eta,
        "steps": steps,
        **options,
        "external": [str(path) for path in external or ()],
        "samples": samples,
        "pairs": pairs,
        "soft": soft,
        "reference": reference,
        "seed": seed,
    }
    feedback = None
    if samples is None and (pairs is not None or soft):
        raise ValueError("--pairs and --soft say how samples are drawn; give their number with --samples")
    if samples is not None:
        import numpy as np

        from mnpo.feedback import Sampled

        feedback = Sampled(samples, np.random.default_rng(seed or 0), pairs=pairs or "third", soft=soft)
    with recorded("run", config, out, as_json) as keep:
        with progress_bar() as progress:
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
                progress=lambda done: progress(rule, done, steps),
                **options,
            )
        record = {"kind": "run", "game": spec.name, "notes": list(spec.notes), **trajectory.as_dict()}
        taken = trajectory.steps
        record["resolved"] = {
            "players": trajectory.game.players,
            "tau": trajectory.game.player_tau.tolist(),
            "every": int(taken[1] - taken[0]) if len(taken) > 1 else 1,
            "reference": "uniform" if reference is None and spec.reference is None else "given",
            **resolved_options(rule, options),
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
    tol: opt.Tolerance = 1e-10,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Check policies from a file; exit status 1 if they are no equilibrium at the tolerance.

    [dim]mnpo sim verify rps equilibrium.json[/dim]
    """
    from mnpo.certificates import verify as check
    from mnpo.sim.readers import read_claim
    from mnpo.sim.records import as_json as json_text

    claim = read_claim(policies)
    number = players if players is not None else claim.players
    spec = opt.open_game(game, number, seed)
    strength = claim.tau if tau is None else opt.parse_numbers(tau, "tau")
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
    """List the catalogue with each game's parameters, and how a game is written as a file."""
    from mnpo.sim.catalogue import CATALOGUE

    if as_json:
        from mnpo.sim.records import as_json as json_text

        rows = [
            {"name": entry.name, "summary": entry.summary, "parameters": entry.parameters}
            for entry in CATALOGUE.values()
        ]
        typer.echo(json_text(rows), nl=False)
        return
    from mnpo.cli import show_games
    from mnpo.sim.json_oracles import ORACLE_KINDS

    show_games.catalogue(CATALOGUE, ORACLE_KINDS)


@app.command()
def tournament(
    file: Annotated[
        Path,
        typer.Argument(help="Votes, one JSON object a line: model_a, model_b, winner.", show_default=False),
    ],
    tau: Annotated[
        float, typer.Option("--tau", "-t", help="KL strength of a second equilibrium.", min=0, max=1e12)
    ] = 0.0,
    draws: Annotated[
        int,
        typer.Option(
            help="Resamples of the bootstrap; votes about a question stay together.", min=0, max=10**6
        ),
    ] = 200,
    seed: opt.Seed = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
    debug: opt.Debug = False,
) -> None:
    """Rank players by their matches: Bradley-Terry ratings beside the exact equilibrium, which sees cycles.

    [dim]mnpo sim tournament votes.jsonl --tau 0.05[/dim]
    """
    from mnpo.common.given import check_file
    from mnpo.sim.tournaments import tournament as rank

    check_file(file, empty=False)
    options = {"file": str(file), "tau": tau, "draws": draws, "seed": seed}
    with recorded("tournament", options, out, as_json) as keep:
        with progress_bar() as progress:
            record = rank(
                file, tau=tau, draws=draws, seed=seed or 0,
                progress=lambda done: progress("resamples", done, draws),
            )  # fmt: skip
        keep(record)
    if not as_json:
        from mnpo.cli import show, show_games

        show.notes(record["notes"])
        show_games.tournament(record)
        show.folder(keep.folder)


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
    from mnpo.sim.studies import win_record

    spec = opt.open_game(game, players, seed)
    wins = win_record(spec)
    if wins is None:
        raise ValueError(f"{game} has no win matrix: its oracle is made for {spec.oracle.players} players")
    record = {"kind": "show", "game": spec.name, "notes": list(spec.notes), **wins}
    with recorded("show", {"game": spec.name, "seed": seed}, out, as_json) as keep:
        keep(record)
    if not as_json:
        from mnpo.cli import show, show_games

        show.notes(spec.notes)
        show_games.win_matrix(record)
        show.folder(keep.folder)
