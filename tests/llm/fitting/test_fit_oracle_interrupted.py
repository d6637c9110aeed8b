"""`mnpo llm fit-oracle` killed in every phase, shared among processes and called again: the same bits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from oracle_fits import SMALL, write_rows
from safetensors.torch import load_file

from mnpo.llm.config import load
from mnpo.llm.data import made
from mnpo.llm.stages.running import run_stage
from runs import kill_when, mnpo

#: Two phases of four steps.
PHASES = [
    {"oracle_objective": "bradley-terry", "max_steps": 4},
    {"oracle_objective": "top-one", "max_steps": 4},
]
GIVEN = [*SMALL, "model_name_or_path=tiny:gpt2", f"oracle_phases={json.dumps(PHASES)}"]


def weights(folder: Path) -> list[bytes]:
    return [
        (folder / name / "model.safetensors").read_bytes() for name in ("oracle-fit/all-1/model", "model")
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("oracle") / "run"
    run_stage("fit-oracle", load("tiny", [f"output_dir={folder}", *GIVEN]))
    return folder


def test_killed_in_every_phase_it_ends_with_the_same_bits(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["fit-oracle", "tiny", f"output_dir={folder}", *GIVEN]
    fits = folder / "oracle-fit"
    for ready in (
        lambda: (folder / "tiny-gpt2").is_dir(),
        lambda: (folder / "start").is_dir(),
        lambda: any(folder.glob("encoded/*/report.json")),
        lambda: (fits / "all-1/checkpoint-2/complete.json").exists(),
        lambda: (fits / "all-1/model").is_dir(),
        lambda: (fits / "all-2/checkpoint-3/complete.json").exists(),
    ):
        kill_when(arguments, ready)
    assert not (folder / "fitted-oracle.json").exists()
    (fits / "all-2/checkpoint-3/complete.json").unlink()  # as if it were killed while saving
    (fits / "all-2/checkpoint-3/optimizer.pt").write_bytes(b"half")
    record = run_stage("fit-oracle", load("tiny", arguments[2:]))
    assert record.parts[0].phases[1].resumed is not None
    assert weights(folder) == weights(finished)
    assert not list(folder.glob(".*"))


def test_what_is_finished_is_not_done_again(finished: Path) -> None:
    before = weights(finished)
    config = load("tiny", [f"output_dir={finished}", *GIVEN])
    assert run_stage("fit-oracle", config).resumed == "complete"
    assert weights(finished) == before
    changed = load("tiny", [f"output_dir={finished}", *GIVEN, "centring=0.0", "oracle_kind=embedding",
                            "oracle_phases=[]"])  # fmt: skip
    with pytest.raises(ValueError, match="oracle_kind: 'reward' there, 'embedding' here"):
        run_stage("fit-oracle", changed)


@pytest.mark.parametrize(
    "mode",
    ["ddp", pytest.param("zero2", marks=pytest.mark.slow), pytest.param("zero3", marks=pytest.mark.slow)],
)
def test_two_processes_are_one(mode: str, finished: Path, tmp_path: Path) -> None:
    """The same losses and weights to 1e-4 at the same global batch, in both phases."""
    folder = tmp_path / mode
    mnpo(
        "fit-oracle", "tiny", f"output_dir={folder}", *GIVEN, "per_device_train_batch_size=4", "--num-processes", "2",
        "--accelerate", mode,
    )  # fmt: skip
    one, two = (json.loads((f / "fitted-oracle.json").read_text()) for f in (finished, folder))
    assert two["processes"] == 2
    for place in (0, 1):
        phases = [record["parts"][0]["phases"][place] for record in (one, two)]
        losses = [[entry["loss"] for entry in phase["log"] if "loss" in entry] for phase in phases]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        assert phases[1]["eval"][
            "eval_loss" if "eval_loss" in phases[1]["eval"] else "loss"
        ] == pytest.approx(phases[0]["eval"]["loss"], rel=1e-4)
        assert phases[1]["best_scale"] == pytest.approx(phases[0]["best_scale"], rel=1e-2)
    expected, found = (load_file(f / "model/model.safetensors") for f in (finished, folder))
    assert max((expected[name] - found[name]).abs().max() for name in expected) < 1e-4


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["dataset_name=null"], "the configuration lacks dataset_name"),
        (["oracle_kind=pairwise", "oracle_objective=regression"], "oracle_kind=pairwise is fitted to pairs"),
        (["oracle_objective=margin"], "no judgment can be used by oracle_objective=margin"),
        (["oracle_objective=regression"], "no judgment can be used by oracle_objective=regression"),
        (["per_annotator=true"], "no annotator"),
        (["eval_size=60"], "eval_size must leave judgments to train on"),
        (
            ["oracle_kind=pairwise", "pairwise_template=x"],
            "template must have {context}, {first} and {second}",
        ),
        (["oracle_phases=[{oracle_objective: margins}]"], "did you mean"),
        (["attributes=[a,b]", "attribute_weights={c: 1}"], "attribute"),
        (["dataset_name=TIES"], "judgments are ties: nothing is preferred"),
        (["lora.target_modules=[nothing]"], "lora"),
    ],
)
def test_bad_input_is_refused(overrides: list[str], told: str, tmp_path: Path) -> None:
    ties = write_rows(tmp_path / "ties.jsonl", [{**row, "preference": 0.5} for row in made.pairs(30)])
    given = [
        f"output_dir={tmp_path / 'run'}",
        *GIVEN[:-1],
        *(word.replace("TIES", ties) for word in overrides),
    ]
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        run_stage("fit-oracle", load("tiny", given))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run/model").exists()


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "response_1": "a", "response_2": "b", "preference_strength": 4}] * 3
    data = write_rows(tmp_path / "strong.jsonl", rows)
    given = [f"output_dir={tmp_path / 'run'}", *GIVEN, f"dataset_name={data}"]
    said = mnpo("fit-oracle", "tiny", *given, expect=2)
    (line,) = [line for line in said.splitlines() if "mnpo: " in line]
    assert "no integer from -3 to 3: '4'" in line
