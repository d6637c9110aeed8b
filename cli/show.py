"""What commands print for people: one game, its equilibrium and a run on it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mnpo.certificates import Certificate
from mnpo.cli.escaping import escape
from mnpo.dynamics import Trajectory
from mnpo.equilibria import Equilibrium
from mnpo.games import Game
from mnpo.numerics import Array

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
    table = table_of("response")
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
    table = table_of("check")
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


def table_of(first: str) -> Table:
    """Return an empty table with its first column."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first)
    return table


def _short(values: Array) -> str:
    flat = np.unique(np.round(np.ravel(values), 12))
    return f"{flat[0]:.6g}" if flat.size == 1 else "(" + ", ".join(f"{v:.6g}" for v in np.ravel(values)) + ")"
