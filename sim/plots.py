"""Figures from a run's plain record, so that they can be drawn again without running again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnpo.common.files import whole_file
from mnpo.common.tournament_figure import tournament_figures
from mnpo.sim.figures.crosscheck import crosscheck_figures
from mnpo.sim.figures.diagnosis import diagnosis_figures
from mnpo.sim.figures.rates import rates_figures
from mnpo.sim.figures.run import run_figures
from mnpo.sim.figures.study import study_figures
from mnpo.sim.figures.sweeps import sweep_figures
from mnpo.sim.figures.verdicts import verdict_figures
from mnpo.sim.figures.wins import win_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What draws the figures of a record, by the record's kind.
KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Figure]]] = {
    "check": verdict_figures,
    "compare": study_figures,
    "crosscheck": crosscheck_figures,
    "crosscheck-oracles": lambda _: {},  # a table says it all
    "diagnose": diagnosis_figures,
    "rates": rates_figures,
    "run": run_figures,
    "show": win_figures,
    "sweep": sweep_figures,
    "tournament": tournament_figures,
}


def figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return all figures of a record (`results.json`), by file name without ending.

    Raises:
        ValueError: a record of no kind that has figures.
    """
    kind = record.get("kind")
    if kind not in KINDS:
        raise ValueError(f"no figures for a record of kind {kind!r}; accepted are {', '.join(KINDS)}")
    return KINDS[kind](record)


def save(record: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a record's figures into a folder as PNG and SVG, each whole or not at all, and return the files."""
    import matplotlib

    files = []
    # Text stays text in the SVG, and the same record gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mnpo"}):
        for name, figure in figures(record).items():
            for ending in ("png", "svg"):
                files.append(folder / f"{name}.{ending}")
                metadata = {"Date": None} if ending == "svg" else None
                with whole_file(files[-1]) as partial:
                    figure.savefig(partial, format=ending, dpi=300, metadata=metadata)
    return files


def redraw(folder: Path) -> list[Path]:
    """Draw the figures of a run folder again from its results.json.

    Raises:
        ValueError: the folder holds no results.json.
    """
    results = folder / "results.json"
    if not results.is_file():
        raise ValueError(f"{folder} holds no results.json")
    try:
        return save(json.loads(results.read_text(encoding="utf-8")), folder)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{results} is no record of a run: {type(error).__name__} {error}") from None
