"""A figure that fails costs nothing but itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mnpo.common.ornaments import save_figure


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
    assert save_figure(fine, tmp_path, "f") == [tmp_path / "f.png", tmp_path / "f.svg"]
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("draw", [broken, undone])
def test_one_that_fails_is_told_in_one_line(
    draw: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": True}):
        assert save_figure(draw, tmp_path, "f") == []  # type: ignore[arg-type]  # of a parameter
    told = capsys.readouterr().err
    assert told.startswith("mnpo: warning: no figure ")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_costs_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert save_figure(fine, tmp_path / "file", "f") == []
