"""Configurations from presets, files and the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mnpo.llm.config import load, presets, resolve, to_yaml
from mnpo.llm.config.reading import is_override


def test_presets_and_files_read_back_and_overrides_go_deep(tmp_path: Path) -> None:
    """Every preset reads back from its own YAML; a file may start from a preset; overrides go deep."""
    for name in presets():
        config = load(name)
        file = tmp_path / f"{name}.yaml"
        file.write_text(to_yaml(config))
        assert load(str(file)) == config
    file = tmp_path / "mine.yaml"
    file.write_text("preset: tiny\nlearning_rate: 5e-7\nobjective: {name: dpo, beta: 0.5}\n")
    config = load(str(file), ["objective.beta=0.25", "max_steps=3"])
    assert config.training.values["learning_rate"] == 5e-7
    assert config.update.the_objective()[1] == {"beta": 0.25}
    assert config.update.the_rule() is None
    published = load("gemma-2-9b-it").update.the_rule()
    assert published is not None
    assert published.tau == pytest.approx(0.0025)
    assert published.reference_weight == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["temperature=0.7"], ["sampling.temperature=0.7"]),
        (["rule.eta=2"], ["update.rule.eta=2"]),
        (["rule={name: inpo, eta: 1, tau: 0.1}"], ["update={rule: {name: inpo, eta: 1, tau: 0.1}}"]),
        (["learning_rate=1e-5", "seed=3"], ["training={learning_rate: 1e-5, seed: 3}"]),
        (["objective=dpo", "objective.beta=0.3"], ["update.objective={name: dpo, beta: 0.3}"]),
        (["lora.r=4"], ["fit.lora.r=4"]),
        (["columns.chosen=yes"], ["data.columns.chosen=yes"]),
    ],
)
def test_keys_mean_the_same_with_and_without_their_section(one: list[str], other: list[str]) -> None:
    found = load("tiny", one)
    assert found == load("tiny", other)
    assert found != load("tiny")


def test_a_mixture_of_keys_and_sections_is_one_configuration() -> None:
    needed = {"model_name_or_path": "m", "output_dir": "o", "objective": "dpo"}
    flat = resolve({**needed, "temperature": 0.5, "max_length": 99, "max_prompt_length": 9})
    mixed = {"model": {"model_name_or_path": "m"}, "output_dir": "o", "sampling": {"temperature": 0.5}}
    mixed |= {"update": {"objective": "dpo"}}
    assert flat == resolve({**mixed, "data": {"max_length": 99, "max_prompt_length": 9}})
    changed = flat.having(sampling={"temperature": 0.25}, data={"max_length": 50})
    assert changed == resolve({**needed, "temperature": 0.25, "max_length": 50, "max_prompt_length": 9})
    assert flat.sampling.temperature == 0.5, "a configuration is changed by what is made of it"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["temprature=1"], "unknown key 'temprature'; did you mean 'temperature'?"),
        (["sampling.max_length=3"], "section sampling has no key 'max_length'"),
        (["samplings.temperature=3"], "unknown key 'samplings'; did you mean 'sampling'?"),
        (["sampling=3"], "section sampling must hold keys and values; found 3"),
        (["temperature.a=3"], "temperature has no keys of its own"),
        (["=3"], "expected key=value; found '=3'"),
        (["temperature"], "expected key=value; found 'temperature'"),
        (["output_dir=null"], "output_dir must be a text; found None"),
        (["output_dir=[1]"], "output_dir must be a text"),
        (["pairing=thrid"], "unknown value of pairing 'thrid'; did you mean 'third'?"),
        (["schedule={2: {rule.eta: 1}, x: {}}"], "a key of schedule must be a whole number"),
    ],
)
def test_bad_overrides_are_one_line(given: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        load("tiny", given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- what is a file, and what an override ---------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration whose path, seen from where the test is, begins like an override."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eta=2").mkdir()
    (tmp_path / "eta=2" / "run=1.yaml").write_text("preset: tiny\ntemperature: 0.25\noutput_dir: runs/odd\n")
    return "eta=2/run=1.yaml"


def test_a_path_with_an_equals_sign_is_a_file(odd: str) -> None:
    assert not is_override(odd)
    assert not is_override(str(Path(odd).resolve()))
    assert load(odd).sampling.temperature == 0.25
    for text in (
        "eta=2",
        "rule.eta=2",
        "output_dir=eta=2/run",
        "temperature=0.5",
        "warmup-steps=3",
        "model={a: b}",
    ):
        assert is_override(text), text
    for text in ("tiny", "my.yaml", "./a=b.yaml", "/tmp/a=b.yaml", "~/a=b.yaml", "2=3"):
        assert not is_override(text), text


def shown(*arguments: str) -> str:
    from typer.testing import CliRunner

    from mnpo.cli.llm import app

    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_line_takes_such_a_file(odd: str, tmp_path: Path) -> None:
    expected = to_yaml(load(odd, ["rule.eta=3"]))
    assert shown("show-config", odd, "rule.eta=3") == expected
    assert shown("show-config", str(tmp_path / odd), "rule.eta=3") == expected
    # Without CONFIG an override may come first; it is not looked for among the files.
    assert shown("show-config", "temperature=0.25") == to_yaml(load("tiny", ["temperature=0.25"]))


def test_train_takes_such_a_file(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnpo.llm import running

    given: list[Any] = []

    def told(config: Any, **_: Any) -> Any:
        given.append(config)
        raise ValueError("that is enough")

    monkeypatch.setattr(running, "run_loop", told)
    message = refused(monkeypatch, "train", odd, "num_generations=6")
    assert message == "that is enough"
    assert given == [load(odd, ["num_generations=6"])]


def refused(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Return what the command says as it stops with status 2."""
    import typer

    from mnpo.cli import main as cli

    told: list[str] = []
    monkeypatch.setattr(typer, "secho", lambda text, **_: told.append(text))
    monkeypatch.setattr(sys, "argv", ["mnpo", "llm", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = told
    return line.removeprefix("mnpo: ")


def test_presets_are_listed_with_their_purpose() -> None:
    rows = json.loads(shown("presets", "--json"))
    assert {row["name"] for row in rows} == set(presets())
    assert all(row["purpose"] and row["model"]["model_name_or_path"] for row in rows)
