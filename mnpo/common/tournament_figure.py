"""The figure of a tournament: win rates in the order of ratings, and the equilibrium beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.palette import PALETTE
from mnpo.common.style import WIDTH, blank, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Players whose names and numbers there is room for.
NAMED, NUMBERED = 30, 10


def tournament_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of a record of kind "tournament", by name."""
    players = record["players"]
    names = [shortened(row["name"]) for row in players]
    size = len(players)
    matrix = np.array([[np.nan if value is None else value for value in row] for row in record["matrix"]])
    figure = blank(max(WIDTH, 6.0), max(2.6, 0.16 * min(size, NAMED) + 1.4))
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    image = left.imshow(matrix, cmap="PuOr_r", vmin=0, vmax=1)
    places = range(size)
    if size <= NAMED:
        left.set_xticks(places, names, rotation=90)
        left.set_yticks(places, names)
    if size <= NUMBERED:
        for (row, column), value in np.ndenumerate(matrix):
            if row != column and not np.isnan(value):
                tone = "white" if abs(value - 0.5) > 0.33 else "black"
                left.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=tone)
    left.set_ylabel("wins")
    left.set_xlabel("against")
    left.spines[:].set_visible(False)
    figure.colorbar(image, ax=left, label="win rate (blank: never met)", fraction=0.05, pad=0.02)
    lottery = [row["lottery"] for row in players]
    reach = None
    if "lottery_low" in players[0]:
        sides = ([row["lottery"] - row["lottery_low"] for row in players],
                 [row["lottery_high"] - row["lottery"] for row in players])  # fmt: skip
        reach = np.maximum(0.0, sides)
    right.barh(
        places, lottery, xerr=reach, color=PALETTE[0], error_kw={"linewidth": 0.8}, label="maximal lottery"
    )
    if players[0]["equilibrium"] is not None:
        shares = [row["equilibrium"] for row in players]
        right.plot(
            shares,
            list(places),
            "D",
            color=PALETTE[1],
            markersize=4,
            label=f"equilibrium, τ = {record['tau']:g}",
        )
    right.set_ylim(size - 0.5, -0.5)
    right.set_yticks(places, names if size <= NAMED else [""] * size)
    right.set_xlim(left=0)
    right.set_xlabel("share in the equilibrium, 95% interval")
    right.spines[["top", "right"]].set_visible(False)
    if players[0]["equilibrium"] is not None:
        right.legend(frameon=False, fontsize=7)
    return {"tournament": figure}
