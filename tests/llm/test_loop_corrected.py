"""A run that stopped goes on when what was wrong is corrected; what is done is not done again, nor made of other things."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from loops import SMALL, run_stage

from mnpo.llm.config import Config, load
from mnpo.llm.loop import train
from mnpo.llm.records import Run

ORDER = ["sample", "annotate", "fit", "evaluate"]


class Stages:
    """Runs stages and says which; one of them can be made to fail before it begins."""

    def __init__(self, failing: str | None = None) -> None:
        self.done: list[str] = []
        self._failing = failing

    def __call__(self, name: str, config: Config) -> Any:
        if name == self._failing:
            raise ValueError("a power cut")
        record = run_stage(name, config)
        self.done.append(name)
        return record


class Attempt:
    """Runs with the same command and some of it corrected."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.folder = folder
        self._given = [
            f"model_name_or_path={model}", f"output_dir={folder}", *SMALL, "iterations=1", "max_steps=2",
        ]  # fmt: skip

    def __call__(self, *overrides: str, failing: str | None = None) -> tuple[list[str], Run | str]:
        """Return which stages were run, and the record or what was said."""
        stages = Stages(failing)
        result: Run | str
        try:
            result = train(load("tiny", [*self._given, *overrides]), stages)
        except ValueError as error:
            result = str(error)
        assert isinstance(result, Run) or "\n" not in result
        return stages.done, result


@pytest.fixture(scope="module")
def stopped(untaught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped before its fit."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    done, said = Attempt(untaught, folder)(failing="fit")
    assert (done, said) == (ORDER[:2], "a power cut")
    return folder


@pytest.fixture
def again(untaught: Path, stopped: Path, tmp_path: Path) -> Attempt:
    """The same run, in a folder of its own."""
    return Attempt(untaught, shutil.copytree(stopped, tmp_path / "run"))


def finished(result: tuple[list[str], Run | str]) -> list[str]:
    done, record = result
    assert isinstance(record, Run), record
    return done


def test_what_was_done_before_the_stop_is_not_done_again(again: Attempt) -> None:
    assert finished(again()) == ORDER[2:]
    assert finished(again()) == []


@pytest.mark.parametrize("override", ["learning_rate=0.01", "eval_generations=1"])
def test_what_no_finished_stage_depends_on_may_be_corrected(override: str, again: Attempt) -> None:
    assert finished(again(override)) == ORDER[2:]
    name, _, value = override.partition("=")
    done = load(str(again.folder / "iteration-1/config.yaml")).as_dict()
    assert str(next(section[name] for section in done.values() if name in section)) == value


def test_a_fit_that_failed_is_corrected(again: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit itself found out: its folder says what was tried, and that does not stand in the way."""
    from mnpo.llm.stages import fit

    monkeypatch.setattr(fit, "check_adapter", lambda job, lora: None)
    done, said = again("lora={r: 2, target_modules: [nothing]}")
    assert done == []
    assert isinstance(said, str)
    assert said.startswith("lora: ")
    assert finished(again("lora={r: 2, target_modules: [c_attn]}")) == ORDER[2:]


def test_a_fit_that_stopped_on_the_way_is_corrected(again: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that was not finite, with a checkpoint before it: a smaller step may be tried."""
    from mnpo.llm.training import trainer

    right, calls = trainer.pair_losses, []

    def breaking(*given: Any) -> Any:
        calls.append(None)
        return right(*given) * (float("nan") if len(calls) > 1 else 1.0)

    monkeypatch.setattr(trainer, "pair_losses", breaking)
    done, said = again("save_steps=1", "learning_rate=0.01")
    assert done == []
    assert "the loss is not finite at step 2" in str(said)
    monkeypatch.undo()
    assert finished(again("save_steps=1", "learning_rate=0.001")) == ORDER[2:]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["temperature=0.5"], "temperature: 1.0 there, 0.5 here"),
        (["num_generations=6"], "num_generations: 4 there, 6 here"),
        (["target=label"], "target: 'win-rate' there, 'label' here"),
        (["oracle=short"], "oracle: 'styles' there, 'short' here"),
        (["rule.eta=9"], "rule: "),
        (["seed=7"], "seed: 0 there, 7 here"),
        (["iterations=2"], "iterations: 1 there, 2 here"),
        (["max_length=256", "max_prompt_length=128"], "max_length: 512 there, 256 here"),
        (["eval_prompts=4"], "eval_prompts: 5 there, 4 here"),
        (["prompt_dataset_name=tiny:prompts:30"], "prompt_dataset_name: 'tiny:prompts:20' there"),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_a_finished_stage_depends_on_is_refused_by_name(
    overrides: list[str], told: str, stopped: Path, untaught: Path
) -> None:
    before = kept(stopped)
    if overrides == ["oracle=short"]:
        overrides = ["oracle={name: short, traits: forms, utilities: {brief: 9}}"]
        told = "oracle: 'styles' there, {'name': 'short'"
    done, said = Attempt(untaught, stopped)(*overrides)
    assert done == []
    assert isinstance(said, str)
    assert said.startswith(f"{stopped} holds a run with another configuration (")
    assert told in said
    assert kept(stopped) == before, "a refused command changed what was there"


def test_what_a_finished_run_was_made_of_is_refused(again: Attempt) -> None:
    again()
    done, said = again("learning_rate=0.5")
    assert (done, "learning_rate: 0.0003 there, 0.5 here" in str(said)) == ([], True)
    done, said = again("eval_generations=1")
    assert (done, "eval_generations: 2 there, 1 here" in str(said)) == ([], True)


def test_what_is_free_may_change_at_any_time(again: Attempt) -> None:
    again()
    assert (
        finished(
            again("per_device_generation_batch_size=3", "per_device_eval_batch_size=2", "logging_steps=2")
        )
        == []
    )


def test_a_run_that_finished_nothing_may_become_any_other(untaught: Path, tmp_path: Path) -> None:
    """Nothing was finished: everything may be corrected."""
    attempt = Attempt(untaught, tmp_path / "run")
    done, said = attempt(failing="sample")
    assert (done, said) == ([], "a power cut")
    done, said = attempt("temperature=0.9", "num_generations=5", "rule.eta=3", failing="annotate")
    assert (done, said) == (["sample"], "a power cut")
    done, said = attempt("temperature=0.9", "num_generations=5", "rule.eta=3", failing="fit")
    assert (done, said) == (["annotate"], "a power cut")


def kept(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_stage_whose_files_were_changed_by_hand_is_done_again(again: Attempt) -> None:
    file = again.folder / "iteration-1/annotations.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "made": 1}))
    assert finished(again()) == ORDER[1:]
