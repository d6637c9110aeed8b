"""Figures of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.style import GAP_FLOOR, line_style, shortened, single
from mnpo.sim.figures.gaps import gap_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sweep_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return a figure a game and τ: gap per player against oracle calls, median and quartiles over seeds."""
    drawn: dict[str, Figure] = {}
    panels: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for curve in record["curves"]:
        panels.setdefault((curve["game"], curve["tau"]), []).append(curve)
    for place, ((game, tau), curves) in enumerate(panels.items()):
        figure, axes = single(height=2.8)
        # Each rule is shown at its best step: the one that needs the fewest calls.
        best: dict[tuple[str, int], dict[str, Any]] = {}
        for curve in curves:
            name = (curve["rule"], curve["players"])
            if name not in best or _last(curve) < _last(best[name]):
                best[name] = curve
        for number, ((rule, players), curve) in enumerate(best.items()):
            look = line_style(number)
            low, middle, high = (
                np.array([np.nan if g is None else max(g / players, GAP_FLOOR) for g in curve[name]])
                for name in ("low", "median", "high")
            )
            label = f"{rule}, n = {players}, η = {curve['eta']:g}"
            axes.plot(curve["oracle_calls"], middle, label=label, **look)
            axes.fill_between(curve["oracle_calls"], low, high, color=look["color"], alpha=0.2, linewidth=0)
        gap_axes(axes, f"{shortened(Path(game).name, 28)}, τ = {tau:g}, {curves[0]['seeds']} seeds")
        axes.set_xlabel("oracle calls")
        axes.legend(frameon=False, fontsize=6)
        drawn[f"sweep-{place + 1}"] = figure
    return drawn


def _last(curve: dict[str, Any]) -> tuple[float, float]:
    """Oracle calls to a median gap of 1e-9, and the last median gap: less is better."""
    gaps = [float("inf") if gap is None else float(gap) for gap in curve["median"]]
    reached = [calls for calls, gap in zip(curve["oracle_calls"], gaps, strict=True) if gap < 1e-9]
    return (reached[0] if reached else float("inf"), gaps[-1])
