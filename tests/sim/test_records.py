"""Run folders and result files."""

import json

import numpy as np
import pytest

from mnpo.sim.records import as_json, default_folder, run_folder, write_file


def make(folder):
    folder.mkdir()
    return folder


def test_a_run_folder_appears_whole_and_says_how_it_was_made(tmp_path):
    folder = tmp_path / "deep" / "run"
    config = {"seed": 1}
    with run_folder(folder, config) as partial:
        (partial / "x").write_text("1")
        config["tau"] = 0.1  # known only when the run is over
        assert not folder.exists()
    kept = json.loads((folder / "config.json").read_text())
    assert (kept["seed"], kept["tau"]) == (1, 0.1)
    assert {"python", "numpy"} <= set(kept["versions"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "x"]


def test_a_run_that_fails_leaves_no_folder_and_none_above_it(tmp_path):
    with pytest.raises(RuntimeError, match="halfway"), run_folder(tmp_path / "deep" / "run", {}):
        raise RuntimeError("halfway")
    assert list(tmp_path.iterdir()) == []


def test_a_run_never_replaces_what_is_there(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with run_folder(folder, {}):
        pass  # an empty one is taken
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    with pytest.raises(ValueError, match="not an empty folder"), run_folder(folder, {}):
        pass
    # Nor what comes while it runs.
    other = tmp_path / "other"
    with pytest.raises(OSError, match="not empty"), run_folder(other, {}):
        write_file(make(other) / "mine", "x")
    assert [path.name for path in other.iterdir()] == ["mine"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot write"), run_folder(tmp_path / "file" / "run", {}):
        pass


def test_a_result_file_that_cannot_be_written_is_refused(tmp_path):
    write_file(tmp_path / "f", "text")
    assert (tmp_path / "f").read_text() == "text"
    for path in (tmp_path / "f" / "g", tmp_path, tmp_path / "none" / "g"):
        with pytest.raises(ValueError, match="cannot write"):
            write_file(path, "text")


def test_default_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken = default_folder("run")
    taken.mkdir(parents=True)
    assert default_folder("run") != taken


def test_numbers_that_are_not_finite_are_null():
    assert json.loads(as_json({"x": [float("nan"), np.inf, 1.5], 2: (1,)})) == {
        "x": [None, None, 1.5],
        "2": [1],
    }
