"""Figures from a run's plain record, so that they can be drawn again without running again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnpo.common.ornaments import add_figures, write_figures
from mnpo.common.tournament_figure import tournament_figures
from mnpo.sim.figures.crosscheck import crosscheck_figures
from mnpo.sim.figures.diagnosis import diagnosis_figures
from mnpo.sim.figures.rates import rates_figures
from mnpo.sim.figures.run import run_figures
from mnpo.sim.figures.study import study_figures
from mnpo.sim.figures.sweeps import sweep_figures
from mnpo.sim.figures.verdicts import verdict_figures
from mnpo.sim.figures.wins import win_figures
from mnpo.sim.reading import load_json
from mnpo.values import shown

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


#: Of the pixels.
DPI = 300


def figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return all figures of a record (`results.json`), by file name without ending.

    Raises:
        ValueError: a record of no kind that has figures.
    """
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"no figures for a record of kind {shown(kind)}; accepted are {', '.join(KINDS)}")
    return KINDS[kind](record)


def save(record: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a record's figures into a folder as PNG and SVG, each whole or not at all, and return the files."""
    return write_figures(figures(record), folder, DPI)


def draw(record: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the figures of results that stand already; see `mnpo.common.ornaments.add_figures`."""
    return add_figures(lambda: figures(record), folder, DPI)


def redraw(folder: Path) -> list[Path]:
    """Draw the figures of a run folder again from its results.json.

    Raises:
        ValueError: the folder holds no results.json.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of a run")
    results = folder / "results.json"
    if not results.exists():
        raise ValueError(f"{folder} holds no results.json")
    record = load_json(results)
    if not isinstance(record, dict):
        raise ValueError(f"{results} is no record of a run: it holds {shown(record)}")
    try:
        return write_figures(figures(record), folder, DPI)
    except OSError:
        raise
    except Exception as error:
        # What draws a record takes it as a run wrote it, and trips over another wherever it differs.
        reason = str(error)[:200]
        raise ValueError(f"{results} is no record of a run: {type(error).__name__} {reason}") from None
