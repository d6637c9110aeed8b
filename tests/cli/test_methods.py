"""`mnpo sim rules`, `rates`, `check`, `tune` and `sweep`."""

import json


def test_rules_are_listed(mnpo):
    rows = json.loads(mnpo("sim", "rules", "--json")[1])
    assert {"nash-md", "egpo", "regret-matching-plus"} <= {row["name"] for row in rows}
    assert "egpo" in mnpo("sim", "rules")[1]


def test_rates_are_printed_and_drawn(mnpo, tmp_path):
    status, out, err = mnpo("sim", "rates", "rps", "--tau", 0.05, "--players", "2,4", "--json", "--out", "r")
    assert (status, err) == (0, "")
    assert {"rule", "players", "eta", "rate", "stable"} <= set(json.loads(out)["rows"][0])
    assert (tmp_path / "r" / "stable-region.png").exists()


def test_checks_give_verdicts_on_rules_and_objectives(mnpo):
    _, out, _ = mnpo("sim", "check", "onpo", "simpo", "--test", "biased-rps", "--json", "--out", "c")
    verdicts = {(row["rule"], row["kind"]): row["verdict"] for row in json.loads(out)["rows"]}
    assert verdicts["onpo", "rule"] == verdicts["onpo", "objective"] == "equilibrium"
    assert verdicts["simpo", "objective"] == "elsewhere"
    assert "equil." in mnpo("sim", "check", "onpo", "--test", "biased-rps", "--out", "d")[1]


def test_a_tuned_rule_converges(mnpo):
    arguments = ("sim", "tune", "rps", "--tau", 0.05, "--players", "2,4")
    assert json.loads(mnpo(*arguments, "--json")[1])["best"]["rate"] < 1
    assert "players" in mnpo(*arguments)[1]


def test_a_sweep_leaves_a_table_and_can_be_called_again(mnpo, tmp_path):
    arguments = (
        "sim",
        "sweep",
        "rps",
        "--rules",
        "inpo",
        "--players",
        2,
        "--seeds",
        3,
        "--steps",
        20,
        "--out",
        "s",
    )
    assert mnpo(*arguments)[0] == 0
    assert mnpo(*arguments)[0] == 0
    assert {"results.parquet", "sweep-1.png", "results.json"} <= {p.name for p in (tmp_path / "s").iterdir()}
