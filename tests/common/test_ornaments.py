"""A figure that fails costs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mnpo.common.ornaments import add_figures


def fine() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots().set_title("plain")
    return figure


def broken() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots().set_title(r"$\nothing^{$")
    return figure


def undone() -> Figure:
    raise OverflowError("too many\nplayers")


def test_a_figure_is_saved_in_both_forms(tmp_path: Path) -> None:
    assert add_figures(lambda: {"f": fine()}, tmp_path) == [tmp_path / "f.png", tmp_path / "f.svg"]
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("draw", [broken, undone])
def test_one_that_fails_is_told_in_one_line(
    draw: Callable[[], Figure], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": True}):
        assert add_figures(lambda: {"f": draw()}, tmp_path) == []
    told = capsys.readouterr().err
    assert told.startswith("mnpo: the figures could not be drawn: ")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_costs_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert add_figures(lambda: {"f": fine()}, tmp_path / "file") == []
