"""Figures and tables are ornaments: whatever stands in names, and however drawing fails, the results are there."""

import json
import math

import pytest

from mnpo.sim import plots

NAMES = [
    "$x$", "$\\frac{1", "[red]x[/red]", "[/]", "\x1b[31mred", "a\nb", "\x00", "\ud800", "\U0001f600", "漢字", "‮abc",
    "x" * 3000, "\\", "_^", "%s{0}", " ", "\u200b", "#", "\x7f", "\r",
]  # fmt: skip


def write_game(folder):
    size = len(NAMES)
    matrix = [[0.5 + 0.3 * math.sin(2.1 * (j - i)) for j in range(size)] for i in range(size)]
    game = {"oracle": "pairwise", "matrix": matrix, "responses": NAMES}
    (folder / "g[b]$x$.json").write_text(json.dumps(game))
    votes = [
        {"model_a": one, "model_b": NAMES[(i + k) % size], "winner": "model_a" if k < 3 else "tie"}
        for i, one in enumerate(NAMES)
        for k in (1, 2, 5)
    ]
    (folder / "v$.jsonl").write_text("\n".join(map(json.dumps, votes)))


@pytest.mark.parametrize(
    "command",
    [
        ("solve", "g[b]$x$.json"),
        ("run", "g[b]$x$.json", "--steps", 3, "--out", "o"),
        ("compare", "g[b]$x$.json", "--players", "2,3", "--steps", 3, "--out", "o"),
        ("show", "g[b]$x$.json", "--out", "o"),
        ("diagnose", "g[b]$x$.json", "--out", "o"),
        ("tournament", "v$.jsonl", "--draws", 3, "--out", "o"),
    ],
    ids=lambda command: command[0],
)
def test_hostile_names_have_no_effect(mnpo, tmp_path, command):
    write_game(tmp_path)
    status, out, err = mnpo("sim", *command)
    assert status == 0, err
    assert "\x1b" not in out + err
    assert "\x00" not in out
    if command[0] in ("solve", "tournament"):
        assert "[red]x[/red]" in out
        assert "$x$" in out
    assert err.count("\n") <= 1
    if command[0] != "solve":
        assert json.loads((tmp_path / "o" / "results.json").read_text(encoding="utf-8"))["kind"] == command[0]
        assert list((tmp_path / "o").glob("*.png"))


@pytest.mark.parametrize(
    "command", [("run", "rps", "--steps", 3), ("show", "rps"), ("sweep", "rps", "--seeds", 1)]
)
def test_a_figure_that_fails_costs_a_line_and_nothing_else(mnpo, tmp_path, monkeypatch, command):
    def fails(record):
        raise RuntimeError("the font\nis gone")

    monkeypatch.setitem(plots.KINDS, command[0], fails)
    status, out, err = mnpo("sim", *command, "--out", "o")
    assert status == 0
    assert err == "mnpo: the figures could not be drawn: the font is gone\n"
    assert "rps" in out or "rock" in out
    assert json.loads((tmp_path / "o" / "results.json").read_text())["kind"] == command[0]


def test_results_go_where_a_link_leads(mnpo, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to("far")
    status, _, err = mnpo("sim", "show", "rps", "--out", "near")
    assert (status, err) == (0, "")
    assert (tmp_path / "near").is_symlink()
    assert (tmp_path / "far" / "results.json").is_file()


def test_work_that_is_long_says_so(mnpo, monkeypatch):
    from mnpo.common import progress

    monkeypatch.setattr(progress, "SILENT", 0.05)
    monkeypatch.setattr(progress, "EVERY", 0.05)
    status, out, err = mnpo("sim", "run", "rps", "--steps", 8000, "--json")
    assert status == 0
    assert json.loads(out)["steps"][-1] == 8000
    assert err.startswith("mnpo sim run: at work for 0 s")
    assert "td-mnpo: " in err
    assert "of 8000, about" in err
