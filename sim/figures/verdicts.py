"""The figure of the algorithmic unit tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.common.palette import PALETTE
from mnpo.common.style import WIDTH, single

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERDICT_COLOURS = {
    "equilibrium": PALETTE[2], "elsewhere": PALETTE[4], "cycles": PALETTE[3], "diverges": PALETTE[1]
}  # fmt: skip


def verdict_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of a record of kind "check", by name."""
    return {"verdicts": verdict_figure(record)}


def verdict_figure(record: dict[str, Any]) -> Figure:
    """The verdict table as a picture: a row a method, a column a test, the gap's power of ten in the cell."""
    from matplotlib.patches import Patch

    methods = list(dict.fromkeys((row["kind"], row["method"]) for row in record["rows"]))
    tests = [name for name in record["tests"] if any(row["test"] == name for row in record["rows"])]
    figure, axes = single(width=max(WIDTH, 1.6 + 0.55 * len(tests)), height=1.4 + 0.17 * len(methods))
    for row in record["rows"]:
        x, y = tests.index(row["test"]), methods.index((row["kind"], row["method"]))
        axes.add_patch(_cell(x, y, VERDICT_COLOURS[row["verdict"]]))
        gap = row["gap"]
        text = "nan" if gap is None else "0" if gap < 1e-16 else f"1e{round(float(np.log10(gap)))}"
        axes.text(x, y, text, ha="center", va="center", fontsize=5, color="white")
    axes.set(xlim=(-0.5, len(tests) - 0.5), ylim=(len(methods) - 0.5, -0.5))
    axes.set_xticks(range(len(tests)), tests, rotation=60, ha="right")
    axes.set_yticks(range(len(methods)), [f"{name} ({kind})" for kind, name in methods], fontsize=6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    handles = [Patch(color=colour, label=name) for name, colour in VERDICT_COLOURS.items()]
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def _cell(x: int, y: int, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, color=colour, linewidth=0)
