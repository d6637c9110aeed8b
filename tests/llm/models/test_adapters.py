"""Adapters: merged whole or refused, and the merged model is one that can be trained further."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from mnpo.llm.models.loading import fingerprint, load_model

Weights = dict[str, Tensor]
IDS = torch.arange(3, 12)[None]


def adapt(folder: Path, base: Path, *, trained: bool = True, **keys: Any) -> Tensor:
    """Save an adapter of a model, and return what the adapted model computes."""
    torch.manual_seed(0)
    settings = {"r": 4, "target_modules": ["q_proj", "v_proj"], **keys}
    model = get_peft_model(load_model(base), LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    if trained:
        for name, weights in model.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name or "modules_to_save" in name:
                torch.nn.init.normal_(weights, std=0.1)
    model.save_pretrained(folder)
    with torch.no_grad():
        return model(input_ids=IDS).logits


def logits(folder: Path) -> Tensor:
    with torch.no_grad():
        return load_model(folder)(input_ids=IDS).logits


def gone(weights: Weights) -> None:
    del weights[next(name for name in sorted(weights) if "lora_A" in name)]


def renamed(weights: Weights) -> None:
    for name in list(weights):
        weights[name.replace("lora_", "lara_")] = weights.pop(name)


def other_layers(weights: Weights) -> None:
    for name in list(weights):
        weights[name.replace("layers.", "layers.1")] = weights[name].clone()


def misshapen(weights: Weights) -> None:
    name = next(name for name in sorted(weights) if "lora_A" in name)
    weights[name] = torch.ones(3, 128)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
        {"use_dora": True},
        {"bias": "all"},
        {"trainable_token_indices": [3, 4]},
    ],
    ids=str,
)
def test_an_adapter_is_merged_and_everything_can_be_trained(
    tmp_path: Path, made: Any, keys: dict[str, Any]
) -> None:
    """PEFT freezes the base model, and a merged model was left so: nothing of it could be trained."""
    expected = adapt(tmp_path / "adapter", made("llama"), **keys)
    model = load_model(tmp_path / "adapter")
    loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    untrained = [name for name, weights in model.named_parameters() if weights.grad is None]
    assert not untrained
    assert not any("lora" in name for name, _ in model.named_parameters())
    torch.testing.assert_close(logits(tmp_path / "adapter"), expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_that_changes_nothing_is_refused(tmp_path: Path, made: Any) -> None:
    """It is its base model under another name: a run that compares the two, or trains on it, is a mistake."""
    adapt(tmp_path / "adapter", made("llama"), trained=False)
    with pytest.raises(ValueError, match=r"^adapter .* changes nothing: .*; name its base model instead$"):
        load_model(tmp_path / "adapter")


def test_an_adapter_is_another_model_than_its_base(tmp_path: Path, made: Any) -> None:
    adapt(tmp_path / "adapter", made("llama"))
    assert fingerprint(tmp_path / "adapter") != fingerprint(made("llama"))
    assert load_model(tmp_path / "adapter", dtype="bfloat16").dtype == torch.bfloat16


def test_an_adapter_with_numbers_that_are_none_is_refused(tmp_path: Path, made: Any, edited: Any) -> None:
    adapt(tmp_path / "adapter", made("llama"))
    folder = edited(tmp_path / "adapter", lambda weights: next(iter(weights.values())).fill_(torch.nan))
    with pytest.raises(ValueError, match=r"^adapter .* has weights that are not finite: .*lora_A.*$"):
        load_model(folder)


def test_adapters_that_belong_to_each_other_are_refused(tmp_path: Path, made: Any, edited: Any) -> None:
    adapt(tmp_path / "adapter", made("llama"))
    first = edited(tmp_path / "adapter")
    second = edited(tmp_path / "adapter", base_model_name_or_path=str(first))
    settings = first / "adapter_config.json"
    for base in (first, second):
        settings.write_text(
            json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": str(base)})
        )
        for read in (load_model, fingerprint):
            with pytest.raises(ValueError, match=r"^adapter .*: its base .* leads back to .*$"):
                read(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.clear(), r"adapter .* lacks weights: .*q_proj.lora_A.*, \.\. missing"),
        (gone, r"adapter .* lacks weights: [^,]*layers.0.self_attn.q_proj.lora_A.default.weight missing"),
        (renamed, r"adapter .* lacks weights: .*q_proj.lora_A.*, \.\. missing"),
        (other_layers, r"adapter .* holds weights for which LlamaForCausalLM has no place: .*layers.10.*, \.\."),
        (lambda weights: weights.update({"base_model.model.score.weight": torch.ones(1, 128)}),
         r"adapter .* holds weights for which LlamaForCausalLM has no place: base_model.model.score.weight"),
        (misshapen, r"cannot load the adapter .*: .*size mismatch for .*lora_A.*"),
    ],
)  # fmt: skip
def test_an_adapter_that_is_not_all_there_is_refused(
    tmp_path: Path, made: Any, edited: Any, change: Callable[[Weights], Any], message: str
) -> None:
    """It used to be taken as if it were there: the base model was scored and trained under its name."""
    adapt(tmp_path / "adapter", made("llama"))
    with pytest.raises(ValueError, match=f"^{message}$"):
        load_model(edited(tmp_path / "adapter", change))


def test_a_layer_that_was_trained_whole_must_be_there(tmp_path: Path, made: Any, edited: Any) -> None:
    adapt(tmp_path / "adapter", made("llama"), modules_to_save=["lm_head"])
    folder = edited(tmp_path / "adapter", lambda weights: weights.pop("base_model.model.lm_head.weight"))
    with pytest.raises(
        ValueError, match=r"^adapter .* lacks weights: base_model.model.lm_head.weight missing$"
    ):
        load_model(folder)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, made: Any, edited: Any) -> None:
    adapt(tmp_path / "adapter", made("llama"))
    with pytest.raises(ValueError, match=r"^cannot load the adapter .*q_proj"):
        load_model(edited(tmp_path / "adapter", base_model_name_or_path=str(made("gpt2"))))


def test_an_adapter_of_an_adapter_belongs_to_it(tmp_path: Path, made: Any) -> None:
    """And not to the base model, without which it would be another policy."""
    adapt(tmp_path / "first", made("llama"))
    expected = adapt(tmp_path / "second", tmp_path / "first", target_modules=["q_proj"])
    settings = json.loads((tmp_path / "second" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "first")
    torch.testing.assert_close(logits(tmp_path / "second"), expected, atol=1e-4, rtol=1e-4)


def test_without_the_package(tmp_path: Path, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt(tmp_path / "adapter", made("llama"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"is an adapter, which needs the extra: pip install 'mnpo\[peft\]'"):
        load_model(tmp_path / "adapter")
