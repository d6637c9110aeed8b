"""What `mnpo llm` prints for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console(highlight=False)

#: At most this many steps of a fit are printed.
MOST_STEPS = 12

_SHOWN = {
    "loss": "loss", "margin": "margin", "accuracy": "acc.", "kl": "kl", "logps/chosen": "log π_w",
    "logps/rejected": "log π_l", "length": "length",
}  # fmt: skip


def presets(rows: list[dict[str, Any]]) -> None:
    """Print the packaged configurations."""
    for row in rows:
        rule = row.get("rule")
        how = row["objective"] if rule is None else f"{row['objective']}, {rule['name']}"
        console.print(
            f"[bold]{escape(row['name'])}[/bold]  [dim]{escape(row['model_name_or_path'])}; {how}[/dim]"
        )
        console.print(f"    {escape(row['purpose'])}")


def scored(record: dict[str, Any]) -> None:
    """Print what was scored and where it stands."""
    _rows(record["rows"])
    table = _table("anchor", "scored", "reused", "seconds", "chosen", "rejected", "model")
    for row in record["anchors"]:
        table.add_row(
            row["anchor"], str(row["scored"]), str(row["reused"]), f"{row['seconds']:.1f}",
            f"{row['mean_chosen']:.2f}", f"{row['mean_rejected']:.2f}", escape(row["model"]),
        )  # fmt: skip
    console.print(table)
    console.print(f"[dim]pairs with their scores: {escape(str(record['folder']))}[/dim]")


def fitted(record: dict[str, Any]) -> None:
    """Print the course of training, the held-out pairs and where the model stands."""
    _rows(record["rows"])
    entries = [entry for entry in record["log"] if "loss" in entry]
    table = _table("step", *_SHOWN.values(), "grad", "tok/s")
    if len(entries) > MOST_STEPS:
        entries = [entries[round(i * (len(entries) - 1) / (MOST_STEPS - 1))] for i in range(MOST_STEPS)]
    for entry in entries:
        table.add_row(
            str(entry["step"]), *(f"{entry[name]:.3g}" for name in _SHOWN),
            f"{entry.get('grad_norm', float('nan')):.3g}", f"{entry['tokens_per_second']:.0f}",
        )  # fmt: skip
    held = record["eval"]
    if held:
        table.add_section()
        table.add_row("held out", *(f"{held[name]:.3g}" for name in _SHOWN), "", "")
    console.print(table)
    if record["resumed"] == "complete":
        console.print("[dim]this fit was complete; nothing was done again[/dim]")
    console.print(f"model: {escape(record['model'])}")


def _rows(reports: dict[str, dict[str, Any]]) -> None:
    from mnpo.llm.pairs import Report, describe

    for split, report in reports.items():
        console.print(f"[dim]{split}: {escape(describe(Report.from_dict(report)))}[/dim]")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    words = {"anchor", "model"}
    for column in columns:
        table.add_column(column, justify="left" if column in words else "right", no_wrap=column != "model")
    return table
