"""Attention in rows that hold several sequences: which token sees which, as each implementation wants to be told.

A token sees what stands before it in its own sequence: of its prompt everything, of responses its own. Where a
layer's attention slides, distances are those of positions, not of places in the row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mnpo.llm.data.batches import PADDING, Batch

FULL, SLIDING = "full_attention", "sliding_attention"
#: Implementations that take any mask, and those that keep packed sequences apart by their lengths alone.
MASKED = ("eager", "sdpa", "flex_attention")
VARLEN = ("flash_attention_2", "flash_attention_3", "kernels-community/flash-attn")
#: FlexAttention computes blocks of so many places; shorter rows go to a kernel of its own that does not train.
FLEX_BLOCK = 128
#: Kinds of models whose layers all slide where the configuration has a window, and says no more than that.
_ALL_SLIDE = (
    "mistral",
    "mixtral",
    "ministral",
    "ministral3",
    "phi3",
    "phimoe",
    "starcoder2",
    "qwen3_moe",
    "doge",
)


def why_not_shared(model: nn.Module) -> str | None:
    """Return why a model cannot compute a prompt once for several responses; None if it can."""
    found = _why_not(model)
    if found is None and _config(model)._attn_implementation not in MASKED:
        return f"attention {_config(model)._attn_implementation} takes no mask; {', '.join(MASKED)} do"
    return found


def why_not_packed(model: nn.Module) -> str | None:
    """Return why a model cannot read several sequences packed into one row; None if it can."""
    found, known = _why_not(model), (*MASKED, *VARLEN)
    if found is None and _config(model)._attn_implementation not in known:
        return (
            f"attention {_config(model)._attn_implementation} keeps no sequences apart; {', '.join(known)} do"
        )
    return found


def _why_not(model: nn.Module) -> str | None:
    inner: Any = getattr(model, "get_base_model", lambda: model)()
    name = type(inner).__name__
    if not getattr(inner, "_supports_attention_backend", False):
        return f"{name} does not leave its attention to transformers' implementations"
    unknown = set(_kinds(_config(model))) - {FULL, SLIDING}
    if unknown:
        return f"{name} has layers of {', '.join(sorted(unknown))}, which see more than a mask tells"
    config = _config(model)
    slides = getattr(config, "sliding_window", None) is not None and not getattr(config, "layer_types", None)
    if slides and config.model_type not in _ALL_SLIDE:
        return f"{name} does not say which of its layers slide"
    return None


def attention_arguments(
    config: Any, group: Tensor, branch: Tensor, position_ids: Tensor, dtype: torch.dtype
) -> dict[str, Any]:
    """Return what a model's body is given besides ids and positions.

    Args:
        config: of the text model.
        group: (B, L), the prompt's number; −1 at padding.
        branch: (B, L), 0 for a prompt, its responses from 1.
        position_ids: (B, L).
        dtype: of the hidden states.
    """
    implementation = config._attn_implementation
    if implementation in VARLEN:
        return _lengths(position_ids)
    kinds = _kinds(config)
    # No two places of a row are farther apart than it is long: such a window is none, and is compiled but once.
    length = group.shape[1]
    windows = {
        kind: config.sliding_window if kind == SLIDING and config.sliding_window < length else None
        for kind in kinds
    }
    made = {
        window: _mask(implementation, group, branch, position_ids, window, dtype)
        for window in set(windows.values())
    }
    masks = {kind: made[window] for kind, window in windows.items()}
    return {"attention_mask": masks if len(masks) > 1 else masks[kinds[0]]}


def lengthened(batch: Batch, config: Any) -> Batch:
    """Return the batch with rows as long as FlexAttention wants them: whole blocks, padded on the right.

    Rows of any length would be compiled again and again. Other implementations get their rows as they are; so do
    rows whose padding would leave the model's positions.
    """
    length = batch.input_ids.shape[1]
    more = -length % FLEX_BLOCK
    most = getattr(config, "max_position_embeddings", None)
    if config._attn_implementation != "flex_attention" or not more or (most and length + more > most):
        return batch
    wider: dict[str, Any] = {"input_ids": pad(batch.input_ids, (0, more), value=PADDING)}
    for name, empty in (("attention_mask", 0), ("position_ids", 0), ("group", -1), ("branch", 0)):
        given = getattr(batch, name)
        wider[name] = None if given is None else pad(given, (0, more), value=empty)
    return batch._replace(**wider)


def _config(model: nn.Module) -> Any:
    inner: Any = getattr(model, "get_base_model", lambda: model)()
    return inner.config.get_text_config()


def _kinds(config: Any) -> list[str]:
    """Return the kinds of attention that a model's layers have."""
    named = getattr(config, "layer_types", None)
    if named:
        return sorted(set(named))
    return [FULL if getattr(config, "sliding_window", None) is None else SLIDING]


def _mask(
    implementation: str,
    group: Tensor,
    branch: Tensor,
    position: Tensor,
    window: int | None,
    dtype: torch.dtype,
) -> Any:
    if implementation == "flex_attention":
        return _block_mask(group, branch, position, window)
    place = torch.arange(group.shape[1], device=group.device)
    sees = place[:, None] >= place
    sees = sees & (group[:, :, None] == group[:, None, :])
    sees &= (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    if window is not None:
        sees &= position[:, :, None] - position[:, None, :] < window
    sees = sees[:, None]
    if implementation == "sdpa":
        return sees
    return torch.zeros(sees.shape, dtype=dtype, device=group.device).masked_fill_(
        ~sees, torch.finfo(dtype).min
    )


def _block_mask(group: Tensor, branch: Tensor, position: Tensor, window: int | None) -> Any:
    """Return FlexAttention's mask, which leaves out blocks that nobody sees."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (branch[row, key] == 0) | (branch[row, query] == branch[row, key])
        found = (query >= key) & (group[row, query] == group[row, key]) & own
        if window is not None:
            found = found & (position[row, query] - position[row, key] < window)
        return found

    rows, length = group.shape
    return create_block_mask(sees, rows, None, length, length, device=str(group.device))


def _lengths(position_ids: Tensor) -> dict[str, Any]:
    """Return the bounds of sequences that are packed into one row: each begins at position 0."""
    flat = position_ids.flatten()
    starts = torch.nonzero(flat == 0)[:, 0].to(torch.int32)
    bounds = torch.cat([starts, starts.new_tensor([flat.numel()])])
    longest = int(bounds.diff().max())
    return {
        "attention_mask": None,
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }
