"""Preference objectives on tensors: the functions of `mnpo.objectives`, executed by torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mnpo.objectives import Objective, Pairs
from mnpo.objectives import objective as objective_named


class TorchOps:
    """`mnpo.objectives.Ops` and `mnpo.oracle_objectives.RankingOps` for tensors."""

    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    relu = staticmethod(F.relu)

    @staticmethod
    def softplus(x: Tensor) -> Tensor:
        """log(1 + e^x); torch's own softplus is cut off at 20."""
        return -F.logsigmoid(-x)

    @staticmethod
    def logsumexp(x: Tensor) -> Tensor:
        """log Σ e^x over the last axis."""
        return torch.logsumexp(x, -1)


#: Fields of `Pairs` of which there is one for each response.
SIDED = tuple(name.removesuffix("_w") for name in Pairs.__dataclass_fields__ if name.endswith("_w"))


def pair_losses(
    objective: str | Objective,
    parameters: Mapping[str, float],
    pairs: Pairs,
    preference: Tensor | None = None,
) -> Tensor:
    """Return each pair's loss.

    Args:
        objective: what is minimised, or its name.
        parameters: its parameters; defaults for those not given.
        pairs: log-probabilities and what else is known, fields of shape (B,).
        preference: (B,) P(y_w ≻ y_l); then the loss is its expectation over the label. None: y_w was preferred.

    Returns:
        (B,).
    """
    if isinstance(objective, str):
        objective = objective_named(objective)
    values = {**objective.parameters, **parameters}
    ops = TorchOps()
    losses: Tensor = objective.loss(ops, pairs, **values)
    if preference is None:
        return losses
    other: Tensor = objective.loss(ops, swapped(pairs), **values)
    return preference * losses + (1 - preference) * other


def swapped(pairs: Pairs) -> Pairs:
    """Exchange the two responses.

    Σ λ_k Δ(μ_k) changes its sign; the target does not if it is that of a label, η/2 for whichever is preferred.
    """
    exchanged = {f"{name}_w": getattr(pairs, f"{name}_l") for name in SIDED}
    exchanged |= {f"{name}_l": getattr(pairs, f"{name}_w") for name in SIDED}
    return replace(pairs, **exchanged, anchor=-pairs.anchor)
