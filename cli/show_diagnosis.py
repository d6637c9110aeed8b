"""What `mnpo sim diagnose` and `mnpo llm diagnose` print for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from mnpo.cli.escaping import escape

console = Console(highlight=False)


def diagnosis(record: dict[str, Any], cycles: list[dict[str, Any]]) -> None:
    """Print a diagnosis (`mnpo.findings.Diagnosis` as plain data) and the cycles that are spelled out."""
    sizes = ", ".join(f"{count} with K = {size}" for size, count in record["responses"].items())
    console.print(f"prompts: {sizes}; tau {record['tau']:g}")
    table = _table("annotator", "weight", "cyclicity", "by noise", "cyclic triples", "no Condorcet winner")
    for row in record["transitivity"]:
        noise = row["noise"]
        said = (
            "deterministic"
            if noise is None
            else f"{noise['cyclicity']:.3f} (95%: {noise['cyclicity_high']:.3f})"
        )
        table.add_row(
            escape(row["annotator"]), f"{row['weight']:.2f}", _interval(row["cyclicity"]), said,
            _interval(row["triples"]), _interval(row["no_winner"]),
        )  # fmt: skip
    console.print(table)
    if record["disagreement"] is not None:
        console.print(f"pairs that two annotators order differently: {_interval(record['disagreement'])}")
    table = _table("players", "win rate, split", "in the sample", "KL", "effective", "moved", "verified")
    for row in record["equilibria"]:
        table.add_row(
            str(row["players"]),
            *(
                _interval(row[name])
                for name in ("win_rate", "win_rate_in_sample", "kl", "effective", "distance")
            ),
            "yes" if row["verified"] else "[red]no[/red]",
        )
    console.print(table)
    console.print(
        "[dim]win rate against the reference: split is rather low, in the sample too high; KL in nats; moved: "
        "total variation from the equilibrium of two players[/dim]"
    )
    if record["pairwise"]:
        console.print("[dim]judged pair by pair: the number of players changes nothing[/dim]")
    fit = record["fit"]
    console.print(
        f"a Bradley-Terry fit is exploitable by {_interval(fit['exploitability'])} at beta = tau, and by "
        f"{_interval(fit['best_exploitability'])} at its best, beta = {fit['best_temperature']:g}"
    )
    for found in cycles:
        console.print(f"[dim]cycle[/dim] {escape(found['prompt'])}")
        for step in found["cycle"]:
            console.print(
                f"    {escape(step['response'])} [dim]beats the next: {step['beats_next']:.2f}[/dim]"
            )
    advice = record["recommendation"]
    eta = "" if advice["eta"] is None else f", eta up to {advice['eta']:g}"
    console.print(
        f"[bold]recommended: rule {advice['rule']}{eta}, tau {advice['tau']:g}, n = {advice['players']} "
        f"(group_size {advice['group_size']}), K = {advice['responses']}[/bold]"
    )
    for name, reason in advice["reasons"].items():
        console.print(f"    {name}: {escape(reason)}")


def _interval(found: dict[str, float | None]) -> str:
    if found["low"] is None:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} [dim]({found['low']:.2f}–{found['high']:.2f})[/dim]"


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
