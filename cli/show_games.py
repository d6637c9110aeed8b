"""What commands print for people: the catalogue, win matrices, and a study of several numbers of players."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from mnpo.cli.escaping import escape
from mnpo.cli.show import console, table_of
from mnpo.common.palette import PALETTE
from mnpo.sim.catalogue import CatalogueGame
from mnpo.sim.json_oracles import OracleKind


def catalogue(entries: Mapping[str, CatalogueGame], kinds: Mapping[str, OracleKind]) -> None:
    """Print the catalogue, and the kinds of oracle of which a JSON file can make a game."""
    table = table_of("game")
    table.add_column("parameters and defaults")
    table.add_column("what it is")
    for entry in entries.values():
        parameters = ", ".join(f"{name}={value}" for name, value in entry.parameters.items())
        table.add_row(f"[bold]{entry.name}[/bold]", parameters, escape(entry.summary))
    console.print(table)
    console.print("[dim]write a game as name:key=value,key=value, for instance rps:bias=0.2[/dim]\n")
    written = table_of("oracle")
    for name in ("key", "what stands there"):
        written.add_column(name)
    for kind in kinds.values():
        written.add_row(f"[bold]{kind.name}[/bold]", kind.key, escape(kind.holds))
    console.print(written)
    example = escape('{"oracle": "plackett-luce", "utilities": [1.0, 0.0, -0.5]}')
    console.print(f"[dim]a game of your own is a .json file, for instance {example}[/dim]")


def tournament(record: dict[str, Any]) -> None:
    """Print players with their ratings and shares in the equilibrium, and what no rating shows."""
    rated = record["players"][0]["rating"] is not None
    table = table_of("player")
    first = record["players"][0]
    at_equal_lengths = all(row.get("controlled_rating") is not None for row in record["players"])
    further = [
        (title, key)
        for title, key in (
            (f"τ = {record['tau']:g}", "equilibrium"),
            (f"n = {record.get('meet_at_once')}", "group_equilibrium"),
            ("mixture", "win_rate_against_mixture"),
        )
        if first.get(key) is not None
    ]
    columns = ["rating"] * rated + ["at equal length"] * at_equal_lengths + ["win rate", "lottery"]
    columns += [title for title, _ in further]
    # Where there is no room, the numbers are worth more than their intervals.
    intervals = "win_rate_low" in first and console.width >= 40 + 18 * (len(columns) - len(further))
    for name in (*columns, "against it", "exploit."):
        table.add_column(name, justify="right")

    def shown(row: Mapping[str, Any], name: str, form: str) -> str:
        value = format(row[name], form)
        if intervals and f"{name}_low" in row:
            value += f" ({format(row[f'{name}_low'], form)}–{format(row[f'{name}_high'], form)})"
        return value

    for row in record["players"]:
        cells = [shown(row, "rating", ".0f")] if rated else []
        cells += [shown(row, "controlled_rating", ".0f")] if at_equal_lengths else []
        cells += [shown(row, "win_rate", ".3f"), shown(row, "lottery", ".3f")]
        cells += [f"{row[key]:.3f}" for _, key in further]
        table.add_row(
            escape(row["name"]),
            *cells,
            f"{row['win_rate_against_lottery']:.3f}",
            f"{row['exploitability']:.3f}",
        )
    console.print(table)
    if record["condorcet_winner"] is not None:
        console.print(f"{escape(record['condorcet_winner'])} beats every other player")
    if record["example_cycle"] is not None:
        support = (
            "" if record["cycle_support"] is None else f", in {record['cycle_support']:.0%} of resamples"
        )
        around = " > ".join([*record["example_cycle"], record["example_cycle"][0]])
        console.print(f"{record['cycles']} cycles of three, such as {escape(around)}{support}")


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
    facts(record)


def facts(record: dict[str, Any]) -> None:
    """Print the facts of win matrices, by context."""
    for context, found in enumerate(record["facts"][:6]):
        if len(record["facts"]) > 1:
            console.print(f"[bold]context {context}[/bold]")
        winner = found["condorcet_winner"]
        smith = found["smith_set"]
        listed = ", ".join(smith[:8]) + (f", .. ({len(smith)} in all)" if len(smith) > 8 else "")
        console.print(f"Condorcet winner: {escape(winner) if winner is not None else 'none'}")
        console.print(f"Smith set: {escape(listed)}")
        example = found["example_cycle"]
        shown = f", such as {escape(' > '.join([*example, example[0]]))}" if example else ""
        console.print(f"majority cycles of three: {found['majority_cycles']}{shown}")
        if found["ties"]:
            console.print(f"even pairs: {found['ties']}")


def _tone(value: float) -> str:
    strength = min(1.0, 2 * abs(value - 0.5))
    target = PALETTE[1] if value >= 0.5 else PALETTE[0]
    parts = [int(target[place : place + 2], 16) for place in (1, 3, 5)]
    mixed = [round(255 + (part - 255) * strength) for part in parts]
    ink = "white" if strength > 0.7 else "black"
    return f"{ink} on #{mixed[0]:02x}{mixed[1]:02x}{mixed[2]:02x}"


def comparison(record: dict[str, Any]) -> None:
    """Print the table of a study."""
    if record.get("headline"):
        headline(record["headline"])
    wins = record["win_matrix"]
    console.print(f"\n[bold]{escape(record['game'])}[/bold]")
    if wins:
        facts(wins)
    table = table_of("players")
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


def headline(record: dict[str, Any]) -> None:
    """Print the table of the headline figure."""
    console.print("[bold]When do more players help?[/bold]")
    table = table_of("players")
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
