"""Kinds of reward model: which network a folder asks for, and the networks that transformers does not have."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

#: What begins the assistant's turn in Llama-3's template: ArmoRM's gating reads where the last one begins.
TURN = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


class ArmoRM(LlamaPreTrainedModel):  # type: ignore[misc]  # transformers is not typed
    """Rewards for several objectives, weighed by a gating network that reads the prompt; arXiv:2406.12845.

    The modules are named as in RLHFlow/ArmoRM-Llama3-8B-v0.1, whose own code does not run with transformers 5.

    Attributes:
        turn: the token ids of `TURN`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        objectives = getattr(config, "num_objectives", 19)
        self.turn: list[int] = []
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.zeros(objectives, objectives), requires_grad=False)
        self.gating = _Gating(config, objectives)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        """Return rewards (B, 1) of ids (B, L) that are padded on the right.

        Raises:
            ValueError: a conversation in which no turn of the assistant begins.
        """
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        starts = torch.tensor([_last(self.turn, ids) for ids in input_ids.tolist()], device=hidden.device)
        weights = self.gating(_at(hidden, starts))
        rewards = self.regression_layer(_at(hidden, attention_mask.sum(1) - 1)) @ self.reward_transform_matrix
        return SequenceClassifierOutput(logits=(weights * rewards).sum(1, keepdim=True))


class _Gating(nn.Module):
    def __init__(self, config: Any, objectives: int) -> None:
        super().__init__()
        self._temperature = getattr(config, "gating_temperature", 10)
        width, depth = getattr(config, "gating_hidden_dim", 1024), getattr(config, "gating_n_hidden", 3)
        sizes = [config.hidden_size, *[width] * depth, objectives]
        self.layers = nn.ModuleList(nn.Linear(*sides) for sides in pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.ones(1))

    def forward(self, states: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            states = layer(states).relu()
        return (self.layers[-1](states) / self._temperature).softmax(1) * self.logit_scale[0]


class Athene(LlamaPreTrainedModel):  # type: ignore[misc]  # transformers is not typed
    """A reward read at the CLS token that ends the input; modules named as in Nexusflow/Athene-RM-8B."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = LlamaModel(config)
        self.v_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        """Return rewards (B, 1) of ids (B, L) that are padded on the right and end with CLS."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return SequenceClassifierOutput(logits=self.v_head(_at(hidden, attention_mask.sum(1) - 1)))


def _at(hidden: Tensor, places: Tensor) -> Tensor:
    """Return the states (B, H) at one place (B,) of each row."""
    return hidden[torch.arange(len(hidden), device=hidden.device), places]


def _last(pattern: list[int], ids: list[int]) -> int:
    """Return where a pattern begins for the last time."""
    for start in range(len(ids) - len(pattern), -1, -1):
        if ids[start : start + len(pattern)] == pattern:
            return start
    raise ValueError(
        f"a conversation has no {TURN!r}, at which ArmoRM reads the prompt: another chat template, or a response "
        "longer than max_length"
    )


class Head(NamedTuple):
    """A kind of reward model.

    Attributes:
        network: a class with `from_pretrained` whose output has `score` or `logits`.
        outputs: how many it has; None if the configuration says so.
        cls: whether the tokenizer's CLS ends the input.
    """

    network: Any
    outputs: int | None = None
    cls: bool = False


HEADS = {
    "sequence-classification": Head(AutoModelForSequenceClassification),
    # Skywork-Reward: sequence classifiers of one label.
    "skywork": Head(AutoModelForSequenceClassification, 1),
    "armorm": Head(ArmoRM, 1),
    "athene": Head(Athene, 1, cls=True),
}
_ARCHITECTURES = {
    "LlamaForRewardModelWithGating": "armorm",
    "AtheneForSequenceClassification": "athene",
    # What the configuration of Athene-RM names, though no such class is published.
    "CustomAutoModelForSequenceClassification": "athene",
}


def detect(config: Any, trust_remote_code: bool) -> str:
    """Return the head that a configuration asks for; a native one comes before remote code.

    Raises:
        ValueError: an architecture that is no known reward model.
    """
    architectures = list(config.architectures or [])
    native = [_ARCHITECTURES[name] for name in architectures if name in _ARCHITECTURES]
    if native:
        return native[0]
    plain = any(name.endswith("ForSequenceClassification") for name in architectures)
    if plain or (trust_remote_code and has_code(config)):
        return "sequence-classification"
    raise ValueError(
        f"found the architecture {', '.join(architectures) or 'unnamed'}; known are *ForSequenceClassification, "
        f"{', '.join(sorted(_ARCHITECTURES))}, and with trust_remote_code code for "
        "AutoModelForSequenceClassification (or name the head)"
    )


def has_code(config: Any) -> bool:
    """Tell whether a folder brings code for its sequence classifier."""
    return "AutoModelForSequenceClassification" in (getattr(config, "auto_map", None) or {})
