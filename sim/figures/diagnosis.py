"""The figure of a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnpo.common.diagnosis_figure import diagnosis_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def diagnosis_figures(record: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of a record of kind "diagnose", by name."""
    return {"diagnosis": diagnosis_figure(record)}
