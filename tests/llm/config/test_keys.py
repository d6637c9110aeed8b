"""Every key is defined once, with its comment and with who may set it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from mnpo.llm.config import load, presets, to_yaml
from mnpo.llm.config.keys import Section
from mnpo.llm.config.training import FIXED, Training, arguments
from mnpo.llm.config.whole import SECTIONS, Config, Place, key_at, owners
from mnpo.llm.iterations import check_scopes

OURS = {name: kind for name, kind in SECTIONS.items() if issubclass(kind, Section)}
KEYS = [(section, name, key) for section, kind in OURS.items() for name, key in kind.known_keys().items()]


def test_every_section_has_its_place_in_the_configuration() -> None:
    assert [field.name for field in dataclasses.fields(Config)] == list(SECTIONS)
    assert set(SECTIONS) - set(OURS) == {"training"}
    assert SECTIONS["training"] is Training


@pytest.mark.parametrize(("section", "name", "key"), KEYS, ids=[f"{s}.{n}" for s, n, _ in KEYS])
def test_every_key_has_a_comment_and_a_scope(section: str, name: str, key: Any) -> None:
    assert 0 < len(key.about) <= 200
    assert "\n" not in key.about
    assert not key.about.endswith(".")
    assert key.scope in ("run", "player", "iteration")
    assert key_at(Place(section, name)) is key


def test_no_two_sections_have_the_same_key() -> None:
    names = [name for _, name, _ in KEYS]
    assert len(names) == len(set(names)) == len(owners())
    known = {*arguments(), *FIXED}
    # output_dir is transformers' as well, which mnpo sets there: the run's own folder.
    assert set(names) & known <= {"output_dir"}
    assert not set(SECTIONS) & {*names, *known}


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_written_whole_and_reads_back(name: str) -> None:
    """Every section and key is written, with its comment, and what is written is the same configuration."""
    config = load(name)
    text = to_yaml(config)
    written = yaml.safe_load(text)
    assert list(written) == list(SECTIONS)
    for section, kind in OURS.items():
        assert list(written[section]) == list(kind.known_keys())
    comments = " ".join(line.partition("# ")[2] for line in text.splitlines())
    for _, _, key in KEYS:
        assert " ".join(key.about.split()) in comments
    from mnpo.llm.config import resolve

    assert resolve(written) == config
    assert max(map(len, text.splitlines())) <= 200


def other(section: str, name: str) -> Any:
    """A value that is not the default's."""
    special = {
        "past_models": ["x"], "opponent_models": ["x"], "opponent_names": ["x"], "prompt_part": [1, 2],
        "eval_model": "x", "eval_opponents": {"a": "x"}, "stream": "other",
    }  # fmt: skip
    return special[name]


ITERATION = [(section, name) for section, name, key in KEYS if key.scope == "iteration"]


def test_the_loop_sets_these_keys_and_no_others() -> None:
    assert {name for _, name in ITERATION} == {
        "past_models", "opponent_models", "opponent_names", "prompt_part", "eval_model", "eval_opponents", "stream",
    }  # fmt: skip


@pytest.mark.parametrize(("section", "name"), ITERATION)
def test_what_the_loop_sets_cannot_be_given_for_a_run(section: str, name: str) -> None:
    config = load("tiny").having(**{section: {name: other(section, name)}})
    with pytest.raises(ValueError, match=rf"^{name} is set by the loop and cannot be given here$"):
        check_scopes(config)


@pytest.mark.parametrize(
    "path",
    [*(f"{s}.{n}" for s, n, key in KEYS if key.scope != "player"), *(n for _, n, k in KEYS if k.scope != "player"), "seed"],
)  # fmt: skip
def test_what_is_the_whole_runs_cannot_be_a_players_or_change_on_the_way(path: str) -> None:
    name = path.rpartition(".")[2]
    what = "set by the loop" if name in dict(ITERATION_NAMES) else "the same for all players and iterations"
    players = load("tiny").having(loop={"players": [{"name": "a"}, {"name": "b", path: "x"}]})
    with pytest.raises(ValueError, match=rf"^player b: {name} is {what} and cannot be given here$"):
        check_scopes(players)
    schedule = load("tiny").having(loop={"schedule": {2: {path: "x"}}})
    with pytest.raises(
        ValueError, match=rf"^schedule of iteration 2: {name} is {what} and cannot be given here$"
    ):
        check_scopes(schedule)


ITERATION_NAMES = [(name, section) for section, name in ITERATION]


def test_all_other_keys_can_differ_between_players_and_iterations() -> None:
    free = [name for _, name, key in KEYS if key.scope == "player"]
    assert {"temperature", "oracle", "rule", "objective", "lora", "max_length"} <= set(free)
    config = load("tiny").having(
        loop={
            "players": [{"name": "a"}, {"name": "b", **dict.fromkeys([*free, "learning_rate"], "x")}],
            "schedule": {2: dict.fromkeys([*free, "rule.eta", "update.rule.eta", "max_steps"], "x")},
        }
    )
    check_scopes(config)


@pytest.mark.parametrize("name", ["policy", "row", "prompt"])
def test_no_opponent_overwrites_a_column_of_the_answers(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^eval_opponents must not be called policy, row, prompt, .*found '{name}'$"
    ):
        load("tiny", [f"eval_opponents={{{name}: tiny:gpt2}}"])
    assert load("tiny", ["eval_opponents={other: tiny:gpt2}"]).evaluation.eval_opponents == {
        "other": "tiny:gpt2"
    }
