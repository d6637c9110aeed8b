"""Runs from Python, with a judge of one's own: what a notebook imports."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from imported import said_and_imported
from loops import SMALL

import mnpo.llm
from mnpo.common.ownership import owned
from mnpo.llm import load_config, run_stage, train
from mnpo.llm.api import as_config
from mnpo.llm.records import Iteration
from mnpo.llm.stages.records import Annotations, Evaluated, Samples


def longer(prompt: str, first: str, second: str) -> float:
    return 1.0 if len(first) > len(second) else 0.0


def shorter(prompt: str, first: str, second: str) -> float:
    return 1.0 if len(first) < len(second) else 0.0


def worth(prompt: str, response: str) -> float:
    return len(response) / 10


class Made(NamedTuple):
    """A run from Python: its configuration, as keys and values, and its record."""

    given: dict[str, Any]
    record: Any

    @property
    def home(self) -> Path:
        return Path(self.given["folders"]["output_dir"])


@pytest.fixture(scope="module")
def made(untaught: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run whose keys are given with and without their sections, and overrides on top."""
    given = {
        **dict(override.split("=") for override in SMALL if "=" in override and "tiny" not in override),
        "folders": {"output_dir": str(tmp_path_factory.mktemp("api") / "run")},
        "model": {"model_name_or_path": str(untaught)},
        "rule": {"name": "inpo", "eta": 2.0, "tau": 0.1},
        "sampling": {"max_new_tokens": 12, "temperature": 1.0, "top_p": 1.0},
        "pairing": "all",
    }
    given = {
        name: int(value) if isinstance(value, str) and value.isdecimal() else value
        for name, value in given.items()
    }
    given |= {"prompt_dataset_name": "tiny:prompts:20", "max_length": 512, "max_prompt_length": 384}
    return Made(given, train(given, "iterations=1", "target=win-rate", oracle=longer))


def test_importing_takes_no_torch() -> None:
    code = (
        "import mnpo.llm; from mnpo.llm import Config, Pairs, Question, TextOracle, load_config\n"
        "assert set(mnpo.llm.__all__) <= set(dir(mnpo.llm)); load_config('tiny')"
    )
    assert said_and_imported(code) == ("", "")


def test_every_name_that_is_promised_is_there() -> None:
    for name in mnpo.llm.__all__:
        assert getattr(mnpo.llm, name).__name__ == name.replace("load_config", "load")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mnpo.llm.nothing  # noqa: B018 that is what is tested


def test_a_run_returns_its_record_frozen(made: Made) -> None:
    record = made.record
    assert type(record).__name__ == "Run"
    assert [type(row) for row in record.iterations] == [Iteration]
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.players = []
    (row,) = record.iterations
    assert set(row.win_rate["reference"]) == {"longer"}
    assert row.counts["asked"] > 0
    assert (Path(row.model) / "model.safetensors").is_file()
    assert type(record).read(made.home) == record


def test_the_same_call_again_does_nothing_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnpo.llm import running

    monkeypatch.setattr(running, "run_stage", lambda name, *_, **__: pytest.fail(f"{name} was run again"))
    again = train(made.given, "iterations=1", "target=win-rate", oracle=longer)
    assert again.iterations == made.record.iterations
    with pytest.raises(ValueError, match=r"holds a run with another configuration \(oracle: ") as error:
        train(made.given, "iterations=1", "target=win-rate", oracle=shorter)
    assert "\n" not in str(error.value)


def test_a_stage_returns_its_record(made: Made, tmp_path: Path) -> None:
    given = [
        f"output_dir={tmp_path}",
        f"samples_dir={made.home / 'samples'}",
        "iterations=1",
        "target=win-rate",
    ]
    sampled = run_stage("sample", made.given, *given, oracle=worth)
    assert isinstance(sampled, Samples)
    annotated = run_stage("annotate", made.given, *given, oracle=worth)
    assert isinstance(annotated, Annotations)
    assert [(one.oracle, one.kind) for one in annotated.oracles] == [("worth", "reward")]
    tested = run_stage("evaluate", as_config(made.given, *given, "eval_generations=1", oracle=worth))
    assert isinstance(tested, Evaluated)
    assert tested.win_rate["reference"]["worth"].mean == pytest.approx(0.5), "nothing was trained yet"
    with pytest.raises(ValueError, match="unknown stage 'sampel'; did you mean 'sample'"):
        run_stage("sampel", made.given, *given)


def test_a_function_of_a_notebook_is_not_for_several_processes(made: Made, tmp_path: Path) -> None:
    """They could not read it; one line says what they can read, and nothing is left behind."""
    home = tmp_path / "two"
    for call in (train, lambda *given, **more: run_stage("annotate", *given, **more)):
        with pytest.raises(
            ValueError, match=r"several processes need a judge that stands in a file: oracle="
        ) as error:
            call(made.given, f"output_dir={home}", "target=win-rate", oracle=longer, processes=2)
        assert "\n" not in str(error.value)
        assert not home.exists(), "a run without processes would be refused here"


def test_a_configuration_is_the_same_however_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: tiny\ntemperature: 0.5\nrule: {eta: 2, name: inpo, tau: 0.1}\n")
    wanted = load_config("tiny", ["temperature=0.5", "rule={name: inpo, eta: 2, tau: 0.1}", "max_steps=3"])
    assert as_config(file, "max_steps=3") == as_config(str(file), "max_steps=3") == wanted
    plain = load_config(str(file))
    assert as_config(plain, "training.max_steps=3") == wanted
    assert as_config(plain.as_dict(), "max_steps=3") == wanted
    flat = {name: value for section in plain.as_dict().values() for name, value in section.items()}
    assert as_config(flat, "max_steps=3") == wanted
    judged = as_config(plain, oracle=longer)
    assert judged.judging.oracle == {"kind": "python", "function": longer}
    assert plain.judging.oracle == "styles", "a configuration is changed by what is made of it"


def test_a_folder_has_one_owner_in_a_notebook_too(untaught: Path, tmp_path: Path) -> None:
    given = [f"model_name_or_path={untaught}", f"output_dir={tmp_path}"]
    with owned(tmp_path), pytest.raises(ValueError, match=r"is in use by process \d+"):
        run_stage("sample", "tiny", *given)
