"""Figures of a cross-check's record: trajectories of table and networks, and errors in the number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.sim.style import FLOOR, MARKERS, PALETTE, WIDTH, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panels side by side.
_COLUMNS = 4


def crosscheck_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures that a record of kind "crosscheck" has, by name."""
    drawn = {}
    if record["curves"]:
        drawn["gaps"] = gaps_figure(record["curves"])
    if record["errors"]:
        drawn["labels"] = labels_figure(record["errors"])
    return drawn


def gaps_figure(curves: list[dict[str, Any]]) -> Figure:
    """Duality gap against updates: a panel a rule, the table as a line, a mark for each network.

    Networks start where they are, so the table's line is drawn from each one's start.
    """
    rules = list(dict.fromkeys(curve["rule"] for curve in curves))
    kinds = list(dict.fromkeys(curve["policy"] for curve in curves))
    figure, panels = _panels(len(rules))
    for axes, rule in zip(panels, rules, strict=True):
        for curve in curves:
            if curve["rule"] != rule:
                continue
            number = kinds.index(curve["policy"])
            updates, colour = curve["updates"], PALETTE[number % len(PALETTE)]
            axes.plot(updates, np.maximum(curve["gap_table"], FLOOR), color=colour, linewidth=0.9)
            every = max(1, len(updates) // 7)
            axes.plot(
                updates, np.maximum(curve["gap_network"], FLOOR), MARKERS[number], color=colour, mfc="none",
                markevery=(number * every // max(len(kinds), 1), every), label=curve["policy"],
            )  # fmt: skip
        axes.set_yscale("log")
        axes.set_title(rule, fontsize=7)
        axes.set_xlabel("updates")
    panels[0].set_ylabel("duality gap (NashConv)")
    panels[0].legend(frameon=False, fontsize=6, title="line: table; marks:", title_fontsize=6)
    return figure


def labels_figure(errors: list[dict[str, Any]]) -> Figure:
    """Error of one update against m: a panel a rule and network, a line an estimator, and slope −1/2."""
    shown = list(dict.fromkeys((row["rule"], row["policy"]) for row in errors))
    figure, panels = _panels(len(shown))
    for axes, (rule, kind) in zip(panels, shown, strict=True):
        rows = [row for row in errors if (row["rule"], row["policy"]) == (rule, kind)]
        for number, row in enumerate(rows):
            colour = PALETTE[number % len(PALETTE)]
            label = row["estimator"] + ("" if row["unbiased"] else " (biased)")
            axes.plot(
                row["labels"],
                row["tv_limit"],
                MARKERS[number] + "-",
                color=colour,
                label=label,
                linewidth=0.9,
            )
            if not row["unbiased"]:
                axes.axhline(row["bias"], color=colour, linewidth=0.8, linestyle=":")
        counts = np.asarray(rows[0]["labels"], dtype=float)
        guide = np.exp(np.mean([np.log(row["tv_limit"]) for row in rows], axis=0)[0])
        axes.plot(counts, guide * np.sqrt(counts[0] / counts), color="0.5", linewidth=0.7, linestyle="--")
        axes.set(xscale="log", yscale="log", xlabel="pairs per context m")
        axes.set_title(f"{rule}, {kind}", fontsize=7)
    panels[0].set_ylabel("TV to what is taught\n(dotted: bias; dashed: slope −1/2)")
    panels[0].legend(frameon=False, fontsize=6)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, count)
    lines = -(-count // columns)
    width = WIDTH if count == 1 else 1.9 * columns
    figure = blank(width, 2.5 if count == 1 else 1.8 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.ravel()[count:]:
        axes.set_axis_off()
    return figure, list(grid.ravel()[:count])
