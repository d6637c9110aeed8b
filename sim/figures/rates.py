"""Figures of predicted rates: rate against step, and the region of stable steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.style import line_style, marker, single
from mnpo.sim.figures.gaps import game_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rates_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of a record of kind "rates", by name."""
    return {"rates": rates_figure(record), "stable-region": region_figure(record)}


def rates_figure(record: dict[str, Any]) -> Figure:
    """Predicted shrinking of the distance in one update against step; a line ends where its rule is unstable."""
    figure, axes = single(height=2.8)
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in record["rows"]:
        label = f"td-mnpo, n = {row['players']}" if row["rule"] == "td-mnpo" else row["rule"]
        label += " (inpo)" if label == "td-mnpo, n = 2" else ""
        lines.setdefault(label, []).append((row["eta"], 1 - row["rate"] if row["stable"] else np.nan))
    for number, (label, points) in enumerate(lines.items()):
        eta, shrinking = zip(*points, strict=True)
        axes.plot(eta, shrinking, label=label, **line_style(number))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="step η", ylabel="shrinking an update, 1 - |z|")
    axes.set_title(f"{game_name(record)}, τ = {record['tau']:g}", fontsize=8)
    axes.legend(frameon=False, fontsize=6)
    return figure


def region_figure(record: dict[str, Any]) -> Figure:
    """The stable-region map: below its line a rule with n players is stable, for each τ."""
    figure, axes = single(height=2.8)
    omega = record["frequency"]
    by_players: dict[int, list[tuple[float, float]]] = {}
    for row in record["region"]:
        by_players.setdefault(row["players"], []).append((row["tau"] / omega, row["largest"] * omega))
    for number, (n, points) in enumerate(sorted(by_players.items())):
        strength, step = zip(*sorted(points), strict=True)
        axes.plot(
            strength,
            [value if value > 0 else np.nan for value in step],
            **line_style(number),
            marker=marker(number),
            label=f"n = {n}" + (" (inpo)" if n == 2 else ""),
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="τ/ω", ylabel="largest stable step ηω")
    axes.set_title(f"{game_name(record)}: td-mnpo is stable below its line", fontsize=8)
    axes.legend(frameon=False, fontsize=6)
    return figure
