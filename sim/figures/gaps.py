"""Duality gaps against updates: the axes that several figures share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.style import GAP_FLOOR, line_style, marker, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gap_line(
    axes: Axes, steps: list[int], gaps: list[float | None], number: int, label: str, shift: int = 0
) -> None:
    """Draw gaps against updates.

    Args:
        axes: where.
        steps: updates at which the gap was recorded.
        gaps: the gaps; None where there is none.
        number: the line's among several.
        label: the line's in the legend.
        shift: records before the first mark, so that the marks of lines that coincide do not.
    """
    values = np.array([np.nan if gap is None else max(gap, GAP_FLOOR) for gap in gaps])
    axes.plot(
        steps,
        values,
        **line_style(number),
        marker=marker(number),
        markevery=(shift, max(1, len(steps) // 8)),
        label=label,
    )


def gap_axes(axes: Axes, title: str) -> None:
    """Name the axes, and take the vertical one in logarithms."""
    axes.set_yscale("log")
    axes.set(xlabel="updates", ylabel="duality gap per player (NashConv / n)")
    axes.set_title(title, fontsize=8)
    if axes.get_ylim()[0] < 10 * GAP_FLOOR:
        axes.set_ylim(bottom=GAP_FLOOR / 3)


def per_player(gap: float | None, players: int) -> float | None:
    """Return each player's share of a gap."""
    return None if gap is None else gap / players


def game_name(record: dict[str, Any]) -> str:
    """Return the name of a record's game without its folder."""
    return shortened(Path(record["game"]).name, 28)
