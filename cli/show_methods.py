"""What commands print for people: update rules and objectives compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnpo.cli.escaping import escape
from mnpo.cli.show import console, table_of
from mnpo.sim.rule_table import SAMPLE


def rules(rows: list[dict[str, Any]]) -> None:
    """Print the update rules."""
    table = table_of("rule")
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
    console.print(
        f"[dim]anchors with their weights at eta {SAMPLE['eta']:g}, tau {SAMPLE['tau']:g}; calls of the oracle per "
        "update[/dim]\n"
    )
    options = table_of("option")
    for name in ("rule", "default", "what it is"):
        options.add_column(name)
    for row in rows:
        for name, option in row["options"].items():
            choices = f" ({' or '.join(option['choices'])})" if option["choices"] else ""
            options.add_row(
                f"[bold]{name}[/bold]",
                row["name"],
                _default(option["default"]),
                escape(option["help"] + choices),
            )
    console.print(options)
    console.print(
        "[dim]besides eta and tau; on the command line --external-tau 0.1, in a configuration "
        "rule.external_tau=0.1[/dim]"
    )


def _default(value: Any) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


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
        table = table_of(kind)
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
    table = table_of("rule")
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
    table = table_of("rule")
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
    table = table_of("players")
    for name in ("best step", "rate", "updates"):
        table.add_column(name, justify="right")
    for row in record["rows"]:
        values = [
            "-" if row[key] is None else f"{row[key]:{form}}"
            for key, form in (("eta", ".4g"), ("rate", ".4f"), ("updates", ".0f"))
        ]
        table.add_row(str(row["players"]), *values)
    console.print(table)
