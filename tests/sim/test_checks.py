"""The algorithmic unit tests pass the sound, fail Bradley-Terry methods on cycles, and fail what is broken."""

from dataclasses import replace

import pytest

from mnpo import inpo, make_rule
from mnpo.rules import Own, Reference, UpdateRule, WinRate
from mnpo.sim.checks import CASES, check, check_objective, check_rule, default_step, judge
from mnpo.sim.load import load_game
from mnpo.sim.rate_tables import rate_table, recommend
from mnpo.sim.rule_table import rule_rows

CYCLIC = ["biased-rps", "dominated-clone", "duplicate"]


@pytest.mark.parametrize("name", ["inpo", "onpo", "egpo", "td-mnpo", "ht-mnpo", "mpo", "omwu", "eo-mnpo"])
def test_sound_rules_pass_everything(name):
    for verdict in check([name], steps=4000):
        if verdict.kind == "rule":
            assert verdict.verdict == "equilibrium", verdict


def test_nash_md_passes_with_falling_steps():
    assert check_rule("nash-md", CASES["biased-rps"]).verdict == "equilibrium"


@pytest.mark.parametrize("name", ["mwu", "sppo"])
def test_the_last_iterate_of_multiplicative_weights_does_not_settle(name):
    assert check_rule(name, CASES["biased-rps"]).verdict in ("cycles", "diverges")


@pytest.mark.parametrize("name", ["dpo", "ipo", "r-dpo", "f-dpo-js", "simpo", "cpo", "orpo", "rrhf"])
def test_bradley_terry_methods_miss_the_equilibria_of_cycles(name):
    for test in CYCLIC:
        found = check_objective(name, CASES[test])
        assert found.verdict == "elsewhere", found
        assert found.gap > 1e-3
    if name in ("dpo", "ipo"):
        assert check_objective(name, CASES["transitive"]).verdict == "equilibrium"


def test_the_mnpo_loss_passes_where_its_rule_does():
    for test in CYCLIC:
        assert check_objective("mnpo", CASES[test]).verdict == "equilibrium"


def broken(case):
    """INPO with a wrong sign, with half its target, with the reference forgotten, with misplaced weights."""
    eta = default_step(case)
    sound = inpo(eta, case.tau)
    yield "sign", replace(sound, advantage=((WinRate(), -1.0),))
    yield "target", replace(sound, advantage=((WinRate(), 0.5),))
    yield "reference", replace(sound, anchors=((Own(), 1.0),))
    yield "weight", replace(sound, anchors=((Reference(), 1 - eta * case.tau), (Own(), eta * case.tau)))


def test_broken_rules_fail():
    case = CASES["biased-rps"]
    assert (
        judge("sound", inpo(default_step(case), case.tau), case, case.game(), 4000).verdict == "equilibrium"
    )
    for name, rule in broken(case):
        assert isinstance(rule, UpdateRule)
        assert judge(name, rule, case, case.game(), 4000).verdict != "equilibrium", name


def test_slow_is_not_called_cycling():
    case = CASES["rps"]
    assert judge("slow", inpo(0.02, case.tau), case, case.game(), 1000).verdict == "equilibrium"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="did you mean 'td-mnpo'"):
        check(["td-mpno"])
    with pytest.raises(ValueError, match="did you mean 'biased-rps'"):
        check(["inpo"], ["biased-rsp"])


def test_rates_of_a_game():
    record = rate_table(load_game("random:responses=6"), tau=0.02, players=[2, 4], points=9)
    assert {"rule", "players", "eta", "rate", "stable"} <= set(record["rows"][0])
    two, four, onpo, egpo = record["summary"]
    assert four["rate"] < two["rate"]
    assert four["stable_steps"][-1][1] > two["stable_steps"][-1][1]
    assert egpo["oracle_calls"] == pytest.approx(2 * egpo["updates"])
    assert onpo["rate"] < 1
    with pytest.raises(ValueError, match="tau above 0"):
        rate_table(load_game("random"), tau=0.0)


def test_recommendation():
    record = recommend(load_game("random:responses=6"), "td-mnpo", tau=0.02, players=[2, 4])
    assert record["best"]["players"] == 4
    with pytest.raises(ValueError, match="no history weights"):
        recommend(load_game("random"), "inpo", tau=0.02, weights=True)


def test_the_table_of_rules_is_read_off_the_rules():
    rows = {row["name"]: row for row in rule_rows()}
    assert rows["egpo"]["oracle_calls"] == 2
    assert all(rows[name]["oracle_calls"] == 1 for name in rows if name != "egpo")
    assert rows["inpo"]["anchors"] == "reference 0.05, own (lag 0) 0.95"
    assert make_rule("mpo", eta=0.5, tau=0.1).refresh == 50
