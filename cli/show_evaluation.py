"""What `mnpo llm tournament` and `mnpo llm benchmark` print for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from mnpo.cli import show_games
from mnpo.cli.escaping import escape
from mnpo.cli.show import table_of

console = Console(highlight=False)

#: Columns of benchmarks' statistics: key, title, format; those that nobody has are left out.
_COLUMNS = (
    ("lc_win_rate", "LC win rate", ".2f"),
    ("style_controlled", "style-controlled", ".2f"),
    ("win_rate", "win rate", ".2f"),
    ("score", "score", ".2f"),
    ("low", "from", ".2f"),
    ("high", "to", ".2f"),
    ("standard_error", "error", ".2f"),
    ("instructions", "instructions", "d"),
    ("questions", "questions", "d"),
    ("judged", "judged", "d"),
    ("unjudged", "unjudged", "d"),
    ("unparsed", "unparsed", "d"),
    ("refused", "refused", "d"),
    ("retried", "retried", "d"),
    ("contradicted", "contradicted", "d"),
)


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


def statistics(record: Mapping[str, Any]) -> None:
    """Print one benchmark's statistics of each model, with the protocol."""
    models = record["models"]
    shown = [one for one in _COLUMNS if any(row.get(one[0]) is not None for row in models.values())]
    table = table_of("model")
    for _, title, _ in shown:
        table.add_column(title, justify="right")
    for name, row in sorted(models.items(), key=lambda one: -(one[1].get(shown[0][0]) or 0)):
        cells = ["" if row.get(key) is None else format(row[key], form) for key, _, form in shown]
        table.add_row(escape(name), *cells)
    console.print(table)
    console.print(f"[dim]{escape(record['protocol'])}[/dim]")
    if "judge" in record:
        whose = f"judge {record['judge']}; judge prompts: {record['judge_prompts']}"
        console.print(f"[dim]{escape(whose)}[/dim]")
    for note in [*record["notes"], *dict.fromkeys(row["note"] for row in models.values() if row.get("note"))]:
        console.print(f"[dim]{escape(note)}[/dim]")


def benchmarked(record: Mapping[str, Any], home: Path) -> None:
    """Print every benchmark that was run, and the paper's tables where there are several."""
    for suite, found in record["suites"].items():
        console.print(f"[bold]{suite}[/bold], {record['protocol']}, {found['questions']} questions")
        statistics(found)
    for title, rows in record["tables"].items():
        console.print(f"[bold]{escape(title)}[/bold]")
        table = table_of("model")
        for name in rows["columns"]:
            table.add_column(name, justify="right")
        for row in rows["rows"]:
            cells = ["" if value is None else f"{value:.2f}" for value in row["values"]]
            table.add_row(escape(f"{row['name']}  [{row['source']}]"), *cells)
        console.print(table)
    console.print(f"[dim]answers, judgments, JSON and tables: {escape(str(home))}[/dim]")


def academic(record: Mapping[str, Any]) -> None:
    """Print what lm-evaluation-harness measured."""
    models = record["models"]
    table = table_of("benchmark")
    for name in ("metric", "shots", "questions", *models):
        table.add_column(escape(name), justify="right")
    for title in dict.fromkeys(title for rows in models.values() for title in rows):
        rows = [found.get(title) for found in models.values()]
        first = next(row for row in rows if row is not None)
        cells = ["" if row is None else f"{row['value']:.2f}" + _error(row) for row in rows]
        about = (str(first["metric"]), str(first["shots"]), str(first["count"]))
        table.add_row(escape(title), *map(escape, about), *cells)
    console.print(table)
    for note in (record["protocol"], *record["notes"]):
        console.print(f"[dim]{escape(note)}[/dim]")


def _error(row: Mapping[str, Any]) -> str:
    return "" if row["standard_error"] is None else f" ± {row['standard_error']:.2f}"
