"""Figures beside results: they come last, and what goes wrong with them costs nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mnpo.common.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Of every figure: one to look at, one to print.
ENDINGS = ("png", "svg")


def save_figure(draw: Callable[[], Figure], folder: Path, name: str, dpi: int = 150) -> list[Path]:
    """Draw a figure of results that stand already, and save it.

    Whatever fonts, names, numbers or a full disk do to it is told in one line on standard error.

    Args:
        draw: makes it.
        folder: where it goes.
        name: of the files, without their endings.
        dpi: of the pixels.

    Returns:
        The files that were written.
    """
    written = []
    try:
        figure = draw()
        for ending in ENDINGS:
            path = folder / f"{name}.{ending}"
            with whole_file(path) as partial:
                figure.savefig(partial, format=ending, dpi=dpi)
            written.append(path)
    except Exception as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        print(f"mnpo: warning: no figure {folder / name}: {told}", file=sys.stderr)
    return written
