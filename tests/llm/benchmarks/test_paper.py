"""`mnpo llm benchmark academic` and `all`: by command, and the paper's tables with rows of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness_tasks import choosing
from typer.testing import CliRunner

from mnpo.cli.main import app
from mnpo.common.seals import read_sealed
from mnpo.llm.benchmarks import paper


def run(*words: str) -> Any:
    result = CliRunner().invoke(app, ["llm", "benchmark", *words, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout)


@pytest.mark.usefixtures("alone")
def test_academic_benchmarks_by_command(model: Path, tmp_path: Path) -> None:
    home = choosing(tmp_path / "tasks", [0, 1, 2, 3])
    words = ("academic", f"model={model}", "tasks=[own_choice]", f"task_files={home}", "use_cpu=true",
             f"output_dir={tmp_path / 'out'}", "chat_prompts=false")  # fmt: skip
    found = run(*words)
    row = found["models"][model.name]["own_choice"]
    assert (row["count"], row["metric"]) == (4, "acc")
    assert row["value"] in (0, 25, 50, 75, 100)
    assert read_sealed(tmp_path / "out" / "academic.json") == found
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "academic").iterdir()}
    assert run(*words) == found
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    with pytest.raises(ValueError, match="a is a player of kind file"):
        run("academic", f"model={tmp_path / 'a.jsonl'}", f"output_dir={tmp_path / 'out'}")


def test_the_papers_tables_have_our_rows_beside_theirs() -> None:
    seven = ("IFEval", "GPQA", "MMLU", "ARC", "HellaSwag", "TruthfulQA", "Winogrande")
    suites = {
        "mt-bench": {"models": {"a|b": {"score": 7.5}}, "judge": "gpt-4 at https://x/v1"},
        "arena-hard": {"models": {"a|b": {"win_rate": 40.0}}, "judge": "gpt-4 at https://x/v1"},
        "academic": {
            "protocol": "harness 1",
            "models": {"a|b": {name: {"value": float(k)} for k, name in enumerate(seven)},
                       "c_d": {"GSM8K": {"value": 50.0}}},
        },
    }  # fmt: skip
    found = paper.tables(suites, "standard")
    assert list(found) == [table.title for table in paper.TABLES]
    second, third, fourth = found.values()
    own = second["rows"][-1]
    assert (own["name"], own["values"], own["source"]) == ("a|b", [None, 40.0, 7.5], "standard, gpt-4")
    assert [row["name"] for row in second["rows"][:-1]] == list(paper.TABLES[0].rows)
    assert third["rows"][-1]["values"] == [0, 1, 2, 3, 4, 5, 6, 3]  # with the mean of all seven
    assert fourth["rows"][-1] == {
        "name": "c_d",
        "source": "harness 1",
        "values": [50.0, None, None, None, None],
    }
    text = paper.markdown(found)
    assert "| a\\|b |  | 40.00 | 7.50 | standard, gpt-4 |" in text
    assert "| TD-MNPO | 57.27 | 52.26 | 7.03 | paper: EvalScope 1.0.2, GPT-5-mini |" in text
    latex = paper.latex(found)
    assert r"c\_d & 50.00 &  &  &  &  & harness 1 \\" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    for table in paper.TABLES:
        assert all(len(row) == len(table.columns) for row in table.rows.values())
    assert paper.tables({}, "standard") == {}
