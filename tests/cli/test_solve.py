"""`mnpo sim solve` and `verify`."""

import json

import numpy as np

from support import SUSHI, needs_data


def test_solve_prints_json_and_verify_reads_it(mnpo, tmp_path):
    status, out, err = mnpo(
        "sim", "solve", "rps:bias=0.2", "--players", 3, "--tau", 0.05, "--json", "--out", "e.json"
    )
    assert (status, err) == (0, "")
    found = json.loads(out)
    wanted = {"policies", "exploitability", "nash_conv", "dual_gap", "value", "residual", "method", "iterations",
              "seconds", "certificate", "responses", "players", "tau"}  # fmt: skip
    assert wanted <= set(found)
    assert np.shape(found["policies"]) == (3, 1, 3)
    assert len(found["exploitability"]) == len(found["value"]) == 3
    assert found["dual_gap"] is None
    assert found["certificate"]["holds"]
    assert json.loads((tmp_path / "e.json").read_text()) == found
    assert mnpo("sim", "verify", "rps:bias=0.2", "e.json")[0] == 0
    # another game, τ or number of players: not its equilibrium
    assert mnpo("sim", "verify", "rps:bias=0.1", "e.json")[0] == 1
    status, out, _ = mnpo("sim", "verify", "rps:bias=0.2", "e.json", "--tau", 0.2, "--json")
    assert status == 1
    assert not json.loads(out)["holds"]
    assert mnpo("sim", "verify", "rps:bias=0.2", "e.json", "--tau", 0.2, "--tol", 1)[0] == 0


def test_two_players_have_a_duality_gap(mnpo):
    found = json.loads(mnpo("sim", "solve", "random", "--tau", 0.05, "--json")[1])
    assert 0 <= found["dual_gap"] < 1e-12
    assert found["players"] == 2


@needs_data
def test_sushi_has_the_equilibria_of_the_study(mnpo):
    """The table of docs/study.md, to two decimals."""
    expected = {2: 1.46, 3: 3.53, 4: 5.03, 6: 6.58, 10: 7.95}
    for players, effective in expected.items():
        status, out, _ = mnpo("sim", "solve", SUSHI, "--players", players, "--tau", 0.05, "--json")
        policy = np.array(json.loads(out)["policies"])[0, 0]
        assert status == 0
        assert f"{np.exp(-(policy * np.log(policy)).sum()):.2f}" == f"{effective:.2f}"


def test_verify_takes_the_reference_that_was_solved_with(mnpo, tmp_path):
    (tmp_path / "ref.csv").write_text("0.2,0.3,0.5\n")
    assert (
        mnpo("sim", "solve", "rps", "--tau", "0.1,0.3", "--reference", "ref.csv", "--out", "e.json")[0] == 0
    )
    assert mnpo("sim", "verify", "rps", "e.json")[0] == 0
    assert mnpo("sim", "solve", "rps", "--tol", 0, "--json")[0] == 1


def test_a_reference_and_unequal_taus_change_the_equilibrium(mnpo, tmp_path):
    (tmp_path / "ref.json").write_text("[0.2, 0.3, 0.5]")
    uniform = json.loads(mnpo("sim", "solve", "rps", "--json")[1])["policies"]
    given = json.loads(mnpo("sim", "solve", "rps", "--reference", "ref.json", "--json")[1])["policies"]
    assert not np.allclose(uniform, given)
    unequal = json.loads(mnpo("sim", "solve", "rps", "--tau", "0.1,0.3", "--json")[1])
    assert unequal["tau"] == [0.1, 0.3]
    assert not np.allclose(unequal["policies"][0], unequal["policies"][1])


def test_out_never_replaces_a_link_or_a_device(mnpo, tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert mnpo("sim", "solve", "rps", "--out", "link.json")[0] == 0
    assert (tmp_path / "link.json").is_symlink()
    assert "policies" in json.loads((tmp_path / "real.json").read_text())
    (tmp_path / "null").symlink_to("/dev/null")
    assert mnpo("sim", "solve", "rps", "--out", "null")[0] == 0
    assert (tmp_path / "null").is_char_device()
