"""What a run of `mnpo llm train` leaves: records, models, figures, tables, and folders on which each stage is a command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from conforming import check_table
from datasets import load_from_disk
from loops import run, run_stage, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnpo.cli import show_llm
from mnpo.common.seals import read_sealed
from mnpo.llm.config import load
from mnpo.llm.data.schema import TABLES
from mnpo.llm.plots import FIGURE
from mnpo.llm.preferences.recipes import TAUGHT
from mnpo.llm.records import Run
from mnpo.llm.stages.records import EncodedPairs
from mnpo.llm.stages.registry import STAGES

#: The stages whose records stand in an iteration's folder.
OF_A_RUN = ("sample", "annotate", "score", "fit", "evaluate")


class Left(NamedTuple):
    """A run's folder, and its record as it was returned."""

    folder: Path
    record: Run


@pytest.fixture(scope="module")
def left(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Left:
    folder = tmp_path_factory.mktemp("record") / "run"
    schedule = "schedule={2: {rule.eta: 9, rule.players: 2, learning_rate: 0.0001}}"
    return Left(folder, run(base, folder, schedule))


def test_a_run_leaves_what_its_record_says(left: Left) -> None:
    folder, record = left
    assert read_sealed(folder / "results.json") == record.as_dict()
    assert [(row.iteration, row.player) for row in record.iterations] == [(1, "policy"), (2, "policy")]
    for row in record.iterations:
        assert {"loss", "kl", "length", "model", "win_rate"} <= set(row.as_dict())
        for rival in ("reference", "previous"):
            rate = row.win_rate[rival]["styles"]
            assert 0 <= rate.low <= rate.mean <= rate.high <= 1
        AutoModelForCausalLM.from_pretrained(row.model)
        AutoTokenizer.from_pretrained(row.model)
    one, two = (json.loads((folder / f"iteration-{t}/results.json").read_text()) for t in (1, 2))
    assert one["rule"]["eta"] == 4
    assert [anchor["weight"] for anchor in one["rule"]["anchors"]] == pytest.approx([0.2, 0.4, 0.4])
    assert two["rule"]["eta"] == 9
    assert [anchor["weight"] for anchor in two["rule"]["anchors"]] == pytest.approx([0.45, 0.55])
    assert [row["anchor"] for row in two["anchors"]] == ["reference", "current"]
    for ending in ("png", "svg"):
        assert (folder / f"{FIGURE}.{ending}").stat().st_size > 5000
    assert not list(folder.glob("iteration-*/fit/checkpoint-*"))


def test_an_iteration_by_hand_is_the_loops_own(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first iteration again, stage by stage, in a folder of its own."""
    folder, record = left
    hand = tmp_path / "by-hand"
    for stage in ("sample", "annotate", "score", "fit", "evaluate"):
        by_hand = [f"output_dir={hand}", "scores_dir=null", "eval_model=null"]
        made = run_stage(stage, load(str(folder / "iteration-1/config.yaml"), by_hand))
        show_llm.STAGES[stage](made.as_dict())
    show_llm.trained(record.as_dict(), folder)
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("responses of", "15 train, 5 eval", "win rate against", "wins against", TAUGHT["win-rate"]):
        assert part in shown
    assert (hand / "model/model.safetensors").read_bytes() == weights(record)[0]
    found = json.loads((hand / "evaluation.json").read_text())
    held = load_from_disk(found["folder"])
    assert len(held) == found["prompts"] == 5
    assert all(len(held[0][name]) == 2 for name in ("policy", "reference", "previous"))
    first = record.as_dict()["iterations"][0]
    assert found["win_rate"]["reference"] == first["win_rate"]["reference"]
    assert found["models"][0]["drawn"] == 0  # the stores know them


def test_records_are_frozen_and_read_back(left: Left) -> None:
    """Records are frozen, and what stands in the files is what the stages returned."""
    folder, record = left
    assert Run.read(folder) == record
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.iterations[0].loss = 0.0  # type: ignore[misc]  # that is what is tested
    for name in OF_A_RUN:
        stage = STAGES[name]
        found = stage.record.read(folder / "iteration-1")
        assert found is not None, name
        assert stage.record.from_dict(found.as_dict()) == found
        assert found.as_dict() == read_sealed(folder / "iteration-1" / stage.record.FILE)
    assert EncodedPairs.read(folder / "iteration-1/preferences") is not None
    assert EncodedPairs.read(folder / "iteration-1") is None


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_a_run_is_the_schemas(table: str, left: Left) -> None:
    """Its prompts are encoded once for all iterations; pairs of its own are token ids as they are made."""
    if table.startswith("encoded/"):
        for folder in (left.folder / "encoded").iterdir():
            check_table(folder, "encoded/<prompts>")
        return
    for t in (1, 2):
        check_table(left.folder / f"iteration-{t}" / table)
