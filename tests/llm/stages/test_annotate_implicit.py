"""Annotation for an implicit step: weights from the models' own probabilities, kept scores, collapse, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prompt_files import configured, written
from transformers import AutoModelForCausalLM

from mnpo.llm.checks import check_stage
from mnpo.llm.config import Config
from mnpo.llm.data.tables import open_table
from mnpo.llm.models import tiny
from mnpo.llm.stages.records import ANNOTATIONS, PREFERENCES, SAMPLES
from mnpo.llm.stages.registry import run_here
from mnpo.oracles import Pairwise
from mnpo.sample_game import sample_game

ETA, TAU = 4.0, 0.1


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A policy, its reference and the policy before it."""
    first = tiny.build("tiny:gpt2", tmp_path_factory.mktemp("model"))
    found = [first]
    for place in (1, 2):
        model = AutoModelForCausalLM.from_pretrained(first)
        torch.manual_seed(place)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.03 * torch.randn_like(weight)
        folder = tmp_path_factory.mktemp(f"other-{place}")
        for file in first.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        model.save_pretrained(folder)
        (folder / "checksums.json").unlink()  # changed on purpose
        found.append(folder)
    return found


def config_of(folder: Path, models: list[Path], *overrides: str) -> Config:
    folder.mkdir(exist_ok=True)
    rows: list[Any] = [{"prompt": f"question {i}"} for i in range(5)]
    policy, reference, past = models
    return configured(
        folder, written(folder, rows), "eval_prompts=0", "num_generations=4", "max_new_tokens=8", "pairing=all",
        f"model_name_or_path={policy}", f"reference_model_name_or_path={reference}", f"past_models=[{past}]",
        f"rule={{name: prox, eta: {ETA}, tau: {TAU}, history: 2}}", "target=win-rate", "top_p=1", "oracle=forms",
        *overrides,
    )  # fmt: skip


def log_prob(model: Any, prompt: list[int], answer: list[int], temperature: float) -> float:
    """From all logits, token by token."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double() / temperature
    said = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return float(said[torch.arange(len(answer)), torch.tensor(answer)].sum())


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_weights_are_the_models_own(tmp_path: Path, models: list[Path], temperature: float) -> None:
    config = config_of(tmp_path, models, f"temperature={temperature}")
    run_here("sample", config)
    made = run_here("annotate", config)
    home = config.folders.home
    samples, said = open_table(home / SAMPLES), open_table(home / ANNOTATIONS)
    pairs = open_table(home / PREFERENCES)
    policy, reference, past = (AutoModelForCausalLM.from_pretrained(folder).double() for folder in models)
    pull = ETA * TAU
    logs = np.array(
        [
            [
                pull * log_prob(reference, row["prompt_ids"], one["ids"], 1)
                + (1 - pull) / 2 * log_prob(policy, row["prompt_ids"], one["ids"], 1)
                + (1 - pull) / 2 * log_prob(past, row["prompt_ids"], one["ids"], 1)
                - log_prob(policy, row["prompt_ids"], one["ids"], temperature)
                for one in row["responses"]
            ]
            for row in samples
        ]
    )
    weights = np.exp(logs - logs.max(1, keepdims=True))
    assert np.allclose(said["effective"], weights.sum(1) ** 2 / (weights**2).sum(1), rtol=1e-4)
    assert made.weights.effective == pytest.approx(np.mean(said["effective"]))
    assert made.weights.least == pytest.approx(np.min(said["effective"]))
    for number, row in enumerate(samples):
        texts = [one["text"] for one in row["responses"]]
        wins = Pairwise(np.array(said[number]["wins forms"]))
        for pair in pairs.filter(lambda one, source=row["row"]: one["source"] == source):
            places = texts.index(pair["chosen"]), texts.index(pair["rejected"])
            if texts.count(pair["chosen"]) + texts.count(pair["rejected"]) > 2:
                continue
            wanted = sample_game(wins, logs[[number]], [places], strength=ETA).advantages[0, 0]
            assert [pair["win_chosen"], pair["win_rejected"]] == pytest.approx(wanted.tolist(), abs=1e-5)
    asked = sum(len({one["text"] for one in row["responses"]}) * (len({one["text"] for one in row["responses"]}) - 1)
                for row in samples) // 2  # fmt: skip
    assert sum(one.asked + one.reused for one in made.oracles) == asked
    again = run_here("annotate", config)
    assert sum(one.scored for one in again.scores) + sum(one.asked for one in again.oracles) == 0
    assert again.manifest == made.manifest


def test_collapsed_weights_are_counted_and_named(tmp_path: Path, models: list[Path]) -> None:
    """Everything on a reference that is far from what was drawn."""
    far = AutoModelForCausalLM.from_pretrained(models[1])
    with torch.no_grad():
        far.get_output_embeddings().weight *= 40
    far.save_pretrained(tmp_path / "far")
    for file in models[1].iterdir():
        if not (tmp_path / "far" / file.name).exists() and file.name != "checksums.json":
            (tmp_path / "far" / file.name).write_bytes(file.read_bytes())
    config = config_of(
        tmp_path, models, f"reference_model_name_or_path={tmp_path / 'far'}", f"rule={{name: prox, eta: {1 / TAU}, tau: {TAU}}}"
    )  # fmt: skip
    run_here("sample", config)
    weights = run_here("annotate", config).weights
    effective = open_table(config.folders.home / ANNOTATIONS)["effective"]
    rows = open_table(config.folders.home / SAMPLES)["row"]
    assert weights.rows == [row for row, size in zip(rows, effective, strict=True) if size < 2]
    assert weights.collapsed == len(weights.rows) > 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("top_p=0.9", "top_p=1 and a temperature above 0"),
        ("temperature=0", "top_p=1 and a temperature above 0"),
        ("num_generations=2", "at least 3 for rule prox"),
        ("pairing=third", "needs all, iid or best-worst"),
        ("target=label", "which labels do not tell"),
        ("opponent_models=[{other}]", "players who are alike"),
    ],
)
def test_what_has_no_sample_game_is_refused(
    tmp_path: Path, models: list[Path], override: str, words: str
) -> None:
    config = config_of(tmp_path, models, override.format(other=models[1]))
    for stage in ("sample", "annotate"):
        with pytest.raises(ValueError, match=words):
            check_stage(stage, config)


def test_one_response_repeated_makes_no_pair(tmp_path: Path, models: list[Path]) -> None:
    config = config_of(tmp_path, models, "temperature=1e-4")
    run_here("sample", config)
    with pytest.raises(ValueError, match="responses all tie or are identical"):
        run_here("annotate", config)
    assert not (config.folders.home / PREFERENCES).exists()
