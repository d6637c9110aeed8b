"""The papers' benchmarks: the harness's own code on a few rows in its formats, with answers that are known."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from harness_tasks import HARNESS, measure, saying, task

from mnpo.llm.benchmarks.academic import BENCHMARKS, academic
from mnpo.llm.benchmarks.academic_harness import SharedLM
from mnpo.llm.benchmarks.academic_tasks import Source

pytestmark = pytest.mark.usefixtures("alone")

IFEVAL = [
    ("Write small.", ["change_case:english_lowercase"], [{}], "all is small", True),
    ("Write big.", ["change_case:english_capital"], [{}], "Not ALL is big", False),
    ("No commas, tea.", ["punctuation:no_comma", "keywords:existence"], [{}, {"keywords": ["tea"]}], "Tea it is", True),
    ("No commas, honey.", ["punctuation:no_comma", "keywords:existence"], [{}, {"keywords": ["honey"]}], "Tea", False),
    (
        "At least three sentences.",
        ["length_constraints:number_sentences"],
        [{"num_sentences": 3, "relation": "at least"}],
        "One. Two. And three.",
        True,
    ),
]  # fmt: skip


def test_ifeval_is_the_harnesss_own_and_prompts_that_follow_all_instructions_count(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"key": key, "prompt": text, "instruction_id_list": names, "kwargs": arguments}
        for key, (text, names, arguments, _, _) in enumerate(IFEVAL)
    ]
    home = task(tmp_path / "tasks", "ifeval", rows, "train", include=str(HARNESS / "ifeval" / "ifeval.yaml"))
    answers = {text: answer for text, _, _, answer, _ in IFEVAL}
    saying(monkeypatch, answers.__getitem__)
    found = academic(
        {"tiny": str(model)}, ["IFEval"], output=tmp_path / "out", include_path=home, chat_template=False
    )
    assert found["models"]["tiny"]["IFEval"]["value"] == pytest.approx(60)
    assert found["models"]["tiny"]["IFEval"]["metric"] == "prompt_level_strict_acc"
    assert found["notes"] == [
        "tiny, IFEval: answers have at most 512 tokens, not 1280: the model takes 1024 in all"
    ]
    scored = sys.modules["lm_eval.tasks.ifeval.utils"].process_results
    for row, (_, _, _, answer, verdict) in zip(rows, IFEVAL, strict=True):
        assert scored(row, [answer])["prompt_level_strict_acc"] is verdict, answer


def test_gsm8k_is_the_harnesss_own_with_five_solved_examples(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = [
        {"question": f"What is {n} + {n}?", "answer": f"{n}+{n}={2 * n}\n#### {2 * n}"} for n in range(10, 16)
    ]
    home = tmp_path / "tasks"
    task(home, "train_rows", solved)
    asked = [{"question": f"{n} tens?", "answer": f"#### {n}0"} for n in (1, 2, 3, 4)]
    data = {"data_files": {"train": str(home / "train_rows.jsonl"), "test": str(home / "gsm8k.jsonl")}}
    task(home, "gsm8k", asked, include=str(HARNESS / "gsm8k" / "gsm8k.yaml"), dataset_kwargs=data)
    answers = {"1 tens?": "So #### 10", "2 tens?": "It is $20.", "3 tens?": "30 or 31", "4 tens?": "#### 44"}
    prompts = saying(
        monkeypatch,
        lambda text: next(answer for key, answer in answers.items() if f"Question: {key}" in text),
    )
    found = measure(model, home, "gsm8k")
    assert found["GSM8K"]["value"] == 50  # the last number counts, marked or not
    assert (found["GSM8K"]["shots"], found["GSM8K"]["metric"]) == (5, "exact_match,flexible-extract")
    kept = json.loads(next((tmp_path / "out").glob("gsm8k-*.json")).read_text())
    assert kept["result"]["metrics"]["exact_match,strict-match"][0] == 0.25
    for text in prompts:
        assert text.count("<start_of_turn>model\n") == 6
        assert text.count("####") == 5


def test_arc_is_the_harnesss_own_with_twenty_five_solved_examples(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(number: int, key: str) -> dict[str, Any]:
        choices = {"text": ["yes", "no"], "label": ["A", "B"]}
        return {"question": f"Is it {number}?", "choices": choices, "answerKey": key}

    home = task(tmp_path / "tasks", "train_rows", [row(number, "A") for number in range(30)])
    data = {
        "data_files": {"train": str(home / "train_rows.jsonl"), "test": str(home / "arc_challenge.jsonl")}
    }
    included = str(HARNESS / "arc" / "arc_challenge.yaml")
    asked = [row(100, "A"), row(101, "B")]
    task(home, "arc_challenge", asked, include=included, dataset_kwargs=data, validation_split=None)
    contexts = []

    def loglikelihood(self: SharedLM, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        contexts.extend(request.args[0] for request in requests)
        # by its length, "yes" is the likelier one
        return [(-2.5 if request.args[1].endswith("yes") else -2.0, False) for request in requests]

    monkeypatch.setattr(SharedLM, "loglikelihood", loglikelihood)
    found = measure(model, home, "arc", chat_template=False)["ARC"]
    assert (found["value"], found["shots"], found["metric"]) == (50, 25, "acc_norm")
    assert len(contexts) == 4
    assert all(text.count("Answer: yes") == 25 for text in contexts)


CODE_EVAL = """
import os

import datasets
import evaluate

class CodeEval(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": datasets.Sequence(text), "references": text})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references, k):
        if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
            raise ValueError("not allowed")
        passed = 0
        for (program,), check in zip(predictions, references):
            try:
                exec(program + "\\n" + check, {})
                passed += 1
            except Exception:
                pass
        return {"pass@1": passed / len(references)}, {}
"""


def test_code_of_models_runs_only_where_that_is_asked_for(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "task_id": str(n),
            "prompt": f"def plus{n}(x):\n",
            "entry_point": f"plus{n}",
            "test": f"def check(f):\n    assert f(1) == {n + 1}\n",
        }
        for n in range(4)
    ]
    included = str(HARNESS / "humaneval" / "humaneval_instruct.yaml")
    home = task(tmp_path / "tasks", "humaneval_instruct", rows, include=included)
    with pytest.raises(ValueError, match=r"HumanEval runs code .*: it needs execute_code$"):
        measure(model, home, "humaneval")
    (tmp_path / "code_eval").mkdir()  # the hub's metric, which the harness looks for here first
    (tmp_path / "code_eval" / "code_eval.py").write_text(CODE_EVAL)
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    saying(monkeypatch, lambda text: "    return x + 3\n```\nThat is all.")
    found = measure(model, home, "humaneval", execute_code=True)
    assert found["HumanEval"]["value"] == 25
    assert "HF_ALLOW_CODE_EVAL" not in os.environ


def test_every_benchmark_is_a_task_of_the_harness_with_its_metric() -> None:
    for benchmark in BENCHMARKS.values():
        for name in {benchmark.task, benchmark.chat_task or benchmark.task}:
            source = Source.of(name, benchmark.folders, None, "", BENCHMARKS)
            assert not source.everything, "the folders of the harness are not where they were"
            leaves = [config for config, _ in source._parts(name) if "metric_list" in config]
            assert leaves
            for config in leaves:
                metrics = [str(one["metric"]).replace("pass_at_k", "pass@1") for one in config["metric_list"]]
                assert any(metric.endswith(benchmark.metric) for metric in metrics), name
                assert config.get("num_fewshot") in (None, 0, benchmark.shots), name
                filters = [one["name"] for one in config.get("filter_list") or [{"name": "none"}]]
                assert benchmark.filter in filters
            assert source.executes(name) is (benchmark.title == "HumanEval")


def test_every_benchmark_is_documented_as_it_is_measured() -> None:
    docs = Path(__file__).parents[3] / "docs"
    rows = [line for page in docs.rglob("*.md") for line in page.read_text("utf-8").splitlines()]
    for benchmark in BENCHMARKS.values():
        (row,) = [
            line
            for line in rows
            if line.startswith(f"| {benchmark.title} | `{benchmark.chat_task or benchmark.task}`")
        ]
        _, task, shots, metric = row.strip("| ").split(" | ")
        assert f"`{benchmark.task}`" in task
        assert int(shots) == benchmark.shots
        assert f"`{benchmark.metric}`" in metric
        assert benchmark.filter in ("none", "create_test") or f"`{benchmark.filter}`" in metric
