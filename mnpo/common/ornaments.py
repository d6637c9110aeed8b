"""Figures beside results: they come last, and what goes wrong with them costs nothing else."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mnpo.common.files import whole_file
from mnpo.common.style import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Of every figure: one to look at, one to print.
ENDINGS = ("png", "svg")


def add_figures(draw: Callable[[], Mapping[str, Figure]], folder: Path, dpi: int = 150) -> list[Path]:
    """Draw the figures of results that stand already: what goes wrong is warned of, and costs nothing.

    Args:
        draw: makes them, by file name without ending.
        folder: where they go.
        dpi: of the pixels.

    Returns:
        The files that were written; none where something went wrong.
    """
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            files = write_figures(draw(), folder, dpi)
        except Exception as error:
            # Fonts, sizes, texts and disks can fail in as many ways as there are; the results are worth more.
            _warn(f"could not be drawn: {error or type(error).__name__}")
            return []
    if warned:
        _warn(f"may lack something: {warned[0].message}")
    return files


def write_figures(drawn: Mapping[str, Figure], folder: Path, dpi: int) -> list[Path]:
    """Write figures as PNG and SVG, each whole or not at all; the same ones give the same bytes.

    Raises:
        Exception: whatever the drawing library makes of them.
    """
    import matplotlib

    files = []
    # Text stays text in the SVG.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mnpo"}):
        for name, figure in drawn.items():
            for ending in ENDINGS:
                files.append(folder / f"{name}.{ending}")
                metadata = {"Date": None} if ending == "svg" else None
                with whole_file(files[-1]) as partial:
                    figure.savefig(partial, format=ending, dpi=dpi, metadata=metadata)
    return files


def _warn(text: str) -> None:
    print(f"mnpo: the figures {printable(' '.join(text.split())[:200])}", file=sys.stderr)
