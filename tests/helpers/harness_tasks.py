"""Small tasks of lm-evaluation-harness with local data, and models that answer as they are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest

from mnpo.llm.benchmarks.academic import academic
from mnpo.llm.benchmarks.academic_harness import SharedLM

HARNESS = Path(lm_eval.tasks.__file__).parent
CHOICES = ["honey", "winter", "the sea", "an old map"]
QUESTIONS = [f"Tell me about {thing}" for thing in ("tea", "the sea", "a violin", "winter", "a map", "bees")]


def task(home: Path, name: str, rows: Sequence[dict[str, Any]], split: str = "test", **keys: Any) -> Path:
    """Write a task of the harness with local data; JSON is YAML."""
    home.mkdir(exist_ok=True)
    data = home / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"data_files": {split: str(data)}} if "dataset_kwargs" not in keys else keys["dataset_kwargs"]
    given = {"task": name, "dataset_path": "json", "dataset_name": None, **keys, "dataset_kwargs": files}
    (home / f"{name}.yaml").write_text(json.dumps(given))
    return home


def choosing(home: Path, golds: Sequence[int], name: str = "own_choice") -> Path:
    rows = [{"q": question, "gold": gold} for question, gold in zip(QUESTIONS, golds, strict=False)]
    return task(
        home, name, rows, output_type="multiple_choice", test_split="test", doc_to_text="{{q}}:",
        doc_to_choice=CHOICES, doc_to_target="{{gold}}", metric_list=[{"metric": "acc"}], metadata={"version": 3},
    )  # fmt: skip


def writing(home: Path, golds: Sequence[str], name: str = "own_writing") -> Path:
    rows = [{"q": question, "gold": gold} for question, gold in zip(QUESTIONS, golds, strict=True)]
    return task(
        home, name, rows, output_type="generate_until", test_split="test", doc_to_text="{{q}}",
        doc_to_target="{{gold}}", metric_list=[{"metric": "exact_match"}],
        generation_kwargs={"until": ["<eos>"], "max_gen_toks": 6, "do_sample": False},
    )  # fmt: skip


def prompt(tokenizer: Any, question: str, chat: bool) -> str:
    if not chat:
        return question
    messages = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def saying(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], str]) -> list[str]:
    """Have models answer as they are told; return the prompts that they are given."""
    prompts: list[str] = []

    def generate_until(self: SharedLM, requests: Any, disable_tqdm: bool = False) -> list[str]:
        prompts.extend(request.args[0] for request in requests)
        return [answer(request.args[0]) for request in requests]

    monkeypatch.setattr(SharedLM, "generate_until", generate_until)
    return prompts


def measure(model: Path, home: Path, *tasks: str, **options: Any) -> dict[str, Any]:
    found = academic({"tiny": str(model)}, tasks, output=home.parent / "out", include_path=home, **options)
    return dict(found["models"]["tiny"])
