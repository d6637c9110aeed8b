"""Figures of a cross-check's record: trajectories of table and networks, and errors in the number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.palette import MARKERS, PALETTE
from mnpo.common.style import GAP_FLOOR, WIDTH, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panels side by side.
_COLUMNS = 5


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
        for curve in (curve for curve in curves if curve["rule"] == rule):
            number = kinds.index(curve["policy"])
            updates, every = curve["updates"], max(1, len(curve["updates"]) // 7)
            axes.plot(
                updates, np.maximum(curve["gap_table"], GAP_FLOOR), color=PALETTE[number], linewidth=0.9
            )
            axes.plot(
                updates, np.maximum(curve["gap_network"], GAP_FLOOR), MARKERS[number], color=PALETTE[number],
                mfc="none", markevery=(number * every // max(len(kinds), 1), every), label=curve["policy"],
            )  # fmt: skip
        axes.set_yscale("log")
        axes.set(xlabel="updates")
        axes.set_title(rule.replace(",", ",\n"), fontsize=6)
    _key(figure, panels, "duality gap (NashConv)", [("table", "-")])
    return figure


def labels_figure(errors: list[dict[str, Any]]) -> Figure:
    """Error of one update against m: a panel a rule and network, a line an estimator, and slope −1/2."""
    shown = list(dict.fromkeys((row["rule"], row["policy"]) for row in errors))
    names = list(dict.fromkeys(row["estimator"] for row in errors))
    low = min(min(row["tv_limit"]) for row in errors)
    high = max(max(*row["tv_limit"], row["bias"]) for row in errors)
    figure, panels = _panels(len(shown))
    for axes, (rule, kind) in zip(panels, shown, strict=True):
        rows = [row for row in errors if (row["rule"], row["policy"]) == (rule, kind)]
        for row in rows:
            number = names.index(row["estimator"])
            colour, mark = PALETTE[number], MARKERS[number]
            axes.plot(
                row["labels"],
                row["tv_limit"],
                mark + "-",
                color=colour,
                label=row["estimator"],
                linewidth=0.9,
            )
            if not row["unbiased"]:
                axes.axhline(row["bias"], color=colour, linewidth=0.8, linestyle=":")
        counts = np.asarray(rows[0]["labels"], dtype=float)
        guide = np.exp(np.mean([np.log(row["tv_limit"]) for row in rows], axis=0)[0])
        axes.plot(counts, guide * np.sqrt(counts[0] / counts), color="0.5", linewidth=0.7, linestyle="--")
        axes.set(xscale="log", yscale="log", xlabel="pairs per context m", ylim=(low / 2, 2 * high))
        axes.set_title(f"{rule}\n{kind}", fontsize=6)
    _key(figure, panels, "error (TV)", [("its bias", ":"), ("slope −1/2", "--")])
    return figure


def _key(figure: Figure, panels: list[Axes], name: str, lines: list[tuple[str, Any]]) -> None:
    """Name the axis on the left, and below all panels what marks and lines mean."""
    from matplotlib.lines import Line2D

    panels[0].set_ylabel(name)
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    found |= {label: Line2D([], [], color="0.4", linestyle=style, linewidth=0.9) for label, style in lines}
    figure.legend(
        list(found.values()), list(found), loc="outside lower center", ncols=6, frameon=False, fontsize=6
    )


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, count)
    lines = -(-count // columns)
    width = WIDTH if count == 1 else 1.7 * columns
    figure = blank(width, 2.7 if count == 1 else 1.8 * lines + 0.3)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.ravel()[count:]:
        axes.set_axis_off()
    return figure, list(grid.ravel()[:count])
