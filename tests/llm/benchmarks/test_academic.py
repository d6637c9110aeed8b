"""Academic benchmarks: tasks of one's own, whose answers are computed without the harness."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import nltk
import pytest
import torch
from harness_tasks import CHOICES, HARNESS, QUESTIONS, choosing, measure, prompt, saying, task, writing

from mnpo.llm.benchmarks.academic_harness import Bench
from mnpo.llm.models.loading import load_model, load_tokenizer

pytestmark = pytest.mark.usefixtures("alone")


def likeliest(folder: Path) -> list[int]:
    """What the model chooses, from log-probabilities that transformers alone computes."""
    tokenizer, network = load_tokenizer(folder), load_model(folder).eval()
    chosen = []
    for question in QUESTIONS:
        sums = []
        for choice in CHOICES:
            ids = tokenizer(f"{question}: {choice}", return_tensors="pt").input_ids
            start = len(tokenizer(f"{question}:").input_ids)
            with torch.no_grad():
                logs = network(input_ids=ids).logits[0, :-1].log_softmax(-1)
            each = logs.gather(1, ids[0, 1:, None])[:, 0]
            sums.append(float(each[start - 1 :].sum()))
        chosen.append(max(range(len(CHOICES)), key=sums.__getitem__))
    return chosen


def written(folder: Path, chat: bool) -> list[str]:
    """What the model writes, with transformers alone."""
    tokenizer, network = load_tokenizer(folder), load_model(folder).eval()
    texts = []
    for question in QUESTIONS:
        ids = tokenizer(
            prompt(tokenizer, question, chat), add_special_tokens=False, return_tensors="pt"
        ).input_ids
        found = network.generate(ids, do_sample=False, max_new_tokens=6, pad_token_id=0, eos_token_id=1)
        texts.append(tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("processes", [1, 2])
def test_accuracies_are_those_of_the_models_own_probabilities_and_texts(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], processes: int
) -> None:
    home = tmp_path / "tasks"
    golds = likeliest(model)
    texts = written(model, chat=False)
    assert len(set(texts)) > 3
    choosing(home, [*golds[:4], *((gold + 1) % 4 for gold in golds[4:])])
    choosing(home, golds[:1], "own_single")  # fewer questions than processes
    writing(home, [*texts[:2], "something else", *texts[3:]])
    group = {"group": "own_group", "task": ["own_choice", "own_single"], "metadata": {"version": 2}}
    weighed = {"metric": "acc", "weight_by_size": True}
    (home / "group.yaml").write_text(json.dumps({**group, "aggregate_metric_list": [weighed]}))
    capfd.readouterr()
    options = {"chat_template": False, "batch_size": 4, "processes": processes, "device": "cpu"}
    found = measure(model, home, "own_choice", "own_single", "own_group", "own_writing", **options)
    assert capfd.readouterr() == ("", "")
    for title, share, metric, version in (
        ("own_choice", 4 / 6, "acc", "3"),
        ("own_writing", 5 / 6, "exact_match", None),
    ):
        assert found[title]["value"] == pytest.approx(100 * share)
        assert found[title]["standard_error"] == pytest.approx(100 * math.sqrt(share * (1 - share) / 5))
        rest = {"metric": metric, "task": title, "version": version, "shots": 0, "count": 6}
        assert {key: found[title][key] for key in rest} == rest
    assert (found["own_single"]["value"], found["own_single"]["standard_error"]) == (100, None)
    assert found["own_group"]["value"] == pytest.approx(100 * 5 / 7)
    assert [found["own_group"][key] for key in ("version", "shots", "count")] == ["2", 0, 7]


def test_processes_share_the_questions(model: Path, tmp_path: Path) -> None:
    home = choosing(tmp_path / "tasks", [0] * 6)
    (home / "notes.py").write_text(
        "import os, pathlib\n\n"
        "def score(doc, results):\n"
        "    with (pathlib.Path(__file__).parent.parent / f'{os.environ[\"RANK\"]}.txt').open('a') as file:\n"
        "        file.write(doc['q'] + '\\n')\n"
        "    return {'acc': 1}\n"
    )
    (home / "noted.yaml").write_text(
        "include: own_choice.yaml\ntask: own_noted\nprocess_results: !function notes.score\n"
    )
    assert measure(model, home, "own_noted", processes=2, device="cpu")["own_noted"]["count"] == 6
    noted = [(tmp_path / f"{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    assert [len(lines) for lines in noted] == [3, 3]
    assert {line for lines in noted for line in lines} == set(QUESTIONS)


def test_chats_are_written_by_the_models_template_and_solved_examples_are_turns(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = written(model, chat=True)
    home = writing(tmp_path / "tasks", texts)
    assert measure(model, home, "own_writing")["own_writing"]["value"] == 100
    assert measure(model, home, "own_writing", chat_template=False)["own_writing"]["value"] < 50
    prompts = saying(monkeypatch, str)
    writing(home, texts, "own_again")
    measure(model, home, "own_again")
    measure(model, home, "own_again", chat_template=False)
    tokenizer = load_tokenizer(model)
    assert prompts == [prompt(tokenizer, question, chat) for chat in (True, False) for question in QUESTIONS]
    tokenizer.chat_template = None
    tokenizer.save_pretrained(model.parent / "plain")
    load_model(model).save_pretrained(model.parent / "plain")
    with pytest.raises(ValueError, match="plain has no chat template: ask without one, chat_template=False"):
        measure(model.parent / "plain", home, "own_again")


def test_what_was_measured_is_not_measured_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = choosing(tmp_path / "tasks", [0, 1, 2])
    choosing(home, [3, 3], "own_other")
    done: list[str] = []
    real = Bench.do

    def do(self: Bench, job: dict[str, Any]) -> None:
        if job["settings"]["task"] == "own_other" and not done.count("killed"):
            done.append("killed")
            raise KeyboardInterrupt
        done.append(job["settings"]["task"])
        real(self, job)

    monkeypatch.setattr(Bench, "do", do)
    with pytest.raises(KeyboardInterrupt):
        measure(model, home, "own_choice", "own_other")
    told: list[tuple[int, int]] = []
    first = measure(model, home, "own_choice", "own_other", progress=lambda *at: told.append(at))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert measure(model, home, "own_choice", "own_other") == first
    assert done == ["own_choice", "killed", "own_other"]
    choosing(home, [0, 1, 3])
    measure(model, home, "own_choice")
    assert done[3:] == ["own_choice"]
    definition = home / "own_choice.yaml"
    definition.write_text(definition.read_text().replace("{{q}}:", "{{q}}?"))
    measure(model, home, "own_choice")
    assert done[4:] == ["own_choice"]
    assert measure(model, home, "own_choice", limit=2)["own_choice"]["count"] == 2
    assert measure(model, home, "own_choice", seed=1)["own_choice"]["count"] == 3
    assert done[5:] == ["own_choice"] * 2


@pytest.mark.parametrize(
    ("tasks", "options", "line"),
    [
        (["own_choise"], {}, r"unknown task 'own_choise'; did you mean 'own_choice'\?"),
        (["missing"], {}, r"the data of task missing cannot be loaded: .*nowhere.jsonl'"),
        (["hub"], {}, r"the data of task hub cannot be loaded: .*"),
        ([], {}, "no tasks are given"),
        (["own_choice"], {"limit": 0}, "limit must be at least 1; found 0"),
        (["own_choice"], {"batch_size": "all"}, "batch_size must be a positive number or auto; found 'all'"),
        (["own_choice"], {"dtype": "float31"}, "unknown dtype 'float31'; did you mean 'float32'.*"),
        (["own_choice"], {"device": "gpu"}, "device must be cpu, mps, cuda or cuda:N; found 'gpu'"),
        (["own_choice"], {"processes": 0}, "processes must be at least 1; found 0"),
    ],
)
def test_bad_input_is_one_line(
    model: Path, tmp_path: Path, tasks: list[str], options: dict[str, Any], line: str
) -> None:
    home = choosing(tmp_path / "tasks", [0, 1])
    keys = {
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_target": "1",
    }
    task(home, "missing", [], dataset_kwargs={"data_files": {"test": "nowhere.jsonl"}}, **keys)
    task(home, "hub", [], dataset_path="somebody/something", **keys)
    with pytest.raises(ValueError, match=rf"^{line}$") as raised:
        measure(model, home, *tasks, **options)
    assert "\n" not in str(raised.value)


def test_what_is_not_installed_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(nltk, "download", lambda *_, **__: False)
    home = task(tmp_path / "tasks", "ifeval", [], "train", include=str(HARNESS / "ifeval" / "ifeval.yaml"))
    with pytest.raises(ValueError, match=r"needs nltk's punkt_tab, .*: python -m nltk.downloader punkt_tab$"):
        measure(model, home, "ifeval")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "lm_eval.tasks")
    with pytest.raises(ValueError, match=r"^academic benchmarks need lm-eval: pip install 'mnpo\[eval\]'$"):
        measure(model, home, "ifeval")
