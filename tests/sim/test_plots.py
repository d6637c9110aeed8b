"""Figures are drawn from plain records, again and again to the same bytes."""

import json

import numpy as np
import pytest

from mnpo.sim import plots
from mnpo.sim.catalogue import make_game
from mnpo.sim.figures.headline import headline_figure
from mnpo.sim.records import as_json
from mnpo.sim.studies import play, win_record


def run_record(name, **options):
    found = play(make_game(name), "inpo", steps=20, **options)
    return json.loads(as_json({"kind": "run", "game": name, **found.as_dict()}))


def test_a_record_gives_the_same_bytes_each_time(tmp_path):
    record = run_record("rps")
    files = plots.save(record, tmp_path)
    assert {file.name for file in files} == {"gap.png", "gap.svg", "simplex.png", "simplex.svg"}
    assert all(file.stat().st_size > 2000 for file in files)
    before = {file: file.read_bytes() for file in files}
    (tmp_path / "results.json").write_text(json.dumps(record))
    assert plots.redraw(tmp_path) == files
    assert {file: file.read_bytes() for file in files} == before


def test_the_triangle_is_for_three_responses_only():
    assert set(plots.figures(run_record("cycle"))) == {"gap"}


def test_games_with_many_contexts_and_responses_can_be_drawn():
    for name in ("random:responses=30", "rps:contexts=8", "committee"):
        record = {"kind": "show", "game": name, **win_record(make_game(name))}
        (figure,) = plots.figures(record).values()
        panels = [axes for axes in figure.axes if axes.images]
        assert len(panels) == min(6, len(record["matrix"]))


def test_an_unknown_kind_of_record_is_refused():
    with pytest.raises(
        ValueError,
        match="accepted are check, compare, crosscheck, crosscheck-oracles, diagnose, rates, run, show, sweep",
    ):
        plots.figures({"kind": "solve"})


def test_a_record_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no results\.json"):
        plots.redraw(tmp_path)
    (tmp_path / "results.json").write_text('{"kind": "run"}')
    with pytest.raises(ValueError, match="is no record of a run"):
        plots.redraw(tmp_path)


def test_no_legend_of_the_headline_lies_on_a_curve():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    steps = list(range(0, 1500, 5))
    rows = [
        {"players": n, "pairwise_gap": np.exp(-0.01 * np.array(steps)).tolist(), "history_step": 0.5,
         "history_gap": np.exp(-speed * np.array(steps)).tolist(), "effective_responses": n}
        for n, speed in ((2, 0.008), (3, 0.02), (4, 0.1), (6, 0.06))
    ]  # fmt: skip
    figure = headline_figure({"steps": steps, "rows": rows})
    FigureCanvasAgg(figure).draw()
    legends = 0
    for axes in figure.axes:
        if axes.get_legend() is not None:
            legends += 1
            box = axes.get_legend().get_window_extent()
            for line in axes.get_lines():
                points = axes.transData.transform(np.column_stack(line.get_data()))
                assert not any(box.contains(*point) for point in points)
    assert legends == 2
