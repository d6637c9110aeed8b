"""`mnpo sim run`."""

import json

import numpy as np
import pytest

from mnpo.presets import RULES, make_rule
from mnpo.sim.records import as_json


def test_a_run_folder_holds_what_was_run_and_its_figures_can_be_drawn_again(mnpo, tmp_path):
    status, out, err = mnpo(
        "sim", "run", "random:seed=3", "--rule", "td-mnpo", "--players", 3, "--tau", 0.1, "--eta", 0.5,
        "--steps", 40, "--advantage", "population", "--json", "--out", "r",
    )  # fmt: skip
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert len(found["steps"]) == len(found["gap"]) == 41
    assert found["rule"]["name"] == "td-mnpo"
    assert [term["weight"] for term in found["rule"]["advantage"]] == [0.5, 0.5]
    assert found["diverged"] is False
    assert np.shape(found["policies"]) == (3, 1, 10)
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        "config.json", "gap.png", "gap.svg", "results.json"]  # fmt: skip
    before = (tmp_path / "r" / "gap.svg").read_bytes()
    (tmp_path / "r" / "gap.svg").unlink()
    assert mnpo("sim", "plot", "r")[0] == 0
    assert (tmp_path / "r" / "gap.svg").read_bytes() == before


def test_same_seed_same_bytes(mnpo):
    first, again, other = (
        mnpo("sim", "run", "random", "--seed", seed, "--steps", 20, "--json")[1] for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("rule", "typed", "options"),
    [
        ("mpo", ("--refresh", 10), {"refresh": 10}),
        ("td-mnpo", ("--players", 3, "--advantage", "population"), {"players": 3, "advantage": "population"}),
        ("td-mnpo", ("--players", 3, "--weights", "0.7,0.3"), {"players": 3, "weights": [0.7, 0.3]}),
        ("ht-mnpo", ("--anchor", "own"), {"anchor": "own"}),
        ("eo-mnpo", ("--external", "mu.json", "--external-tau", 0.2), {"external_tau": [0.2]}),
    ],
)
def test_an_option_reaches_its_rule(mnpo, tmp_path, rule, typed, options):
    (tmp_path / "mu.json").write_text("[0.2, 0.3, 0.5]")
    arguments = ("--rule", rule, "--tau", 0.1, "--eta", 0.5, "--steps", 3, *typed, "--json", "--out", "r")
    status, out, err = mnpo("sim", "run", "rps", *arguments)
    assert (status, err) == (0, "")
    expected = make_rule(rule, eta=0.5, tau=0.1, **options)
    assert json.loads(out)["rule"] == json.loads(as_json(expected.as_dict()))
    kept = json.loads((tmp_path / "r" / "config.json").read_text())["options"]
    assert options.items() <= kept.items()
    # Options that were left to their defaults are kept with them.
    assert set(RULES[rule].options) <= set(kept)
    resolved = json.loads(out)["resolved"]
    assert options.items() <= resolved.items()


def test_win_rates_can_be_learnt_from_samples_and_the_path_is_kept(mnpo):
    for arguments in (
        ("rps", "--rule", "nash-md", "--samples", 20, "--pairs", "iid", "--soft"),
        ("rps", "--rule", "regret-matching-plus"),
    ):
        status, out, err = mnpo("sim", "run", *arguments, "--steps", 30, "--json")
        assert (status, err) == (0, ""), arguments
        found = json.loads(out)
        assert len(found["gap"]) == len(found["steps"]) == 31
        assert np.shape(found["path"]) == (31, 3)
