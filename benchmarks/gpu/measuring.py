"""Rates, floating-point operations, time and memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Work(NamedTuple):
    """What a step must compute.

    Attributes:
        useful: tokens of all sequences, each with its prompt: what a user wants done.
        computed: tokens that pass through the model's body, padding left out.
        predicted: response tokens, at which the head is needed.
        seen: (query, key) places of attention.
    """

    useful: int
    computed: int
    predicted: int
    seen: int


def work(trees: Sequence[tuple[int, Sequence[int]]], shared: bool) -> Work:
    """Return the work of prompts with their responses, by their lengths."""
    useful = computed = predicted = seen = 0
    for prompt, responses in trees:
        useful += sum(prompt + response for response in responses)
        predicted += sum(responses)
        prompts = 1 if shared else len(responses)
        computed += prompts * prompt + sum(responses)
        seen += prompts * prompt * (prompt + 1) // 2
        seen += sum(response * prompt + response * (response + 1) // 2 for response in responses)
    return Work(useful, computed, predicted, seen)


def operations(model: Any, done: Work, backward: bool) -> float:
    """Return the floating-point operations that some work needs.

    A multiplication and an addition for each weight and token, forward; twice that backward. Of the body each token
    that is computed needs all weights but the embedding's; the head is needed where a response token is predicted.
    Attention: 4 × heads × width of a head for each layer and place seen (windows here are longer than sequences).
    What is computed a second time (checkpoints, the head's chunks), padding, norms and soft-caps do not count.
    """
    config = model.config
    body = sum(weight.numel() for weight in model.base_model.parameters())
    body -= model.get_input_embeddings().weight.numel()
    head = config.vocab_size * config.hidden_size
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
    forward = 2.0 * body * done.computed + 2.0 * head * done.predicted + float(attention) * done.seen
    return forward * (3 if backward else 1)


def matrix_rate(device: str, dtype: Any, square: int) -> float:
    """Return the operations per second of the product of two square matrices of random numbers."""
    import torch

    left, right = (torch.randn(square, square, device=device, dtype=dtype) for _ in range(2))
    for _ in range(5):
        left @ right
    rates = []
    for _ in range(3):
        start = now(device)
        for _ in range(10):
            left @ right
        rates.append(10 * 2 * square**3 / (now(device) - start))
    return sorted(rates)[1]


def now(device: str) -> float:
    """Return the time in seconds once the device has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def forget_peak(device: str) -> None:
    """Let the most memory held be counted from here."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # not Linux: the peak is then that of the whole process
            Path("/proc/self/clear_refs").write_text("5")


def peak(device: str) -> float:
    """Return the most memory held since then, in GB: of the GPU's allocator, with weights; on a CPU resident."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    try:
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
