"""What is plainly wrong is answered at once: without torch, and before a single file exists."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loops import SMALL

from mnpo.llm.api import train
from mnpo.llm.checks import check_stage
from mnpo.llm.config import load

#: A command -> what is wrong with it.
WRONG: dict[str, str] = {
    "fit nowhere": "unknown preset (or .yaml file) 'nowhere'",
    "fit ./nowhere.yaml": "no configuration ./nowhere.yaml",
    "fit tiny learnig_rate=1": "unknown key 'learnig_rate'; did you mean 'learning_rate'?",
    "fit tiny sampling.learning_rate=1": "section sampling has no key 'learning_rate'",
    "fit rule.eta=2": "a preset or a YAML file comes before 'rule.eta=2'",
    "fit tiny temperature=nan": "temperature must be a finite number; found nan",
    "fit tiny optim=foo": "unknown value of optim 'foo'",
    "fit tiny lr_scheduler_type=cosin": "unknown value of lr_scheduler_type 'cosin'; did you mean 'cosine'?",
    "fit tiny report_to=wand": "report_to: unknown 'wand'; did you mean 'wandb'?",
    "fit tiny train_sampling_strategy=batch_rebalance": (
        "train_sampling_strategy must be group_by_length, random or sequential"
    ),
    "fit tiny objective=dpoo": "unknown objective 'dpoo'; did you mean 'dpo'?",
    "fit tiny rule=onpoo": "unknown rule 'onpoo'; did you mean 'onpo'?",
    "fit tiny model_name_or_path=./nowhere": "model ./nowhere: no such folder",
    "fit tiny reference_model_name_or_path=/nowhere": "model /nowhere: no such folder",
    "fit tiny past_models=[~/nowhere]": "model ~/nowhere: no such folder",
    "fit tiny external_models=[tiny:gpt2,nowhere]": "model nowhere: no such folder",
    "fit tiny dataset_name=./nowhere": "dataset ./nowhere: no such file or folder",
    "fit tiny dataset_name=nowhere.jsonl.gz": "dataset nowhere.jsonl.gz: no such file or folder",
    "fit tiny eval_dataset_name=nowhere.parquet": "dataset nowhere.parquet: no such file or folder",
    "fit tiny dataset_name=null output_dir=./nowhere": "lacks dataset_name, and output_dir holds no preferences",
    "fit tiny dataset_name=null eval_split=test": "pairs that annotate made have no splits for eval_split",
    "fit tiny chat_template_path=nowhere.jinja": "chat_template_path: no such file: nowhere.jinja",
    "fit tiny rule={name: onpo, eta: 1, tau: 0.1} target=label": "give target=win-rate",
    "score tiny rule={name: ht-mnpo, eta: 1, tau: 0.1}": "opponent_models=[..]",
    "sample tiny prompt_dataset_name=./nowhere.txt": "dataset ./nowhere.txt: no such file or folder",
    "sample tiny model_name_or_path=README.md": "model README.md is not a folder",
    "sample tiny oracle={kind: rewards}": "unknown kind of oracle 'rewards'; did you mean 'reward'?",
    "annotate tiny oracle=null": "the configuration lacks oracle",
    "annotate tiny num_generations=2": "num_generations must be at least 3 for win rates",
    "evaluate tiny eval_model=./nowhere": "model ./nowhere: no such folder",
    "evaluate tiny eval_oracles={a: {kind: rewards}}": "unknown kind of oracle 'rewards'; did you mean 'reward'?",
    "evaluate tiny eval_opponents={policy: tiny:gpt2}": "eval_opponents must not be called policy",
    "train tiny model_name_or_path=./nowhere": "model ./nowhere: no such folder",
    "train tiny prompt_dataset_name=./nowhere.txt": "dataset ./nowhere.txt: no such file or folder",
    "train tiny learnig_rate=1": "unknown key 'learnig_rate'; did you mean 'learning_rate'?",
    "train tiny schedule={2: {rule.eta: 1000}}": "eta must be at most 1/tau",
    "train ./nowhere.yaml": "no configuration ./nowhere.yaml",
    "train past_models=[x]": "past_models is set by the loop",
}  # fmt: skip

#: Answers each command in a process of its own, that has imported nothing but the command line.
AT_ONCE = """
import contextlib, io, json, os, sys
os.chdir(sys.argv[1])
from mnpo.cli.main import main
import mnpo.llm.config
for line in json.loads(sys.stdin.read()):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    said, status = io.StringIO(), 0
    sys.argv = ["mnpo", "llm", *line]
    with contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as stop:
            status = stop.code
    heavy = sorted({"torch", "transformers", "datasets", "accelerate"} & sys.modules.keys())
    print(json.dumps([status, said.getvalue(), heavy]), flush=True)
    os._exit(0)
"""


def words(command: str) -> list[str]:
    """Split a command at spaces that are not within an override."""
    name, *rest = command.split(" ")
    found = [name]
    for word in rest:
        open_braces = found[-1].count("{") - found[-1].count("}")
        if open_braces:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process answers to all of them, one after the other."""
    folder = tmp_path_factory.mktemp("at-once")
    (folder / "README.md").write_text("no model")
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, str(folder)], input=json.dumps([words(command) for command in WRONG]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(zip(WRONG, map(json.loads, done.stdout.splitlines()), strict=True))
    return {**found, "files": [path.name for path in folder.iterdir()]}


@pytest.mark.parametrize("command", WRONG)
def test_nobody_waits_for_torch_to_hear_what_is_wrong(command: str, answers: dict[str, Any]) -> None:
    status, said, heavy = answers[command]
    assert status == 2
    assert WRONG[command] in said
    assert said.startswith("mnpo: ")
    assert said.count("\n") == 1
    assert heavy == []


def test_what_is_refused_at_once_leaves_no_file(answers: dict[str, Any]) -> None:
    assert answers["files"] == ["README.md"]


def test_what_is_right_is_not_refused(untaught: Path) -> None:
    config = load("tiny", [f"model_name_or_path={untaught}", "external_models=[someone/on-the-hub]"])
    for stage in ("sample", "annotate", "score", "fit", "evaluate"):
        check_stage(stage, config)
    check_stage("fit", load("tiny", ["dataset_name=someone/pairs-of-the-hub"]))


# --- before a single file exists ------------------------------------------------------------------------------------

#: Overrides of a run -> what is wrong with it; the libraries that know are loaded for some of them.
REFUSED: dict[str, tuple[list[str], str]] = {
    "a reporter that is not installed": (["report_to=wandb"], "report_to=wandb needs the package wandb"),
    "a reporter among others": (["report_to=[tensorboard, wandb]"], "report_to=wandb needs the package wandb"),
    "an unknown kind of oracle": (["oracle={kind: rewards, model: m}"], "unknown kind of oracle 'rewards'"),
    "an oracle of the evaluation": (["eval_oracles={a: {kind: rewards}}"], "unknown kind of oracle 'rewards'"),
    "an unknown optimizer": (["optim=foo"], "unknown value of optim 'foo'"),
    "an unknown schedule": (["lr_scheduler_type=sine"], "unknown value of lr_scheduler_type 'sine'"),
    "an unknown key of LoRA": (["lora={rr: 4}"], "lora: "),
    "a key of LoRA that is set by mnpo": (["lora={r: 4, task_type: X}"], "lora: "),
    "layers that the policy does not have": (["lora={r: 4, target_modules: [nothing]}"], "lora: Target modules"),
    "a value that PEFT does not take": (["lora={r: 4, bias: some}"], "lora: Requested bias"),
    "a rule that labels cannot teach": (["rule={name: onpo, eta: 1, tau: 0.1}", "target=label"], "give target=win-rate"),
    "arguments that do not go together": (["bf16=true", "fp16=true"], "training arguments: "),
    "a later iteration": (["schedule={2: {optim: foo}}"], "unknown value of optim 'foo'"),
    "a later iteration's LoRA": (["schedule={2: {lora: {rr: 4}}}"], "lora: "),
    "a player's": (["players=[{name: a}, {name: b, lora: {rr: 4}}]", "rule={name: ht-mnpo, eta: 1, tau: 0.1}"],
                   "lora: "),
    "too few held-out prompts": (["eval_prompts=1"], "eval_prompts=1 leaves 1"),
}  # fmt: skip


@pytest.fixture
def without_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not installed, whatever there is on this machine."""
    from mnpo.llm.config import training

    real = importlib.util.find_spec
    monkeypatch.setattr(
        training, "find_spec", lambda name, *rest: None if name == "wandb" else real(name, *rest)
    )


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("without_wandb")
def test_a_run_is_refused_before_a_single_file_exists(
    case: str,
    untaught: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mnpo.cli import main as cli

    overrides, message = REFUSED[case]
    home = tmp_path / "run"
    given = [f"model_name_or_path={untaught}", f"output_dir={home}", *SMALL, *overrides]
    monkeypatch.setattr(sys, "argv", ["mnpo", "llm", "train", "tiny", *given])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("mnpo: ")
    assert error.count("\n") == 1
    assert message in error
    assert not home.exists()


@pytest.mark.parametrize(
    "overrides", [["lora={rr: 4}"], ["bf16=true", "fp16=true"]], ids=["lora", "arguments"]
)
def test_nothing_is_made_on_the_spot_for_a_run_that_is_refused(overrides: list[str], tmp_path: Path) -> None:
    """Neither with a small model that would have to be made first."""
    with pytest.raises(ValueError, match=r"^(lora|training arguments): "):
        train("tiny", "model_name_or_path=tiny:gpt2", f"output_dir={tmp_path / 'run'}", *overrides)
    assert not list((tmp_path / "run").rglob("*"))
