"""The figure of a run: win rates, gaps, KL and loss across iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mnpo.common.ornaments import add_figures
from mnpo.common.palette import MARKERS, PALETTE
from mnpo.common.style import printable

#: The figure's name, without its ending.
FIGURE = "iterations"

_LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")

Choice = TypeVar("Choice")


def draw(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw a run's record into `folder`, as PNG and SVG; return the files.

    Args:
        record: of `mnpo.llm.loop.train`.
        folder: where the figures go.
    """
    if not record["iterations"]:
        return []
    return add_figures(lambda: {FIGURE: _figure(record)}, folder)


def _figure(record: Mapping[str, Any]) -> Figure:
    rows = record["iterations"]
    gaps = any(found for row in rows for found in row["gap"].values())
    count = 5 if gaps else 4
    rcParams["text.parse_math"] = False  # a dollar in a name is a dollar
    figure = Figure(figsize=(3.125 * count, 3.8), layout="constrained")
    axes = figure.subplots(1, count)
    axes[1].sharey(axes[0])
    for axis, rival in zip(axes, ("reference", "previous"), strict=False):
        _win_rates(axis, record, rival)
    _numbers(axes[2], record, "kl", "log π/π_ref of a response, mean (nats)")
    _numbers(axes[3], record, "loss", "loss at the end of the fit")
    if gaps:
        _brackets(axes[4], record)
    for axis in axes:
        axis.set_xlabel("iteration")
        axis.set_xticks(sorted({row["iteration"] for row in rows}))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("win rate, 95% interval")
    figure.legend(handles=_key(record), loc="outside lower center", ncols=8, frameon=False, fontsize=8)
    return figure


def _key(record: Mapping[str, Any]) -> list[Line2D]:
    """Colours are players, marks are oracles."""
    oracles = list(record["iterations"][0]["win_rate"]["reference"])
    players = record["players"] if len(record["players"]) > 1 else []
    lines = [
        Line2D([], [], color=_of(PALETTE, i), label=f"player {printable(name)}")
        for i, name in enumerate(players)
    ]
    colour = "0.3" if players else PALETTE[0]
    marks = [
        Line2D(
            [],
            [],
            color=colour,
            marker=_of(MARKERS, i),
            linestyle=_of(_LINES, i),
            markersize=5,
            label=f"judged by {printable(name)}",
        )
        for i, name in enumerate(oracles)
    ]
    return [*lines, *marks]


def _win_rates(axis: Axes, record: Mapping[str, Any], rival: str) -> None:
    rows = record["iterations"]
    oracles = list(rows[0]["win_rate"][rival])
    lines = [(i, j) for i in range(len(record["players"])) for j in range(len(oracles))]
    for place, (i, j) in enumerate(lines):
        player, oracle = record["players"][i], oracles[j]
        found = [
            (row["iteration"], row["win_rate"][rival][oracle]) for row in rows if row["player"] == player
        ]
        nudge = 0.16 * (place - (len(lines) - 1) / 2) / max(len(lines) - 1, 1)
        at = [t + nudge for t, _ in found]
        means = [rate["mean"] for _, rate in found]
        below = [rate["mean"] - rate["low"] for _, rate in found]
        above = [rate["high"] - rate["mean"] for _, rate in found]
        axis.errorbar(
            at, means, [below, above], color=_of(PALETTE, i), marker=_of(MARKERS, j), linestyle=_of(_LINES, j),
            markersize=4, linewidth=1.1, elinewidth=0.8, capsize=1.5,
        )  # fmt: skip
    axis.axhline(0.5, color="0.6", linewidth=0.8, zorder=0)
    axis.set_title(f"against the {rival} policy", fontsize=9)


def _brackets(axis: Axes, record: Mapping[str, Any]) -> None:
    """A band from split to plug-in for each player and oracle, with their intervals."""
    rows, measures, taus = record["iterations"], [], []
    for i, player in enumerate(record["players"]):
        for j, oracle in enumerate(rows[0]["gap"]):
            known = [(row["iteration"], row["gap"].get(oracle)) for row in rows if row["player"] == player]
            found = [(t, gap) for t, gap in known if gap is not None]
            if not found:
                continue
            at = [t for t, _ in found]
            sides = {side: [gap[side]["mean"] for _, gap in found] for side in ("plug_in", "split")}
            colour = _of(PALETTE, i if len(record["players"]) > 1 else j)
            axis.fill_between(at, sides["split"], sides["plug_in"], color=colour, alpha=0.2, linewidth=0)
            for side, means in sides.items():
                reach = [
                    [abs(gap[side][end] - gap[side]["mean"]) for _, gap in found] for end in ("low", "high")
                ]
                axis.errorbar(
                    at, means, reach, color=colour, marker=_of(MARKERS, j), linestyle=_of(_LINES, j),
                    markersize=4, linewidth=1.1, elinewidth=0.8, capsize=1.5,
                )  # fmt: skip
            measures += [gap["measure"] for _, gap in found]
            taus += [gap["tau"] for _, gap in found]
    axis.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    strengths = ", ".join(f"{tau:.3g}" for tau in dict.fromkeys(taus))
    axis.set_title(f"{', '.join(dict.fromkeys(measures))} at τ = {strengths}, split to plug-in", fontsize=9)


def _numbers(axis: Axes, record: Mapping[str, Any], name: str, title: str) -> None:
    for place, player in enumerate(record["players"]):
        found = [(row["iteration"], row[name]) for row in record["iterations"] if row["player"] == player]
        axis.plot(*zip(*found, strict=True), color=_of(PALETTE, place), marker=".", linewidth=1.2)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0), max(high, 0))
    axis.set_title(title, fontsize=9)


def _of(choices: Sequence[Choice], place: int) -> Choice:
    return choices[place % len(choices)]
