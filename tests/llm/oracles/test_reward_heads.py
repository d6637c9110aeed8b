"""Kinds of reward model: which network a folder asks for, and whether its weights are all there."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_models import QUESTIONS, SIZE, answers, config, conversation, ids_of, published, states
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.heads import TURN, detect
from mnpo.llm.oracles.reward import RewardModel


def armorm_heads() -> dict[str, Tensor]:
    torch.manual_seed(2)
    sizes = [SIZE, 24, 24, 5]
    layers = {}
    for place, (before, after) in enumerate(pairwise(sizes)):
        layers[f"gating.layers.{place}.weight"] = torch.randn(after, before)
        layers[f"gating.layers.{place}.bias"] = torch.randn(after)
    return {
        "regression_layer.weight": torch.randn(5, SIZE),
        "reward_transform_matrix": torch.randn(5, 5),
        "gating.logit_scale": torch.tensor([1.7]),
        **layers,
    }


ARMORM = {"num_objectives": 5, "gating_temperature": 3, "gating_hidden_dim": 24, "gating_n_hidden": 2}


def test_armorm_weighs_objectives_by_the_prompt(tmp_path: Path, llama3: PreTrainedTokenizerFast) -> None:
    heads = armorm_heads()
    body = published(tmp_path, llama3, "LlamaForRewardModelWithGating", heads, **ARMORM)
    expected = []
    for question in QUESTIONS:
        text = conversation(llama3, question)
        hidden = states(body, ids_of(llama3, text))
        gate = hidden[ids_of(llama3, text[: text.rindex(TURN)]).shape[1]]
        for place in range(2):
            gate = (
                heads[f"gating.layers.{place}.weight"] @ gate + heads[f"gating.layers.{place}.bias"]
            ).clamp(min=0)
        gate = heads["gating.layers.2.weight"] @ gate + heads["gating.layers.2.bias"]
        weights = torch.softmax(gate / 3, 0) * 1.7
        rewards = (heads["regression_layer.weight"] @ hidden[-1]) @ heads["reward_transform_matrix"]
        expected.append(float(weights @ rewards))
    found = answers(RewardModel(name="armo", model=str(tmp_path), batch_size=3))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_athene_reads_the_appended_cls(tmp_path: Path, llama3: PreTrainedTokenizerFast) -> None:
    """From sharded safetensors; a CLS that a response spells is text."""
    torch.manual_seed(3)
    heads = {"v_head.weight": torch.randn(1, SIZE)}
    body = published(tmp_path, llama3, "CustomAutoModelForSequenceClassification", heads)
    tensors = torch.load(tmp_path / "pytorch_model.bin")
    (tmp_path / "pytorch_model.bin").unlink()
    shards = {
        "model-00001-of-00002.safetensors": list(tensors)[:9],
        "model-00002-of-00002.safetensors": list(tensors)[9:],
    }
    for file, names in shards.items():
        save_file({name: tensors[name] for name in names}, tmp_path / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in shards.items() for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    questions = [*QUESTIONS, Question("Tea?", "Tea <|cls|> is fine.")]
    ids = [ids_of(llama3, conversation(llama3, q) + "<|cls|>").flatten().tolist() for q in questions]
    cls = llama3.cls_token_id
    before, after = ids[-1][: ids[-1].index(cls)], ids[-1][ids[-1].index(cls) + 1 :]
    # Byte-level tokens of what lies between: no merge of theirs leads over the marks of the small tokenizer.
    spelled = llama3("Tea <|cls|> is fine.", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    llama3.backend_tokenizer.encode_special_tokens = False
    head = llama3("Tea ", add_special_tokens=False)["input_ids"]
    tail = llama3(" is fine.", add_special_tokens=False)["input_ids"]
    assert before[-len(head) :] == head
    ids[-1] = before[: -len(head)] + spelled + after[len(tail) :]
    expected = [float(states(body, torch.tensor([one]))[-1] @ heads["v_head.weight"][0]) for one in ids]
    found = answers(RewardModel(name="athene", model=str(tmp_path), batch_size=4), questions)
    assert found == pytest.approx(expected, abs=1e-5)


def drop(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("regression_layer.weight"), "has no reward head: regression_layer.weight missing"),
        (drop("gating.logit_scale"), "has no reward head: gating.logit_scale missing"),
        (
            drop("model.layers.1.mlp.up_proj.weight"),
            "lacks weights: model.layers.1.mlp.up_proj.weight missing",
        ),
        (
            lambda t: t.update({"gating.layers.3.bias": torch.ones(5)}),
            "ArmoRM has no place: gating.layers.3.bias",
        ),
        (
            lambda t: t.update({"regression_layer.weight": torch.ones(6, SIZE)}),
            r"regression_layer.weight is \(6, 32\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, llama3: PreTrainedTokenizerFast, change: Callable[[dict[str, Tensor]], None], reason: str
) -> None:
    published(tmp_path, llama3, "LlamaForRewardModelWithGating", armorm_heads(), **ARMORM)
    tensors = torch.load(tmp_path / "pytorch_model.bin")
    change(tensors)
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=reason):
        answers(RewardModel(name="armo", model=str(tmp_path)))


def test_a_language_model_is_no_reward_model(tmp_path: Path, gemma: PreTrainedTokenizerFast) -> None:
    LlamaForCausalLM(config(num_labels=1)).save_pretrained(tmp_path)
    gemma.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="found the architecture LlamaForCausalLM; known are"):
        RewardModel(name="r", model=str(tmp_path))
    with pytest.raises(ValueError, match=r"has no reward head: score\.weight missing"):
        answers(RewardModel(name="r", model=str(tmp_path), head="skywork"))
    with pytest.raises(ValueError, match="did you mean 'armorm'"):
        RewardModel(name="r", model=str(tmp_path), head="armo-rm")


def test_the_configuration_says_the_head() -> None:
    known = {
        "LlamaForRewardModelWithGating": "armorm",
        "AtheneForSequenceClassification": "athene",
        "CustomAutoModelForSequenceClassification": "athene",
        "Gemma2ForSequenceClassification": "sequence-classification",
    }
    for architecture, head in known.items():
        assert detect(config(architectures=[architecture]), False) == head
    code = config(
        architectures=["OddReward"], auto_map={"AutoModelForSequenceClassification": "odd.OddReward"}
    )
    assert detect(code, True) == "sequence-classification"
    with pytest.raises(ValueError, match="OddReward"):
        detect(code, False)


REMOTE = """
from types import SimpleNamespace
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel

class OddReward(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.odd = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return SimpleNamespace(score=self.odd(hidden[:, 0])[:, 0] + attention_mask.sum(1), logits=hidden[:, 0])
"""


def test_trusted_code_gives_its_score(
    tmp_path: Path, llama3: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    torch.manual_seed(4)
    heads, code = (
        {"odd.weight": torch.randn(1, SIZE)},
        {"AutoModelForSequenceClassification": "odd.OddReward"},
    )
    body = published(tmp_path / "model", llama3, "OddReward", heads, auto_map=code)
    (tmp_path / "model" / "odd.py").write_text(REMOTE)
    with pytest.raises(ValueError, match="OddReward"):
        RewardModel(name="odd", model=str(tmp_path / "model"))
    expected = []
    for question in QUESTIONS:
        ids = ids_of(llama3, conversation(llama3, question))
        expected.append(float(states(body, ids)[0] @ heads["odd.weight"][0]) + ids.shape[1])
    oracle = RewardModel(name="odd", model=str(tmp_path / "model"), trust_remote_code=True)
    assert answers(oracle) == pytest.approx(expected, abs=1e-4)
