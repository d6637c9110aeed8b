"""Sequence log-probabilities of causal language models that never hold the logits.

log π(y | x) = Σ_t log softmax(z_t)[y_t], z_t the logits at the position before y_t. The logits of a whole batch
have (batch, length, vocabulary) entries: for a vocabulary of 256,000 by far the largest array of a training
step. Here the model's body runs once, and its head only where a response token is predicted, a few positions
at a time; the backward pass computes each chunk's logits again.

Sequences come as a `mnpo.llm.data.batches.Batch`: a prompt's responses may share its computation, and rows may be
packed.

The head is the model's own code: its `forward` with the body replaced by the hidden states at hand. So
soft-caps, scales, biases, tied weights and adapters are what they are in the model, and sharded parameters are
gathered by the modules that own them.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from mnpo.llm.data.batches import Batch
from mnpo.llm.training.masks import attention_arguments, lengthened

#: Bytes of one chunk's logits in float32, by kind of device.
CHUNK_BYTES = {"cpu": 128 * 2**20, "cuda": 512 * 2**20}


def attach(
    model: nn.Module, *, chunk: int | None = None, synchronise: bool = False, temperature: float = 1.0
) -> None:
    """Teach a model to return sequence log-probabilities: `model(**batch.tensors())`, a `Batch`.

    They are computed inside the model's own `forward`, so that whatever wraps the model (DDP, FSDP, DeepSpeed,
    PEFT, autocast) sees one ordinary call. Without `lengths` the model behaves as before.

    Args:
        model: a causal model of transformers, or PEFT's wrapper of one.
        chunk: positions whose logits are held at once; from `CHUNK_BYTES` unless given.
        synchronise: let all processes run the head equally often. Parameters that are sharded over processes
            need it: gathering them is a collective operation.
        temperature: divides the logits, soft-caps and all.

    Raises:
        ValueError: a model without a head of its own, or a chunk below 1.
    """
    inner: Any = getattr(model, "get_base_model", lambda: model)()
    if not isinstance(inner, PreTrainedModel) or inner.base_model is inner:
        raise ValueError(f"{type(inner).__name__} is not a causal language model of transformers")
    if inner.get_output_embeddings() is None:
        raise ValueError(f"{type(inner).__name__} has no language-modelling head")
    if chunk is not None and chunk < 1:
        raise ValueError(f"logprob_chunk must be at least 1; found {chunk}")
    original = type(inner).forward

    def forward(self: PreTrainedModel, *args: Any, lengths: Tensor | None = None, **kwargs: Any) -> Any:
        if lengths is None:
            return original(self, *args, **kwargs)
        given = {
            name: value for name, value in kwargs.items() if value is not None
        }  # PEFT passes many a None
        strange = [name for name in given if name not in Batch._fields]
        if args or strange:
            raise TypeError(f"sequence log-probabilities take no {strange[0] if strange else 'places'}")
        return _batch_log_probs(
            self, original, Batch(lengths=lengths, **given), chunk, synchronise, temperature
        )

    inner.forward = types.MethodType(forward, inner)


@contextlib.contextmanager
def attached(model: nn.Module, *, chunk: int | None = None) -> Iterator[None]:
    """Let a model return sequence log-probabilities while the block runs, and be as it was afterwards."""
    inner: Any = getattr(model, "get_base_model", lambda: model)()
    before = inner.__dict__.get("forward")
    attach(model, chunk=chunk)
    try:
        yield
    finally:
        if before is None:
            del inner.forward
        else:
            inner.forward = before


def sequence_log_probs(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, response_mask: Tensor
) -> Tensor:
    """Return log π(y | x) of each sequence.

    Args:
        model: one that `attach` was called on, wrapped or not; a plain model is attached here.
        input_ids: (B, L) prompts and responses, padded on the right.
        attention_mask: (B, L), 0 at padding.
        response_mask: (B, L), 1 at response tokens; never at a sequence's first token.

    Returns:
        (B,) sums over response tokens, float32 or wider, with gradient where that is enabled.

    Raises:
        ValueError: a model that `attach` was not called on and cannot be.
    """
    answer = response_mask[:, 1:].bool()
    rows, places = torch.nonzero(answer, as_tuple=True)
    source = rows * input_ids.shape[1] + places
    batch = Batch(input_ids, source, source + 1, answer.sum(1), attention_mask)
    return log_probs_of(model, batch)


def log_probs_of(model: nn.Module, batch: Batch) -> Tensor:
    """Return log π(y | x) of each response of a batch, (N,) sums over tokens, float32 or wider; see above."""
    if isinstance(model, PreTrainedModel) and "forward" not in model.__dict__:
        attach(model)
    logps: Tensor = model(**batch.tensors())
    return logps


def _batch_log_probs(
    model: PreTrainedModel,
    forward: Callable[..., Any],
    batch: Batch,
    chunk: int | None,
    synchronise: bool,
    temperature: float,
) -> Tensor:
    hidden = hidden_states(model, batch)
    states, targets = hidden[batch.source], batch.input_ids.flatten()[batch.token]
    if chunk is None:
        budget = CHUNK_BYTES["cpu" if states.device.type == "cpu" else "cuda"]
        chunk = max(1, budget // (4 * model.config.get_text_config().vocab_size))

    def score(piece: Tensor, target: Tensor) -> Tensor:
        head = with_body(model, piece[None])
        logits = forward(head, inputs_embeds=piece[None], use_cache=False, return_dict=True).logits[0]
        wide = logits if logits.dtype == torch.float64 else logits.float()
        wide = wide if temperature == 1 else wide / temperature
        token_logps: Tensor = _TokenLogProbs.apply(wide, target)  # type: ignore[no-untyped-call]  # torch's is untyped
        return token_logps

    pieces = list(zip(torch.split(states, chunk), torch.split(targets, chunk), strict=True))
    idle = _most(len(pieces), states.device) - len(pieces) if synchronise else 0
    logps = [_recomputed(score, *piece) for piece in pieces]
    # A process with fewer positions than another runs the head on its first one, and counts it for nothing.
    nothing = [0.0 * _recomputed(score, states[:1], targets[:1]).sum() for _ in range(idle)]
    there = torch.arange(int(batch.lengths.max()), device=states.device) < batch.lengths[:, None]
    table = torch.zeros(there.shape, dtype=logps[0].dtype, device=states.device)
    sums = table.masked_scatter(there, torch.cat(logps)).sum(1)
    return sums + sum(nothing) if nothing else sums


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the last hidden states of all places of a batch's rows, (B·L, H)."""
    config = model.config.get_text_config()
    length = batch.input_ids.shape[1]
    rows = lengthened(batch, config)
    how: dict[str, Any] = {"attention_mask": rows.attention_mask}
    if rows.group is not None and rows.branch is not None and rows.position_ids is not None:
        dtype = model.get_input_embeddings().weight.dtype
        how = attention_arguments(config, rows.group, rows.branch, rows.position_ids, dtype)
        how["position_ids"] = rows.position_ids
    found: Tensor = model.base_model(input_ids=rows.input_ids, use_cache=False, **how)[0]
    return found[:, :length].flatten(0, 1)


def _recomputed(score: Callable[[Tensor, Tensor], Tensor], piece: Tensor, target: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return score(piece, target)
    result: Tensor = checkpoint(score, piece, target, use_reentrant=False, preserve_rng_state=False)
    return result


def _most(count: int, device: torch.device) -> int:
    """Return the largest count among all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return count
    counts = torch.tensor(count, device=device)
    dist.all_reduce(counts, op=dist.ReduceOp.MAX)
    return int(counts)


class _TokenLogProbs(torch.autograd.Function):
    """z, y -> z[y] − logsumexp(z), with one array of the logits' size in the backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        total = logits.logsumexp(-1)
        ctx.save_for_backward(logits, target, total)
        return logits.gather(-1, target[:, None])[:, 0] - total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        logits, target, total = ctx.saved_tensors
        slope = (logits - total[:, None]).exp_().mul_(-gradient[:, None])
        slope[torch.arange(len(target), device=target.device), target] += gradient
        return slope, None


class _Given(nn.Module):
    """Stands for a model's body whose last hidden states are known."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self._states = states

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        found = BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self._states)
        found.router_logits = None  # heads of mixtures of experts ask for them
        return found

    @property
    def decoder(self) -> _Given:
        """The body again, as OPT's head calls it."""
        return self


def with_body(model: PreTrainedModel, states: Tensor) -> PreTrainedModel:
    """Return the model with its body replaced by these hidden states; all else is shared, not copied."""
    head: PreTrainedModel = object.__new__(type(model))
    modules = {**model._modules, model.base_model_prefix: _Given(states)}
    head.__dict__ = {**model.__dict__, "_modules": modules}
    return head
