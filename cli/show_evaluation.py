"""What `mnpo llm tournament` and `benchmark` print for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from mnpo.cli import show_games

console = Console(highlight=False)


def tournament(record: dict[str, Any], home: Path) -> None:
    """Print the players' ranking under each oracle, and where the rest stands."""
    answered = f"{record['prompts']} of {record['asked']} prompts have an answer of all players"
    console.print(f"[dim]{answered}; {record['generations']} response(s) each[/dim]")
    for name, found in record["results"].items():
        console.print(f"[bold]{escape(name)}[/bold]")
        show_games.tournament({**found, "tau": record["tau"], "meet_at_once": record["meet_at_once"]})
        for note in found["notes"]:
            console.print(f"[dim]{escape(note)}[/dim]")
    for pair in record["agreement"]:
        value = "undefined" if pair["kendall"] is None else f"{pair['kendall']:+.2f}"
        console.print(
            f"[dim]rankings of {escape(pair['first'])} and {escape(pair['second'])}: Kendall's tau {value}[/dim]"
        )
    console.print(f"[dim]figures, JSON and games: {escape(str(home))}[/dim]")
