"""What a rule says of its options is all that the command line knows of them."""

import json
from typing import Annotated

import pytest

from mnpo import inpo
from mnpo.cli.main import app
from mnpo.cli.rule_options import COMMON
from mnpo.options import Option
from mnpo.presets import RULES, Preset, _Eta, _Tau


@pytest.fixture
def toy(monkeypatch):
    """A rule with an option that nothing else knows; yields what it was built with."""
    built = []

    def build(
        eta: _Eta,
        tau: _Tau,
        zeal: Annotated[str, Option("how eager it is", ("calm", "hasty"))] = "calm",
        odd_numbers: Annotated[list[float] | None, Option("for nothing")] = None,
    ):
        built.append((zeal, odd_numbers))
        return inpo(eta, tau)

    monkeypatch.setitem(RULES, "toy", Preset("toy", build, "a toy", "nowhere", False))
    return built


def test_a_new_rules_option_is_in_the_help(mnpo, toy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    out = mnpo("sim", "run", "--help")[1]
    for text in ("--zeal", "calm|hasty", "toy: how eager it is", "(calm)", "--odd-numbers"):
        assert text in out


def test_a_new_rules_option_is_in_the_table_of_rules(mnpo, toy, monkeypatch):
    rows = {row["name"]: row for row in json.loads(mnpo("sim", "rules", "--json")[1])}
    assert rows["toy"]["options"]["zeal"] == {
        "help": "how eager it is", "type": "text", "choices": ["calm", "hasty"], "required": False, "default": "calm",
    }  # fmt: skip
    monkeypatch.setenv("COLUMNS", "160")
    assert "how eager it is (calm or hasty)" in mnpo("sim", "rules")[1]


def test_a_new_rules_option_is_passed_to_it(mnpo, toy):
    arguments = ("sim", "run", "rps", "--rule", "toy", "--steps", 3, "--json")
    assert mnpo(*arguments, "--zeal", "hasty", "--odd-numbers", "1,3")[0] == 0
    assert toy == [("hasty", [1.0, 3.0])]
    assert mnpo(*arguments)[0] == 0
    assert toy[-1] == ("calm", None)


def test_a_bad_value_names_the_option_and_the_nearest_choice(mnpo, toy):
    status, _, err = mnpo("sim", "run", "rps", "--rule", "toy", "--zeal", "hsty")
    assert status == 2
    assert err == "mnpo: --zeal: unknown value 'hsty'; did you mean 'hasty'?\n"


def test_no_rules_option_hides_one_of_the_commands_own():
    import typer

    run = typer.main.get_command(app).commands["sim"].commands["run"]
    own = {param.name for param in run.params}
    taken = {name for preset in RULES.values() for name in preset.options} & own
    assert taken == set(COMMON)
