"""A model is loaded whole or not at all: every weight from its folder, and every weight of its folder used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForSequenceClassification

from mnpo.llm.models.loading import check_vocabulary, load_model, load_tokenizer

Weights = dict[str, Tensor]
IDS = torch.arange(3, 12)[None]


def logits(folder: Path, **options: Any) -> Tensor:
    with torch.no_grad():
        return load_model(folder, **options)(input_ids=IDS).logits


def drop(name: str) -> Callable[[Weights], Any]:
    return lambda weights: weights.pop(name)


def add(name: str, *shape: int) -> Callable[[Weights], Any]:
    return lambda weights: weights.update({name: torch.ones(shape)})


def bare(weights: Weights) -> None:
    """Name weights as the body alone does."""
    for name in list(weights):
        weights[name.removeprefix("model.").removeprefix("transformer.")] = weights.pop(name)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("llama", drop("lm_head.weight"), "lacks weights: lm_head.weight missing"),
        ("llama", drop("model.layers.1.mlp.up_proj.weight"), "lacks weights: model.layers.1.mlp.up_proj.weight missing"),
        ("llama", lambda weights: weights.clear(), r"lacks weights: lm_head.weight, [^,]*, [^,]*, \.\. missing"),
        ("gemma2", drop("model.embed_tokens.weight"), "lacks weights: .*model.embed_tokens.weight missing"),
        ("gpt2", drop("transformer.wpe.weight"), "lacks weights: transformer.wpe.weight missing"),
        ("llama", add("model.norm.weight", 5), r"has weights of other shapes: model.norm.weight is \(5,\), not \(128,\)"),
        ("llama", add("model.layers.4.mlp.up_proj.weight", 384, 128), "LlamaForCausalLM has no place: model.layers.4.mlp.up_proj.weight"),
        ("gemma2", add("score.weight", 1, 128), "Gemma2ForCausalLM has no place: score.weight"),
    ],
)  # fmt: skip
def test_weights_that_are_missing_or_left_over_are_refused(
    made: Any, edited: Any, family: str, change: Callable[[Weights], Any], message: str
) -> None:
    """They used to be drawn at random, or left out, and the model was scored and trained all the same."""
    with pytest.raises(ValueError, match=f"^model .* {message}$"):
        load_model(edited(made(family), change))


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("gemma2", lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()})),
        ("llama", add("model.layers.0.self_attn.rotary_emb.inv_freq", 16)),
        ("llama", add("v_head.summary.weight", 1, 128)),
        ("gpt2", add("transformer.h.0.attn.bias", 1, 1, 8, 8)),
        ("gpt2", add("transformer.h.0.attn.masked_bias", 1)),
        ("gpt2", bare),
        ("gemma2", bare),
    ],
)  # fmt: skip
def test_what_makes_no_difference_is_not_refused(
    made: Any, edited: Any, family: str, change: Callable[[Weights], Any]
) -> None:
    """Tied weights, tables of older versions, a value head, and names without the body's prefix."""
    assert torch.equal(logits(edited(made(family), change)), logits(made(family)))


def test_weights_in_other_files_are_as_good(made: Any, edited: Any) -> None:
    folder = edited(made("llama"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(logits(folder), logits(made("llama")))
    assert logits(folder, dtype="bfloat16").dtype == torch.bfloat16


def test_files_that_cannot_be_read_are_named(made: Any, edited: Any) -> None:
    cut = edited(made("llama"))
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ValueError, match=f"^cannot load the model {cut}: .+$"):
        load_model(cut)
    lost = edited(made("llama"))
    index = {
        "metadata": {},
        "weight_map": dict.fromkeys(load_file(lost / "model.safetensors"), "gone.safetensors"),
    }
    (lost / "model.safetensors.index.json").write_text(json.dumps(index))
    (lost / "model.safetensors").rename(lost / "other.safetensors")
    with pytest.raises(ValueError, match=r"index.json names 'gone.safetensors', which is not there$"):
        load_model(lost)
    (lost / "model.safetensors.index.json").unlink()
    (lost / "config.json").unlink()
    with pytest.raises(ValueError, match=f"^no configuration of a model in {lost}: .+$"):
        load_model(lost)


def test_a_classifier_is_no_policy(tmp_path: Path) -> None:
    shape = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForSequenceClassification(LlamaConfig(vocab_size=32, num_labels=1, **shape)).save_pretrained(
        tmp_path
    )
    with pytest.raises(
        ValueError, match=r"is a LlamaForSequenceClassification, which writes no text; a policy is"
    ):
        load_model(tmp_path)


def test_all_weights_of_a_policy_can_be_trained(made: Any) -> None:
    for family in ("gemma2", "llama", "gpt2"):
        model = load_model(made(family))
        assert all(weights.requires_grad for weights in model.parameters())
        assert (model.dtype, model.training) == (torch.float32, False)


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(made: Any, edited: Any) -> None:
    tokenizer = load_tokenizer(made("llama"))
    check_vocabulary(tokenizer, made("llama"))
    largest = max(tokenizer.get_vocab().values())
    with pytest.raises(ValueError, match=f"it has ids up to {largest}, the model has {largest} embeddings"):
        check_vocabulary(tokenizer, edited(made("llama"), vocab_size=largest))
