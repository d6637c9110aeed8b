"""The table, what was left out, and what the figures are against the goal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

#: The goal: of the matrix rate, of TRL's tokens per second, and of its memory at most.
SHARE, SPEED, MEMORY = 0.4, 1.5, 1.0


def _digits(pattern: str) -> Callable[[Any], str]:
    return lambda value: "" if value is None else pattern.format(value)


COLUMNS: list[tuple[str, str, Callable[[Any], str]]] = [
    ("pairs", "pairs", _digits("{}")),
    ("seconds", "seconds", _digits("{:.3g}")),
    ("tokens_per_s", "tokens/s", _digits("{:,.0f}")),
    ("computed_per_s", "computed/s", _digits("{:,.0f}")),
    ("share", "of matrix rate", _digits("{:.0%}")),
    ("peak_gb", "peak GB", _digits("{:.2f}")),
    ("note", "", lambda value: value or ""),
]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows that were measured as a table in Markdown."""
    body = [
        [row["name"], *(shown(row.get(key)) for key, _, shown in COLUMNS)]
        for row in map(_with_verdict, rows)
        if row["state"] == "done"
    ]
    cells = [["what", *(title for _, title, _ in COLUMNS)], *body]
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(cells[0]))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def left_out(rows: Sequence[dict[str, Any]]) -> str:
    """Return what has no figures, a line each with its reason; nothing if there is nothing."""
    lines = [
        f"* {row['name']}: {'failed, ' if row['state'] == 'failed' else ''}{row['reason']}"
        for row in rows
        if row["state"] != "done"
    ]
    return "\n".join(["Left out, and why:", "", *lines]) if lines else "Nothing was left out."


def verdict(rows: Sequence[dict[str, Any]], gpu: bool) -> str:
    """Return how mnpo stands against the matrix rate, TRL and all logits, under each attention and lengths."""
    lines = []
    fits = [row for row in rows if row["part"] == "fit" and row["state"] == "done"]
    kinds = dict.fromkeys((row["case"]["attention"], row["case"]["mixed"]) for row in fits)
    for attention, mixed in kinds:
        alike = [r for r in fits if (r["case"]["attention"], r["case"]["mixed"]) == (attention, mixed)]
        ours = [row for row in alike if row["case"]["who"] == "mnpo" and not row["case"]["checkpointing"]]
        if not ours:
            continue
        # Of the largest batches: that is what the others were given.
        best = max(ours, key=lambda row: (row["pairs"], row["tokens_per_s"]))
        wanted = f" (goal {SHARE:.0%})" if gpu else ""
        lines.append(f"* {best['name']}: {best['share']:.0%} of the matrix rate{wanted}")
        for other in (row for row in alike if row["case"]["who"] != "mnpo"):
            speed = best["tokens_per_s"] / other["tokens_per_s"]
            line = f"    * {speed:.2f} times the tokens/s of {other['case']['who']}"
            goal = gpu and other["case"]["who"] == "TRL"
            line += f" (goal {SPEED})" if goal else ""
            if best["pairs"] == other["pairs"]:
                line += f", {best['peak_gb'] / other['peak_gb']:.2f} of its memory"
                line += f" (goal {MEMORY:g} at most)" if goal else ""
            else:
                line += f"; memory is not compared: {best['pairs']} and {other['pairs']} pairs"
            lines.append(line)
    lines.append("" if gpu else "\nMeasured on a CPU: nothing about GPUs follows from these figures.")
    return "\n".join(lines)


def _with_verdict(row: dict[str, Any]) -> dict[str, Any]:
    if row["part"] == "rate" and row["state"] == "done":
        return row | {"note": f"{row['matrix_rate'] / 1e12:.3g} TFLOP/s, {row['note']}"}
    if row["part"] == "agreement" and row["state"] == "done":
        return row | {"note": ("agrees; " if row["agrees"] else "DOES NOT AGREE; ") + row["note"]}
    return row
