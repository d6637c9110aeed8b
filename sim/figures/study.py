"""Figures of a study: two- against n-player play on one game."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.palette import OTHERS, PALETTE
from mnpo.common.style import HATCHES, WIDTH, shortened, single
from mnpo.sim.figures.gaps import game_name, gap_axes, gap_line
from mnpo.sim.figures.headline import headline_figure
from mnpo.sim.figures.wins import win_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def study_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of a record of kind "compare", by name."""
    drawn = {
        "gap": gap_figure(record),
        "composition": composition_figure(record),
        "effective-responses": effective_figure(record),
    }
    if record["win_matrix"]:
        drawn["win-matrix"] = win_figure(record["win_matrix"])
    if record.get("headline"):
        drawn["headline"] = headline_figure(record["headline"])
    return drawn


def gap_figure(record: dict[str, Any]) -> Figure:
    """Duality gap per player against updates, one line a player count."""
    figure, axes = single()
    for number, row in enumerate(record["players"]):
        label = f"n = {row['players']}" + (" (diverged)" if row["diverged"] else "")
        gap_line(axes, row["steps"], row["gap_per_player"], number, label)
    gap_axes(axes, f"{game_name(record)}: TD-MNPO, τ = {record['tau']:g}, η = {record['eta']:g}")
    axes.legend(title="players", frameon=False)
    return figure


def composition_figure(record: dict[str, Any]) -> Figure:
    """What the equilibrium is made of, against the number of players."""
    rows, names = record["players"], record["responses"]
    shares = np.array([row["composition"] for row in rows])
    # The largest get a colour and a name; what is left is one grey share.
    named = [int(index) for index in np.argsort(-shares.max(axis=0)) if shares[:, index].max() > 0.005][:10]
    labels = [shortened(names[index]) for index in named]
    figure, axes = single(width=WIDTH + 0.05 * max(map(len, labels), default=0), height=2.8)
    place, bottom = np.arange(len(rows)), np.zeros(len(rows))
    for number, index in enumerate(named):
        colour = PALETTE[number % len(PALETTE)]
        axes.bar(
            place,
            shares[:, index],
            bottom=bottom,
            color=colour,
            hatch=HATCHES[number // len(PALETTE)],
            edgecolor="white",
            linewidth=0.15,
            width=0.75,
            label=labels[number],
        )
        bottom += shares[:, index]
    rest = 1 - bottom
    if rest.max() > 1e-3:
        axes.bar(place, rest, bottom=bottom, color=OTHERS, width=0.75, label="others")
    axes.set(
        xticks=place,
        xticklabels=[str(row["players"]) for row in rows],
        xlabel="players n",
        ylabel="equilibrium probability",
        ylim=(0, 1),
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, reverse=True, handlelength=1.2)
    axes.set_title(f"{game_name(record)}: equilibrium, τ = {record['tau']:g}", fontsize=8)
    return figure


def effective_figure(record: dict[str, Any]) -> Figure:
    """Effective number of responses, exp(entropy), against the number of players."""
    figure, axes = single()
    players = [row["players"] for row in record["players"]]
    axes.plot(players, [row["effective_responses"] for row in record["players"]], "o-", color=PALETTE[0])
    axes.set(xlabel="players n", ylabel="effective responses exp(H)", xticks=players)
    axes.margins(y=0.08)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{game_name(record)}: equilibrium, τ = {record['tau']:g}", fontsize=8)
    return figure
