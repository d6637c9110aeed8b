"""The figure of tested oracles: how often they are right when they are sure, and their accuracy by subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from mnpo.common.palette import MARKERS, PALETTE
from mnpo.common.style import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Subsets that are drawn at most, those with most judgments.
MOST = 12


def reliability_figure(tests: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw `mnpo.llm.stages.records.Tested` as plain data."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"font.size": 8, "text.parse_math": False})
    rows = _rows(tests)
    height = max(3.2, 0.7 + 0.11 * len(rows) * (1 + len(tests))) + 0.08 * len(tests)
    figure = Figure(figsize=(9.0, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0.5, 1], [0.5, 1], color="0.6", linewidth=0.8, zorder=0)
    names = [_name(test, tests) for test in tests]
    for k, (test, name) in enumerate(zip(tests, names, strict=True)):
        colour, mark = PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]
        error = f"error {test['as_is']['error']:.3f}"
        if test["rescaled"] is not None:
            _curve(left, test["rescaled"], colour, ":")
            error += f", rescaled {test['rescaled']['error']:.3f}"
        _curve(left, test["as_is"], colour, "-")
        bins = test["as_is"]["bins"]
        sizes = [8 + 80 * share for _, _, share in bins]
        left.scatter([b[0] for b in bins], [b[1] for b in bins], s=sizes, color=colour, marker=mark,
                     label=f"{name}: {error}")  # fmt: skip
    left.set_xlabel("confidence; marks by number of pairs (dotted: at the best scale)")
    left.set_ylabel("how often the favoured response is preferred")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    step = 0.8 / len(tests)
    for k, test in enumerate(tests):
        found = {"all": test["met"], **test["subsets"]}
        for place, row in enumerate(rows):
            if row in found:
                accuracy = found[row]["accuracy"]
                at = place + (k - (len(tests) - 1) / 2) * step
                right.errorbar(
                    accuracy["mean"], at, color=PALETTE[k % len(PALETTE)], marker=MARKERS[k % len(MARKERS)],
                    xerr=[[accuracy["mean"] - accuracy["low"]], [accuracy["high"] - accuracy["mean"]]],
                    markersize=4, linewidth=1,
                )  # fmt: skip
    right.axvline(0.5, color="0.6", linewidth=0.8, zorder=0)
    right.set_yticks(range(len(rows)), [printable(row) for row in rows])
    right.invert_yaxis()
    right.set_xlabel("accuracy, 95% interval")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _rows(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    sizes: dict[str, int] = {}
    for test in tests:
        for name, found in test["subsets"].items():
            sizes[name] = max(sizes.get(name, 0), found["judgments"])
    largest = sorted(sizes, key=lambda name: -sizes[name])[:MOST]
    return ["all", *(name for name in sizes if name in largest)]


def _name(test: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> str:
    several = len({one["data"] for one in tests}) > 1
    name = f"{test['oracle']} on {PurePath(test['data']).name}" if several else str(test["oracle"])
    return printable(name)


def _curve(axes: Axes, found: Mapping[str, Any], colour: str, line: str) -> None:
    confidence, often, _ = zip(*found["bins"], strict=True)
    axes.plot(confidence, often, color=colour, linestyle=line, linewidth=1)
