"""Fitted oracles: what was trained is what judges, whatever stands beside a text in a batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle_fits import asked, fit_oracle, fitted, write_rows
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from mnpo.llm.data import made
from mnpo.llm.data.encoding import text_of
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.cards import Card
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.stages.records import FittedOracle

ROWS = list(made.pairs(12, seed=3))
PROMPTS = [row["prompt"] for row in ROWS]
#: Texts of very different length.
TEXTS = [text_of(row["chosen"]) * (1 + place % 5) for place, row in enumerate(ROWS)]
OTHERS = [text_of(row["rejected"]) + "!" for row in ROWS]
KINDS = ("reward", "embedding", "pairwise")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pairs that are held out."""
    rows = [
        {"prompt": prompt, "chosen": text, "rejected": other}
        for prompt, text, other in zip(PROMPTS, TEXTS, OTHERS, strict=True)
    ]
    return write_rows(tmp_path_factory.mktemp("data") / "held.jsonl", rows)


@pytest.fixture(scope="module", params=KINDS)
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, base: Path, held: str
) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "oracle"
    fit_oracle(folder, base, f"oracle_kind={request.param}", "embedding_pairs=2", f"eval_dataset_name={held}")
    return folder


def kind_of(home: Path) -> str:
    card = Card.read(home / "model")
    assert card is not None
    return card.kind


def questions(home: Path, turned: bool = False) -> list[Question]:
    if kind_of(home) == "reward":
        return [Question(*one) for one in zip(PROMPTS, OTHERS if turned else TEXTS, strict=True)]
    return [
        Question(*one) for one in zip(PROMPTS, *((OTHERS, TEXTS) if turned else (TEXTS, OTHERS)), strict=True)
    ]


def chances(home: Path, **options: Any) -> np.ndarray:
    """P(text ≻ other) by the oracle."""
    oracle = fitted(home, **options)
    one, two = (np.array(asked(oracle, questions(home, turned))) for turned in (False, True))
    if oracle.kind == "reward":
        return np.asarray(1 / (1 + np.exp(two - one)))
    return (one + 1 - two) / 2 if oracle.both_orders else one


def test_answers_do_not_depend_on_batches_padding_or_neighbours(home: Path, tmp_path: Path) -> None:
    given = questions(home)
    alone = asked(fitted(home, batch_size=1), given)
    assert np.std(alone) > 1e-3
    for size in (2, 5, 12):
        assert asked(fitted(home, batch_size=size), given) == pytest.approx(alone, abs=1e-5)
    assert asked(fitted(home), given[3:7]) == pytest.approx(alone[3:7], abs=1e-5)
    changed = shutil.copytree(home / "model", tmp_path / "model")
    (changed / "checksums.json").unlink()  # changed on purpose
    file = changed / "tokenizer_config.json"
    sides = {"padding_side": "left", "truncation_side": "left"}
    file.write_text(json.dumps({**json.loads(file.read_text()), **sides}))
    assert asked(fitted(tmp_path), given) == pytest.approx(alone, abs=1e-5)


def test_what_was_trained_is_what_judges(home: Path) -> None:
    """The trainer's logits on held-out pairs, prompts shared, give the loss of the oracle's own answers."""
    record = FittedOracle.read(home)
    assert record is not None
    told = record.parts[0].phases[-1].fits[""]["one"]
    found = chances(home)
    assert told.pairs == 12
    assert told.log_loss == pytest.approx(-np.log(found).mean(), abs=1e-6)
    assert told.accuracy == pytest.approx((found > 0.5).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_may_lie_otherwise(kind: str, tmp_path: Path, base: Path) -> None:
    """Prompts shared, prompts apart, packed: the same losses, whatever is computed once."""
    losses = []
    for place, override in enumerate(["share_prompts=true", "share_prompts=false", "packing=true"]):
        given = [f"oracle_kind={kind}", "train_sampling_strategy=sequential", "max_steps=2", override]
        record = fit_oracle(tmp_path / str(place), base, *given)
        losses.append([entry["loss"] for entry in record.parts[0].phases[0].log if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_both_orders_sum_to_one(home: Path) -> None:
    oracle = fitted(home)
    if oracle.kind == "reward":  # as runs read rewards: Bradley–Terry
        wins = Judged(1.0, rewards=np.array(asked(oracle, questions(home))) / oracle.scale).matrix(len(TEXTS))
        assert np.abs(wins + wins.T - 1).max() < 1e-15
        assert np.std(wins) > 1e-6
        return
    one, two = (np.array(asked(oracle, questions(home, turned))) for turned in (False, True))
    if kind_of(home) == "embedding":
        assert np.abs(one + two - 1).max() < 1e-15
    else:  # it is measured, and made exact by averaging
        assert oracle.both_orders
        assert np.abs(one + two - 1).max() > 1e-6


def test_what_is_saved_is_transformers_own(home: Path) -> None:
    """Batches as its tokenizer pads them, read by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    tokenizer.padding_side = "right"
    kind = kind_of(home)
    if kind == "pairwise":
        model = AutoModelForCausalLM.from_pretrained(home / "model", attn_implementation="eager")
        assert type(model).__name__ == "Gemma2ForCausalLM"
        return
    network = AutoModelForSequenceClassification
    model = network.from_pretrained(home / "model", attn_implementation="eager").eval()
    talks = [[*p, {"role": "assistant", "content": t}] for p, t in zip(PROMPTS, TEXTS, strict=True)]
    texts = [tokenizer.apply_chat_template(talk, tokenize=False) for talk in talks]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        found = model(**batch).logits
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    if kind == "reward":
        assert found[:, 0].tolist() == pytest.approx(asked(fitted(home), questions(home)), abs=1e-5)
    else:
        assert found.shape == (12, 4)


def test_an_adapter_is_merged_with_its_head(tmp_path: Path, base: Path, held: str) -> None:
    lora = ["lora.r=4", "lora.target_modules=[q_proj]", f"eval_dataset_name={held}"]
    record = fit_oracle(tmp_path / "oracle", base, *lora)
    assert record.parts[0].phases[0].fits[""]["one"].log_loss == pytest.approx(
        -np.log(chances(tmp_path / "oracle")).mean(), abs=1e-5
    )
    merged, body = (load_file(folder / "model.safetensors") for folder in (tmp_path / "oracle/model", base))
    changed = {name for name, tensor in body.items() if not torch.equal(tensor, merged[name])}
    assert changed
    assert all("q_proj" in name for name in changed)
    assert set(merged) - set(body) == {"score.weight"}
