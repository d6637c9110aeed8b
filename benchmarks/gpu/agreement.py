"""Whether the device computes what float64 on the CPU computes, to the tolerance of its precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpu.cases import Case
from gpu.shapes import FIRST, PAD, Size, model

#: A small Gemma-2 with both soft-caps, and a window that is shorter than the sequences.
SHAPE = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16,
    "sliding_window": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    "max_position_embeddings": 128,
}  # fmt: skip
#: Largest relative errors of log-probabilities, and of the whole gradient: a few hundred roundings of float32, a
#: few of bfloat16, which keeps 8 bits.
TOLERANCES = {"float32": (1e-5, 1e-4), "bfloat16": (1e-3, 5e-2)}
LAYOUTS = {
    "plain": (False, False),
    "shared": (True, False),
    "packed": (False, True),
    "shared packed": (True, True),
}
#: FlexAttention compiles each layout anew; of these two, the masks are mnpo's own.
COMPILED = ("shared", "shared packed")


def agreement(case: Case, size: Size, device: str, dtype: Any) -> dict[str, Any]:
    """Compare log-probabilities and gradients in every layout of rows; return the largest errors."""
    import torch

    rng = np.random.default_rng(0)
    trees = []
    for _ in range(4):
        prompt, *responses = (
            rng.integers(FIRST, 512, int(length)).tolist() for length in rng.integers(4, 40, 3)
        )
        trees.append((prompt, responses))
    reference = model(size, "cpu", "eager", torch.float64, SHAPE)
    wanted_logps, wanted = _computed(reference, trees, False, False)
    other = model(size, device, case.attention, getattr(torch, case.dtype), SHAPE)
    # The same weights, as near as the precision holds them.
    other.load_state_dict(reference.state_dict())
    logp_error = gradient_error = 0.0
    layouts = COMPILED if case.attention == "flex_attention" else LAYOUTS
    for shared, packed in map(LAYOUTS.__getitem__, layouts):
        logps, gradient = _computed(other, trees, shared, packed)
        logp_error = max(logp_error, float(((logps - wanted_logps) / wanted_logps).abs().max()))
        gradient_error = max(gradient_error, float((gradient - wanted).norm() / wanted.norm()))
    most_logp, most_gradient = TOLERANCES[case.dtype]
    return {
        "agrees": logp_error <= most_logp and gradient_error <= most_gradient,
        "logp_error": logp_error,
        "gradient_error": gradient_error,
        "note": f"errors: log-probabilities {logp_error:.1e} (at most {most_logp:.0e}), "
        f"gradient {gradient_error:.1e} (at most {most_gradient:.0e})",
    }


def _computed(built: Any, trees: Any, shared: bool, packed: bool) -> Any:
    """Return log-probabilities and the gradient of their mean margin, float64 on the CPU."""
    import torch

    from mnpo.llm.data.batches import laid_out
    from mnpo.llm.training.logprobs import attached, log_probs_of

    if not shared:
        trees = [(prompt, [response]) for prompt, responses in trees for response in responses]
    built.zero_grad()
    with attached(built):
        logps = log_probs_of(built, laid_out(trees, PAD, packed=packed).to(built.device))
        margins = logps.view(-1, 2)
        (margins[:, 0] - margins[:, 1]).mean().backward()
    gradient = torch.cat([weight.grad.double().cpu().flatten() for weight in built.parameters()])
    return logps.detach().double().cpu(), gradient
