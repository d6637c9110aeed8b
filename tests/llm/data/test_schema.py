"""The rows that stages hand to each other are those of the one schema, whatever a run is made of."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from conforming import check_table
from datasets import load_from_disk

from mnpo.llm.api import as_config, run_stage
from mnpo.llm.config import Config
from mnpo.llm.data import formats, schema
from mnpo.llm.data.schema import TABLES, Column, arrow_schema, present
from mnpo.llm.models import tiny


def test_numbers_that_are_read_and_those_that_are_kept_are_the_same() -> None:
    assert list(formats.NUMBERS) == [column.name for column in schema.NUMBERS]
    assert all(column.optional and column.type == pa.float64() for column in schema.NUMBERS)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_there_once_and_says_what_it_holds(table: str) -> None:
    columns = TABLES[table]
    names = [column.name for column in columns]
    assert len(names) == len(set(names))
    for column in columns:
        assert column.about
        assert column.written
        assert column.read
        assert column.matches(column.name.replace("<", "").replace(">", ""))
    assert arrow_schema(columns).names == [name for name in names if "<" not in name]


@pytest.mark.parametrize(
    ("name", "column", "matches"),
    [
        ("kl_ids", "<estimate>_ids", True), ("_ids", "<estimate>_ids", False), ("kl", "<estimate>_ids", False),
        ("past-1_chosen", "<anchor>_chosen", True), ("reference_kl", "reference_<estimate>", True),
        ("reference_", "reference_<estimate>", False), ("wins ann", "wins <oracle>", True), ("row", "row", True),
        ("rows", "row", False), ("anybody", "<policy>", True),
    ],
)  # fmt: skip
def test_names_that_vary_are_recognised(name: str, column: str, matches: bool) -> None:
    assert Column(column, pa.int64(), "a", "b", "c").matches(name) is matches


def test_optional_columns_are_left_out_where_no_row_has_them() -> None:
    rows = [{"row": 1, "margin": None, "weight": None}, {"row": 2, "margin": 1.0, "weight": None}]
    found = present(pa.Table.from_pylist(rows, schema=arrow_schema(schema.PAIRS)), schema.PAIRS)
    assert "margin" in found.column_names
    assert "weight" not in found.column_names
    assert "prompt" in found.column_names, "a column that every table has was left out"


def worth(prompt: str, response: str) -> float:
    return len(response) / 10


def configured(folder: Path, model: Path, *overrides: str, oracle: object = None) -> Config:
    given = [
        f"output_dir={folder}", f"model_name_or_path={model}", "max_samples=12", "eval_size=3", "num_generations=4",
        "prompt_dataset_name=tiny:prompts:8", "eval_prompts=2", "eval_generations=1", "max_new_tokens=8", "max_steps=1",
    ]  # fmt: skip
    return as_config("tiny", *given, *overrides, oracle=oracle)  # type: ignore[arg-type]  # a function, or none


@pytest.mark.parametrize(
    ("overrides", "columns"),
    [
        (["objective=kto"], {"kl_ids", "reference_kl", "reference_chosen"}),
        (["rule={name: eo-mnpo, eta: 2, tau: 0.1, external_tau: [0.2]}", "external_models=[MODEL]"],
         {"external-1_chosen", "current_rejected", "win_chosen"}),
        (["rule={name: ht-mnpo, eta: 2, tau: 0.1}", "opponent_models=[MODEL]"], {"opponent-1_chosen"}),
        (["rule.players=3", "past_models=[MODEL]", "target=label"], {"past-1_rejected", "preference"}),
    ],
    ids=["kto", "eo-mnpo", "ht-mnpo", "td-mnpo"],
)  # fmt: skip
def test_scored_pairs_are_the_schemas(
    overrides: list[str], columns: set[str], untaught: Path, tmp_path: Path
) -> None:
    other = tiny.build("tiny:gpt2:1", tmp_path)
    given = [override.replace("MODEL", str(other)) for override in overrides]
    run_stage("score", configured(tmp_path / "run", untaught, *given))
    check_table(tmp_path / "run/scored")
    for folder in (tmp_path / "run/encoded").iterdir():
        given = "row" in load_from_disk(str(folder)).column_names
        check_table(folder, "encoded/<pairs>" if given else "encoded/<pairs of an external anchor>")
    assert columns <= set(load_from_disk(str(tmp_path / "run/scored"))["train"].column_names)


@pytest.mark.parametrize("alone", [True, False], ids=["own", "opponents"])
def test_samples_and_judgments_are_the_schemas(alone: bool, untaught: Path, tmp_path: Path) -> None:
    given = ["target=win-rate", "eval_opponents={a_rival: tiny:gpt2:1}"]
    if not alone:
        given += ["rule={name: ht-mnpo, eta: 2, tau: 0.1}", f"opponent_models=[{untaught}]"]
    home = tmp_path / "run"
    config = configured(home, untaught, *given, oracle=worth)
    for stage in ("sample", "annotate", "evaluate"):
        run_stage(stage, config)
    for table in ("prompts-and-responses", "annotations", "preferences", "held-out"):
        check_table(home / table)
    (prompts,) = (home / "encoded").iterdir()
    check_table(prompts, "encoded/<prompts>")
    assert "rewards worth" in load_from_disk(str(home / "annotations")).column_names
    assert {"policy", "a_rival"} <= set(load_from_disk(str(home / "held-out")).column_names)
