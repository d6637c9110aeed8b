"""What a model says at the end of each sequence: rewards, embeddings, or the logits of an answer.

Sequences come as a `mnpo.llm.data.batches.Batch`, whose responses may share their prompt's computation. What is
read is the state at a response's own last token, by its place, whatever pads the rows; the head is the model's own
code, as in `mnpo.llm.training.logprobs`.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mnpo.llm.data.batches import Batch
from mnpo.llm.training.logprobs import hidden_states, with_body


def attach_ends(model: nn.Module, choices: Sequence[int] | None = None) -> None:
    """Teach a model to return what it says at the ends: `model(**batch.tensors())`, a `Batch`, gives (N, outputs).

    That happens inside the model's own `forward`, so that whatever wraps the model sees one ordinary call. Without
    `lengths` the model behaves as before.

    Args:
        model: a sequence classifier of transformers, a causal one with `choices`, or PEFT's wrapper of either.
        choices: tokens whose logits are wanted, of a causal model; its outputs are these.
    """
    inner: Any = getattr(model, "get_base_model", lambda: model)()
    original, wanted = type(inner).forward, None if choices is None else list(choices)

    def forward(self: PreTrainedModel, *args: Any, lengths: Tensor | None = None, **kwargs: Any) -> Any:
        if lengths is None:
            return original(self, *args, **kwargs)
        given = {name: value for name, value in kwargs.items() if name in Batch._fields and value is not None}
        batch = Batch(lengths=lengths, **given)
        states = hidden_states(self, batch)[batch.token[batch.lengths.cumsum(0) - 1]][:, None]
        head = with_body(self, states)
        logits = original(head, inputs_embeds=states, use_cache=False, return_dict=True).logits
        values = logits.reshape(len(states), -1) if wanted is None else logits[:, -1, wanted]
        return values if values.dtype == torch.float64 else values.float()

    inner.forward = types.MethodType(forward, inner)


def ends_of(model: nn.Module, batch: Batch) -> Tensor:
    """Return what a model that `attach_ends` was called on says, (N, outputs), float32 or wider."""
    values: Tensor = model(**batch.tensors())
    return values
