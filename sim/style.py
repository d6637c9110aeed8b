"""How figures look: for one column of a two-column paper, in colours that colour-blind readers can tell apart.

The colours are Okabe & Ito's (2008).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 3.5
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
OTHERS = "#BBBBBB"
MARKERS = "osD^vP*X"
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\")
#: Gaps at or below this are rounding; they are drawn here, where the log axis ends.
FLOOR = 1e-17


def blank(width: float = WIDTH, height: float = 2.5) -> Figure:
    """Return an empty figure, sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(
        {
            "font.size": 8,
            "axes.labelsize": 8,
            "legend.fontsize": 7,
            "legend.title_fontsize": 7,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": 1.2,
            "lines.markersize": 3.5,
        }
    )
    return Figure(figsize=(width, height), layout="constrained")
