"""The command `mnpo crosscheck` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnpo import UpdateRule


def test_the_command_keeps_its_record_and_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnpo.cli.main import app, main
    from mnpo.sim.plots import redraw

    out = tmp_path / "run"
    arguments = [
        "crosscheck",
        "inpo",
        "--policy",
        "softmax",
        "--game",
        "rps:contexts=2",
        "--steps",
        "2",
        "--json",
    ]
    app([*arguments, "--out", str(out)], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert [entry["steps"] for entry in rows] == [1, 2]
    assert {"rule", "policy", "feedback", "steps", "tv", "gap_table", "gap_network"} <= set(rows[0])
    assert (out / "gaps.png").is_file()
    assert json.loads((out / "results.json").read_text())["rows"] == rows
    (out / "gaps.svg").unlink()
    assert out / "gaps.svg" in redraw(out)
    wrong = {
        "inpoo": "did you mean 'inpo'?",
        "inpo:players": "a rule's options are written key=value; found 'players'",
        "inpo:anchor=own": "unknown option of rule inpo 'anchor'",
        "inpo:eta=[": "inpo:eta must be a number; found '['",
        "inpo:eta=1,eta=2": "option 'eta' of rule inpo is given twice",
        "inpo --policy gpt": "unknown network 'gpt'",
        "inpo --feedback none": "unknown kind of feedback 'none'",
        "inpo --seed -1": "--seed",
        "inpo --feedback sampled --labels 100": "labels must be at least two different numbers above 0",
        "td-mnpo --game annotators --feedback sampled": "annotators: sampled feedback needs pairwise payoffs",
        "inpo --game random:responses=51": "2 to 50 responses; found 1 and 51",
        "inpo --game committee --tau 0.1 --eta 11": "eta",
        "regret-matching-plus": "not of the form that a network can be trained by",
    }
    for rule, message in wrong.items():
        monkeypatch.setattr("sys.argv", ["mnpo", "crosscheck", *rule.split(), "--out", str(tmp_path / "bad")])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "bad").exists()
    monkeypatch.setattr(UpdateRule, "target", lambda self, gap: 2 * self.eta * gap)
    monkeypatch.setattr("sys.argv", ["mnpo", *arguments[:-3], "--steps", "0", "--out", str(tmp_path / "off")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert "table and network disagree: inpo on softmax" in capsys.readouterr().err
    assert (tmp_path / "off/results.json").is_file()
