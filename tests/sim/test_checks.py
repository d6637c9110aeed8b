"""The algorithmic unit tests pass the sound, fail Bradley-Terry methods on cycles, and fail what is broken."""

from dataclasses import replace

import pytest

from mnpo import inpo
from mnpo.rules import Own, Reference, UpdateRule, WinRate
from mnpo.sim.checks import check
from mnpo.sim.objective_checks import check_objective
from mnpo.sim.rule_checks import check_rule, verdict_on
from mnpo.sim.unit_tests import UNIT_TESTS, default_step

CYCLIC = ["biased-rps", "dominated-clone", "duplicate"]


@pytest.mark.parametrize("name", ["inpo", "onpo", "egpo", "td-mnpo", "ht-mnpo", "mpo", "omwu", "eo-mnpo"])
def test_sound_rules_pass_everything(name):
    for test in UNIT_TESTS.values():
        verdict = check_rule(name, test, 4000)
        assert verdict.verdict == "equilibrium", verdict


def test_nash_md_passes_with_falling_steps():
    assert check_rule("nash-md", UNIT_TESTS["biased-rps"]).verdict == "equilibrium"


@pytest.mark.parametrize("name", ["mwu", "sppo"])
def test_the_last_iterate_of_multiplicative_weights_does_not_settle(name):
    assert check_rule(name, UNIT_TESTS["biased-rps"]).verdict in ("cycles", "diverges")


@pytest.mark.parametrize("name", ["dpo", "ipo", "r-dpo", "f-dpo-js", "simpo", "cpo", "orpo", "rrhf"])
def test_bradley_terry_methods_miss_the_equilibria_of_cycles(name):
    for test in CYCLIC:
        found = check_objective(name, UNIT_TESTS[test])
        assert found.verdict == "elsewhere", found
        assert found.gap > 1e-3
    if name in ("dpo", "ipo"):
        assert check_objective(name, UNIT_TESTS["transitive"]).verdict == "equilibrium"


def test_the_mnpo_loss_passes_where_its_rule_does():
    for test in CYCLIC:
        assert check_objective("mnpo", UNIT_TESTS[test]).verdict == "equilibrium"


def broken(test):
    """INPO with a wrong sign, with half its target, with the reference forgotten, with misplaced weights."""
    eta = default_step(test)
    sound = inpo(eta, test.tau)
    yield "sign", replace(sound, advantage=((WinRate(), -1.0),))
    yield "target", replace(sound, advantage=((WinRate(), 0.5),))
    yield "reference", replace(sound, anchors=((Own(), 1.0),))
    yield "weight", replace(sound, anchors=((Reference(), 1 - eta * test.tau), (Own(), eta * test.tau)))


def test_broken_rules_fail():
    test = UNIT_TESTS["biased-rps"]
    assert (
        verdict_on("sound", inpo(default_step(test), test.tau), test, test.game(), 4000).verdict
        == "equilibrium"
    )
    for name, rule in broken(test):
        assert isinstance(rule, UpdateRule)
        assert verdict_on(name, rule, test, test.game(), 4000).verdict != "equilibrium", name


def test_slow_is_not_called_cycling():
    test = UNIT_TESTS["rps"]
    assert verdict_on("slow", inpo(0.02, test.tau), test, test.game(), 1000).verdict == "equilibrium"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="did you mean 'td-mnpo'"):
        check(["td-mpno"])
    with pytest.raises(ValueError, match="did you mean 'biased-rps'"):
        check(["inpo"], ["biased-rsp"])
