"""The headline figure: when do more players help?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnpo.common.palette import PALETTE
from mnpo.common.style import WIDTH, blank
from mnpo.sim.figures.gaps import gap_axes, gap_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def headline_figure(record: dict[str, Any]) -> Figure:
    """When more players help: pairwise oracle, own history as players, population of annotators."""
    figure = blank(2 * WIDTH, 2.8)
    same, past, diverse = figure.subplots(1, 3)
    for number, row in enumerate(record["rows"]):
        label = f"n = {row['players']}"
        gap_line(same, record["steps"], row["pairwise_gap"], number, label, shift=4 * number)
        stepped = f"{label}, η = {row['history_step']:.2g}"
        gap_line(past, record["steps"], row["history_gap"], number, stepped)
    gap_axes(same, "pairwise oracle: n changes nothing")
    gap_axes(past, "own history as players: faster")
    same.set_ylabel("duality gap")
    past.set_ylabel("")
    for axes in (same, past):
        # Below the axes: the lines of the middle panel leave no corner free.
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, frameon=False, fontsize=6)
    players = [row["players"] for row in record["rows"]]
    diverse.plot(players, [row["effective_responses"] for row in record["rows"]], "o-", color=PALETTE[0])
    diverse.set(xlabel="players n", ylabel="effective responses exp(H)", xticks=players)
    diverse.margins(y=0.1)
    diverse.set_ylim(bottom=0)
    diverse.set_title("population oracle: more diverse", fontsize=8)
    return figure
