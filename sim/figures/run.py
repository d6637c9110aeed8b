"""Figures of one run of a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.palette import MARKERS, PALETTE
from mnpo.common.style import shortened, single
from mnpo.sim.figures.gaps import game_name, gap_axes, gap_line, per_player

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of a record of kind "run", by name; the triangle where there are three responses."""
    drawn = {"gap": run_figure(record)}
    if record.get("path"):
        drawn["simplex"] = simplex_figure(record)
    return drawn


def run_figure(record: dict[str, Any]) -> Figure:
    """Duality gap per player against updates, last and average iterate."""
    figure, axes = single()
    players = record["players"]
    gap_line(axes, record["steps"], [per_player(gap, players) for gap in record["gap"]], 0, "last iterate")
    if record["average_gap"]:
        gaps = [per_player(gap, players) for gap in record["average_gap"]]
        gap_line(axes, record["steps"], gaps, 1, "average iterate")
    taus = sorted(set(record["tau"]))
    eta = record["rule"]["eta"]
    step = "" if eta is None else f", η = {eta:g}"
    strength = f", τ = {taus[0]:g}" if len(taus) == 1 else ""
    gap_axes(axes, f"{game_name(record)}: {record['rule']['name']}, n = {players}{strength}{step}")
    axes.legend(frameon=False)
    return figure


def simplex_figure(record: dict[str, Any]) -> Figure:
    """Last and average iterate of the first player on the triangle of three responses."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    figure, axes = single(height=3.1)
    axes.add_patch(_triangle(corners))
    for number, (name, path) in enumerate((("last iterate", "path"), ("average iterate", "average_path"))):
        if not record.get(path):
            continue
        points = np.asarray(record[path]) @ corners
        axes.plot(*points.T, color=PALETTE[number], linewidth=0.8, label=name)
        axes.plot(*points[-1], MARKERS[number], color=PALETTE[number], markersize=5)
    axes.plot(*(np.asarray(record["path"][0]) @ corners), "k+", label="start")
    places = (("right", "top"), ("left", "top"), ("center", "bottom"))
    for corner, name, (across, along) in zip(corners, record["responses"], places, strict=True):
        axes.annotate(shortened(name), corner, ha=across, va=along, fontsize=7)
    axes.set_aspect("equal")
    axes.set(xlim=(-0.15, 1.15), ylim=(-0.12, 1.0))
    axes.set_axis_off()
    axes.set_title(f"{game_name(record)}: {record['rule']['name']}", fontsize=8)
    axes.legend(frameon=False, fontsize=6, loc="upper left")
    return figure


def _triangle(corners: Any) -> Any:
    from matplotlib.patches import Polygon

    return Polygon(corners, fill=False, edgecolor="black", linewidth=0.8)
