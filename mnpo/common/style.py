"""How figures look: for one column of a two-column paper, in colours that colour-blind readers can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnpo.common.palette import MARKERS, PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Width of a figure in inches.
WIDTH = 3.5
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\")
#: Gaps at or below this are rounding; they are drawn here, where the log axis ends.
GAP_FLOOR = 1e-17


def blank(width: float = WIDTH, height: float = 2.5) -> Figure:
    """Return an empty figure, sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(
        {
            "font.size": 8,
            "text.parse_math": False,  # a dollar in a name is a dollar
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


def single(width: float = WIDTH, height: float = 2.5) -> tuple[Figure, Any]:
    """Return a figure with one pair of axes, sizes in inches."""
    figure = blank(width, height)
    return figure, figure.subplots()


def line_style(number: int) -> dict[str, Any]:
    """Return colour and dashes of the line with this number among several."""
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": LINES[number % len(LINES)]}


def marker(number: int) -> str:
    """Return the mark of the line with this number among several."""
    return MARKERS[number % len(MARKERS)]


def printable(name: str) -> str:
    """Return a name as a figure can show it: control characters and halves of characters become U+FFFD."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def shortened(name: str, width: int = 18) -> str:
    """Return a name with at most `width` characters, all of them printable."""
    name = printable(name)
    return name if len(name) <= width else name[: width - 1] + "…"
