"""The figure of pairwise win matrices, in ColorBrewer's PuOr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.style import WIDTH, blank, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def win_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of a record of kind "show", by name."""
    return {"win-matrix": win_figure(record)}


def win_figure(record: dict[str, Any]) -> Figure:
    """The win matrix of each context (at most six)."""
    matrices = np.asarray(record["matrix"])[:6]
    names = [shortened(name) for name in record["responses"]]
    size = matrices.shape[-1]
    columns = min(3, len(matrices))
    lines = -(-len(matrices) // columns)
    room = 0.055 * max(map(len, names)) if size <= 20 else 0.0
    figure = blank(max(WIDTH, 2.4 * columns + room), max(2.8, 2.4 * lines + room))
    grid = figure.subplots(lines, columns, squeeze=False)
    image = None
    for x, axes in enumerate(grid.ravel()):
        if x >= len(matrices):
            axes.set_axis_off()
            continue
        image = axes.imshow(matrices[x], cmap="PuOr_r", vmin=0, vmax=1)
        if size <= 20:
            axes.set_xticks(
                range(size), names, rotation=90 if size > 4 else 45, ha="center" if size > 4 else "right"
            )
            axes.set_yticks(range(size), names if x % columns == 0 else [""] * size)
        if size <= 8 and len(matrices) == 1:
            for (row, column), value in np.ndenumerate(matrices[x]):
                tone = "white" if abs(value - 0.5) > 0.33 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=tone)
        if len(matrices) > 1:
            axes.set_title(f"context {x}", fontsize=8)
        axes.spines[:].set_visible(False)
    grid[0, 0].set_ylabel("wins")
    grid[-1, 0].set_xlabel("against")
    if image is not None:
        figure.colorbar(image, ax=list(grid.ravel()), label="win probability", fraction=0.05, pad=0.02)
    return figure
