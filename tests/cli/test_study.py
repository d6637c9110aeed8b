"""`mnpo sim`, `compare`, `show` and `games`."""

import json

from mnpo.sim.json_oracles import ORACLE_KINDS


def test_default_study_writes_a_run_folder(mnpo, tmp_path):
    status, out, _ = mnpo("sim", "--steps", 50)
    assert status == 0
    assert "effective" in out
    (folder,) = (tmp_path / "runs").iterdir()
    assert {"results.json", "config.json", "gap.png", "composition.svg"} <= {p.name for p in folder.iterdir()}
    rows = json.loads((folder / "results.json").read_text())["players"]
    assert [row["players"] for row in rows] == [2, 3, 4, 6]


MINE = ",x,y,z\nx,0.5,0.7,0.2\ny,0.3,0.5,0.9\nz,0.8,0.1,0.5\n"


def test_a_game_of_ones_own_is_compared(mnpo, tmp_path):
    (tmp_path / "mine.csv").write_text(MINE)
    status, out, _ = mnpo("sim", "compare", "mine.csv", "--players", "2,5", "--json", "--steps", 30)
    assert status == 0
    assert [row["players"] for row in json.loads(out)["players"]] == [2, 5]


def test_the_facts_of_a_win_matrix_are_shown(mnpo, tmp_path):
    (tmp_path / "mine.csv").write_text(MINE)
    found = json.loads(mnpo("sim", "show", "mine.csv", "--json")[1])
    assert found["facts"][0]["majority_cycles"] == 1
    out = mnpo("sim", "show", "mine.csv", "--out", "s")[1]
    assert "Condorcet winner: none" in out
    assert "majority cycles of three: 1, such as x > y > z > x" in out
    assert (tmp_path / "s" / "win-matrix.png").exists()


def test_games_and_kinds_of_oracle_are_listed(mnpo):
    out = mnpo("sim", "games")[1]
    assert "rps" in out
    assert all(kind.name in out and kind.key in out for kind in ORACLE_KINDS.values())
    assert {"name", "summary", "parameters"} <= set(json.loads(mnpo("sim", "games", "--json")[1])[0])
