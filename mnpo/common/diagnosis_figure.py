"""The figure of a diagnosis: cyclicity against noise, and the equilibria by number of players."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnpo.common.palette import PALETTE
from mnpo.common.style import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def diagnosis_figure(diagnosis: Mapping[str, Any]) -> Figure:
    """Draw `mnpo.findings.Diagnosis` as plain data."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"font.size": 8, "text.parse_math": False})
    figure = Figure(figsize=(9.5, 2.7), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    rows = diagnosis["transitivity"]
    places = range(len(rows))
    _intervals(first, places, [row["cyclicity"] for row in rows], 0)
    for place, row in enumerate(rows):
        if row["noise"] is not None:
            high = row["noise"]["cyclicity_high"]
            first.hlines(high, place - 0.3, place + 0.3, color="0.4", linestyle="--", linewidth=1)
    first.set_xticks(
        places, [shortened(row["annotator"], 14) for row in rows], rotation=30 if len(rows) > 3 else 0
    )
    first.set_xlim(-0.6, len(rows) - 0.4)
    first.set_ylim(bottom=0)
    first.set_title("cyclicity (dashed: 95% of noise)", fontsize=8)
    found = diagnosis["equilibria"]
    players = [row["players"] for row in found]
    at = range(len(players))
    _intervals(second, at, [row["win_rate"] for row in found], 0, "split: rather low")
    _intervals(second, at, [row["win_rate_in_sample"] for row in found], 1, "in the sample: too high")
    second.axhline(0.5, color="0.6", linewidth=0.8, zorder=0)
    second.set_title("the equilibrium's win rate against the reference", fontsize=8)
    second.legend(frameon=False, fontsize=7)
    _intervals(third, at, [row["effective"] for row in found], 2)
    third.set_ylim(0, 1.1 * max(row["effective"]["high"] or row["effective"]["mean"] for row in found))
    third.set_title("effective number of responses", fontsize=8)
    for axes in (second, third):
        axes.set_xticks(at, [str(n) for n in players])
        axes.set_xlim(-0.6, len(players) - 0.4)
        axes.set_xlabel("players n")
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _intervals(
    axes: Axes,
    places: Sequence[int],
    found: Sequence[Mapping[str, Any]],
    number: int,
    label: str | None = None,
) -> None:
    means = [one["mean"] for one in found]
    below = [0.0 if one["low"] is None else max(0.0, one["mean"] - one["low"]) for one in found]
    above = [0.0 if one["high"] is None else max(0.0, one["high"] - one["mean"]) for one in found]
    axes.errorbar(
        places,
        means,
        [below, above],
        fmt="os^"[number],
        color=PALETTE[number],
        markersize=4,
        capsize=2,
        label=label,
    )
