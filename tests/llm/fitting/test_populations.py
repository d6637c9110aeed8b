"""Annotators fitted apart: who is fitted on what, the shares, and that the population judges in a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle_fits import asked, fit_oracle, write_rows

from mnpo.llm.config import load
from mnpo.llm.data import made
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.cards import Population
from mnpo.llm.oracles.panel import build
from mnpo.llm.stages.running import run_stage

GIVEN = ["dataset_name=tiny:judgments:120", "per_annotator=true", "eval_size=0"]


@pytest.mark.parametrize("part", ["model", "head"])
def test_each_annotator_is_fitted_on_its_own_labels(part: str, tmp_path: Path, base: Path) -> None:
    """Each is as if fitted alone; together they are a population with the shares of their labels."""
    home = tmp_path / "oracle"
    record = fit_oracle(home, base, *GIVEN, f"annotator_parts={part}")
    names = [one["annotator"] for one in made.judgments(120)]
    panel = build(str(home))
    assert panel.name == "oracle"
    assert [member.oracle.name for member in panel.members] == sorted(made.ANNOTATORS)
    for member, fitted in zip(panel.members, record.parts, strict=True):
        assert member.weight == pytest.approx(names.count(member.oracle.name) / 120)
        assert fitted.labels == names.count(member.oracle.name)
    prompt = [{"role": "user", "content": "Tell me about rain."}]
    questions = [Question(prompt, text) for text in ("It is rain.", "Hooray for rain, tra la la!", "No.")]
    answers = [np.array(asked(member.oracle, questions)) for member in panel.members]
    if part == "model":
        rows = [row for row in made.judgments(120) if row["annotator"] == "bob"]
        alone = write_rows(tmp_path / "bob.jsonl", rows)
        fit_oracle(tmp_path / "alone", base, f"dataset_name={alone}", "eval_size=0")
        (bob,) = build(str(tmp_path / "alone")).members
        assert asked(bob.oracle, questions) == pytest.approx(answers[1], abs=1e-6)
    else:
        models = {member.model for member in Population.read(home).members}  # type: ignore[union-attr]
        assert models == {"model"}
        assert len({tuple(np.round(one, 6)) for one in answers}) == 3
    assert not (home / "start").exists()


def test_a_population_judges_where_its_folder_is_named(tmp_path: Path, base: Path) -> None:
    home = tmp_path / "oracle"
    fit_oracle(home, base, *GIVEN, "annotator_parts=head")
    given = [
        f"model_name_or_path={base}", f"output_dir={tmp_path / 'run'}", "prompt_dataset_name=tiny:prompts:10",
        "eval_prompts=2", "num_generations=3", f"oracle={home}", "use_cpu=true",
    ]  # fmt: skip
    config = load("tiny", given)
    run_stage("sample", config)
    record = run_stage("annotate", config)
    assert [row.oracle for row in record.oracles] == sorted(made.ANNOTATORS)
    assert record.made > 0


def test_too_few_labels_are_refused(tmp_path: Path, base: Path) -> None:
    rows = [{**row, "annotator": "ann"} for row in made.pairs(30)]
    rows += [{**row, "annotator": "zoe"} for row in made.pairs(3, seed=9)]
    data = write_rows(tmp_path / "few.jsonl", rows)
    with pytest.raises(ValueError, match="annotator zoe has 3 labels, fewer than annotator_labels=10"):
        fit_oracle(tmp_path / "oracle", base, f"dataset_name={data}", "per_annotator=true", "eval_size=0")
