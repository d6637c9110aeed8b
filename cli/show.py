"""What commands print for people: tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mnpo.certificates import Certificate
from mnpo.dynamics import Trajectory
from mnpo.equilibria import Equilibrium
from mnpo.games import Game
from mnpo.numerics import Array
from mnpo.sim.catalogue import Entry
from mnpo.sim.style import PALETTE

console = Console(highlight=False)

#: At most this many responses of a policy are printed.
LONGEST_POLICY = 25
#: At most this many policies are printed side by side.
MOST_COLUMNS = 6


def line(text: str) -> None:
    """Print one line as it is."""
    console.print(escape(text))


def notes(texts: Iterable[str]) -> None:
    """Print remarks on the game."""
    for text in texts:
        console.print(f"[dim]{escape(text)}[/dim]")


def folder(path: Path | None) -> None:
    """Say where a run's results are, if they are anywhere."""
    if path is not None:
        console.print(f"results and figures in [bold]{escape(str(path))}[/bold]")


def policies(profile: Array, names: tuple[str, ...]) -> None:
    """Print policies (n, X, A): one column a player and context, or one for all players if they are alike."""
    shared = bool((profile == profile[:1]).all())
    table = _table("response")
    columns: list[Array] = []
    shown = [(i, x) for i in range(1 if shared else profile.shape[0]) for x in range(profile.shape[1])]
    for player, context in shown[:MOST_COLUMNS]:
        who = "all players" if shared else f"player {player}"
        table.add_column(who if profile.shape[1] == 1 else f"{who}, context {context}", justify="right")
        columns.append(profile[player, context])
    values = np.stack(columns)
    order = np.argsort(-values.max(axis=0), kind="stable")
    for index in order[:LONGEST_POLICY]:
        table.add_row(escape(names[index]), *(f"{value:.6g}" for value in values[:, index]))
    console.print(table)
    if len(names) > LONGEST_POLICY:
        rest = values[:, order[LONGEST_POLICY:]].sum(axis=1).max()
        console.print(f"[dim]and {len(names) - LONGEST_POLICY} more with {rest:.3g} together[/dim]")
    if len(shown) > MOST_COLUMNS:
        console.print(f"[dim]the first {MOST_COLUMNS} of {len(shown)} policies; --json has all[/dim]")


def equilibrium(found: Equilibrium) -> None:
    """Print an equilibrium's figures."""
    gap = "" if found.dual_gap is None else f", duality gap {found.dual_gap:.2e}"
    console.print(
        f"{found.game.players} players, tau {_short(found.game.player_tau)}: value after the KL cost "
        f"{_short(found.value)}, exploitability {found.exploitability.max():.2e}{gap}"
    )
    notes(found.notes)
    console.print(f"[dim]{found.method}, {found.iterations} iterations, {found.seconds:.2f} s[/dim]")


def played(name: str, game: Game) -> None:
    """Say which game is meant."""
    uniform = bool((game.log_reference == game.log_reference.flat[0]).all())
    console.print(
        f"{escape(name)}: {game.players} players, tau {_short(game.player_tau)}, "
        f"{'uniform' if uniform else 'given'} reference"
    )


def certificate(checked: Certificate) -> None:
    """Print a certificate."""
    table = _table("check")
    table.add_column("figure", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("")
    table.add_column("meaning", style="dim")
    for check in checked.checks:
        verdict = "[green]holds[/green]" if check.holds else "[red]fails[/red]"
        table.add_row(check.name, f"{check.value:.2e}", f"{check.limit:.2e}", verdict, check.meaning)
    console.print(table)
    for name, reason in checked.not_checked:
        console.print(f"[dim]not checked: {name} ({reason})[/dim]")
    if checked.distance_bound is not None:
        console.print(f"[dim]total variation from the equilibrium at most {checked.distance_bound:.2e}[/dim]")
    if checked.holds:
        console.print(f"[green]an equilibrium at tolerance {checked.tolerance:g}[/green]")
    else:
        console.print(f"[red]no equilibrium at tolerance {checked.tolerance:g}[/red]")


def trajectory(run: Trajectory) -> None:
    """Print how a rule fared."""
    gap, eta = np.atleast_1d(run.gap), run.rule.as_dict()["eta"]
    step = "" if eta is None else f", eta {_short(np.asarray(eta))}"
    console.print(
        f"{run.rule.name}, {run.game.players} players, tau {_short(run.game.player_tau)}{step}: "
        f"duality gap (NashConv) "
        f"{gap[0]:.3e} -> {gap[-1]:.3e} in {run.steps[-1]} updates"
    )
    if run.average_gap is not None:
        console.print(f"average iterate: {run.average_gap[-1]:.3e}")
    if run.diverged.any():
        console.print("[red]the last iterate diverged: still moving, with a gap above the first[/red]")


def comparison(record: dict[str, Any]) -> None:
    """Print the table of a study."""
    if record.get("headline"):
        _headline(record["headline"])
    wins = record["win_matrix"]
    console.print(f"\n[bold]{escape(record['game'])}[/bold]")
    if wins:
        _facts(wins)
    table = _table("players")
    for name in ("effective", "most played", "prob.", "exploitability", "last gap", "distance"):
        table.add_column(name, justify="left" if name == "most played" else "right")
    for row in record["players"]:
        last = row["gap"][-1]
        table.add_row(
            str(row["players"]),
            f"{row['effective_responses']:.2f}",
            escape(row["top_response"]),
            f"{row['top_probability']:.3f}",
            f"{row['exploitability']:.1e} "
            + ("[green]verified[/green]" if row["certificate"]["holds"] else "[red]not verified[/red]"),
            ("[red]diverged[/red] " if row["diverged"] else "") + ("nan" if last is None else f"{last:.1e}"),
            f"{row['distance_to_equilibrium']:.1e}",
        )
    console.print(table)
    steps = record["players"][0]["steps"][-1]
    console.print(
        f"[dim]Exact equilibria at tau {record['tau']:g}: effective number of responses exp(entropy), the response "
        f"most played.\nTD-MNPO, eta {record['eta']:g}, {steps} updates: last duality gap (NashConv), total "
        "variation from the equilibrium.[/dim]"
    )


def _headline(record: dict[str, Any]) -> None:
    console.print("[bold]When do more players help?[/bold]")
    table = _table("players")
    for name in ("pairwise gap", "best step", "rate", "updates", "effective"):
        table.add_column(name, justify="right")
    for row in record["rows"]:
        updates = row["history_updates"]
        table.add_row(
            str(row["players"]),
            f"{row['pairwise_gap'][-1]:.2e}",
            f"{row['history_step']:.2f}",
            f"{row['history_rate']:.4f}",
            f"over {record['steps'][-1]}" if updates is None else str(updates),
            f"{row['effective_responses']:.2f}",
        )
    console.print(table)
    for text in (
        f"Pairwise oracle ({record['pairwise']}, tau {record['pairwise_tau']:g}, INPO): the number of players "
        f"changes nothing; trajectories differ by {record['pairwise_difference']:.0e}.",
        "Own history as players (TD-MNPO, each at its best step): updates to a duality gap of 1e-9.",
        f"Population oracle ({record['population']}, tau {record['population_tau']:g}): effective number of "
        "responses at the equilibrium.",
    ):
        console.print(f"[dim]{escape(text)}[/dim]")


def catalogue(entries: Mapping[str, Entry]) -> None:
    """Print the catalogue."""
    table = _table("game")
    table.add_column("parameters and defaults")
    table.add_column("what it is")
    for entry in entries.values():
        parameters = ", ".join(f"{name}={value}" for name, value in entry.parameters.items())
        table.add_row(f"[bold]{entry.name}[/bold]", parameters, entry.summary)
    console.print(table)
    console.print("[dim]write a game as name:key=value,key=value, for instance rps:bias=0.2[/dim]")


def rules(rows: list[dict[str, Any]]) -> None:
    """Print the update rules."""
    table = _table("rule")
    for name in ("anchors", "advantage", "calls", "source"):
        table.add_column(name, justify="right" if name == "calls" else "left")
    for row in rows:
        table.add_row(
            f"[bold]{row['name']}[/bold]",
            row["anchors"],
            row["advantage"],
            str(row["oracle_calls"]),
            row["paper"],
        )
    console.print(table)
    console.print("[dim]anchors with their weights; calls of the oracle per update; options: ")
    console.print(
        "[dim]"
        + "; ".join(f"{row['name']} ({', '.join(row['options'])})" for row in rows if row["options"])
        + "[/dim]"
    )


#: Colour and short form of each verdict.
VERDICT_WORDS = {
    "equilibrium": ("green", "equil."),
    "elsewhere": ("yellow", "else"),
    "cycles": ("magenta", "cycles"),
    "diverges": ("red", "away"),
}


def verdicts(record: dict[str, Any]) -> None:
    """Print verdicts, a line a method, a column a test."""
    tests = [name for name in record["tests"] if any(row["test"] == name for row in record["rows"])]
    for kind in ("rule", "objective"):
        found = [row for row in record["rows"] if row["kind"] == kind]
        if not found:
            continue
        table = _table(kind)
        shown = [name for name in tests if any(row["test"] == name for row in found)]
        for place in range(len(shown)):
            table.add_column(str(place + 1), justify="center")
        for method in dict.fromkeys(row["method"] for row in found):
            cells = []
            for name in shown:
                row = next((r for r in found if r["method"] == method and r["test"] == name), None)
                colour, word = ("white", "") if row is None else VERDICT_WORDS[row["verdict"]]
                cells.append(f"[{colour}]{word}[/]")
            table.add_row(method, *cells)
        console.print(table)
        for place, name in enumerate(shown):
            console.print(f"[dim]{place + 1}  {name}: {record['tests'][name]}[/dim]")
    console.print(
        "[dim]equil.: at the equilibrium; else: stands still elsewhere; cycles: keeps moving; "
        "away: diverges[/dim]"
    )


def rates(record: dict[str, Any]) -> None:
    """Print the summary of a table of rates."""
    table = _table("rule")
    for name in ("players", "stable steps", "best step", "rate", "updates", "oracle calls"):
        table.add_column(name, justify="right")
    for row in record["summary"]:
        steps = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in row["stable_steps"]) or "none"
        values = [
            "-" if row[key] is None else f"{row[key]:{form}}"
            for key, form in (("eta", ".3g"), ("rate", ".4f"), ("updates", ".0f"), ("oracle_calls", ".0f"))
        ]
        table.add_row(row["rule"], str(row["players"]), steps, *values)
    console.print(table)
    console.print(
        f"[dim]tau {record['tau']:g}, largest frequency {record['frequency']:.4g}; updates: predicted from the "
        "reference's gap to 1e-9 at the best step[/dim]"
    )


def sweep(record: dict[str, Any]) -> None:
    """Print the last gaps of a sweep: median and quartiles over seeds."""
    table = _table("rule")
    for name in ("game", "players", "tau", "eta", "calls", "median gap", "25% .. 75%", "diverged"):
        table.add_column(name, justify="left" if name == "game" else "right")
    for curve in record["curves"]:
        table.add_row(
            curve["rule"],
            escape(curve["game"]),
            str(curve["players"]),
            f"{curve['tau']:g}",
            f"{curve['eta']:g}",
            str(curve["oracle_calls"][-1]),
            _gap(curve["median"][-1]),
            f"{_gap(curve['low'][-1])}..{_gap(curve['high'][-1])}",
            f"{curve['diverged']} of {curve['seeds']}",
        )
    console.print(table)


def _gap(value: float | None) -> str:
    return "diverged" if value is None or not np.isfinite(value) else f"{value:.1e}"


def tuned(record: dict[str, Any]) -> None:
    """Print a recommendation."""
    best = record["best"]
    weights = best.get("weights")
    chosen = f", weights {', '.join(f'{w:.3f}' for w in weights)}" if weights else ""
    console.print(
        f"[bold]{best['rule']} with {best['players']} players, eta {best['eta']:.4g}{chosen}[/bold]: rate "
        f"{best['rate']:.4f} an update, about {best['updates']:.0f} updates to a gap of 1e-9 "
        f"(tau {record['tau']:g})"
    )
    table = _table("players")
    for name in ("best step", "rate", "updates"):
        table.add_column(name, justify="right")
    for row in record["rows"]:
        values = [
            "-" if row[key] is None else f"{row[key]:{form}}"
            for key, form in (("eta", ".4g"), ("rate", ".4f"), ("updates", ".0f"))
        ]
        table.add_row(str(row["players"]), *values)
    console.print(table)


def win_matrix(record: dict[str, Any]) -> None:
    """Print win matrices as coloured cells, and their facts."""
    names = record["responses"]
    matrices = np.asarray(record["matrix"])
    wide = len(names) * 5 + max(map(len, names)) + 2 > console.width
    if wide:
        console.print(
            f"[dim]{len(names)} responses are too wide to print here; the picture is in the folder[/dim]"
        )
    else:
        for context, matrix in enumerate(matrices[:6]):
            table = Table(
                box=None, padding=(0, 0), pad_edge=False, show_header=False,
                title=f"context {context}" if len(matrices) > 1 else None,
            )  # fmt: skip
            for number, row in enumerate(matrix):
                cells = [
                    Text(f" {100 * value:3.0f} ", style=_tone(value)) if number != other else Text("  ·  ")
                    for other, value in enumerate(row)
                ]
                table.add_row(Text(f"{names[number]}  "), *cells)
            console.print(table)
        console.print("[dim]row's chance to win against column, in percent, columns in the same order[/dim]")
    _facts(record)


def _facts(record: dict[str, Any]) -> None:
    for context, facts in enumerate(record["facts"][:6]):
        if len(record["facts"]) > 1:
            console.print(f"[bold]context {context}[/bold]")
        winner = facts["condorcet_winner"]
        smith = facts["smith_set"]
        listed = ", ".join(smith[:8]) + (f", .. ({len(smith)} in all)" if len(smith) > 8 else "")
        console.print(f"Condorcet winner: {escape(winner) if winner is not None else 'none'}")
        console.print(f"Smith set: {escape(listed)}")
        example = facts["example_cycle"]
        shown = f", such as {escape(' > '.join([*example, example[0]]))}" if example else ""
        console.print(f"majority cycles of three: {facts['majority_cycles']}{shown}")
        if facts["ties"]:
            console.print(f"even pairs: {facts['ties']}")


def _tone(value: float) -> str:
    strength = min(1.0, 2 * abs(value - 0.5))
    target = PALETTE[1] if value >= 0.5 else PALETTE[0]
    parts = [int(target[place : place + 2], 16) for place in (1, 3, 5)]
    mixed = [round(255 + (part - 255) * strength) for part in parts]
    ink = "white" if strength > 0.7 else "black"
    return f"{ink} on #{mixed[0]:02x}{mixed[1]:02x}{mixed[2]:02x}"


def _table(first: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first)
    return table


def _short(values: Array) -> str:
    flat = np.unique(np.round(np.ravel(values), 12))
    return f"{flat[0]:.6g}" if flat.size == 1 else "(" + ", ".join(f"{v:.6g}" for v in np.ravel(values)) + ")"
