"""Which policies an update is anchored on, and their weights λ_k (U)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from mnpo.llm.config.model import CURRENT, REFERENCE
from mnpo.numerics import Array
from mnpo.rules import External, Opponents, Own, Reference, UpdateRule


def is_external(name: str) -> bool:
    """Tell whether an anchor has a tokenizer of its own."""
    return name.startswith("external-")


def anchor_weights(rule: UpdateRule, known: Collection[str]) -> dict[str, float]:
    """Return λ_k by the anchor's name.

    Args:
        rule: the rule.
        known: names of the policies at hand: reference, current, past-1, .., opponent-1, .., external-1, ..;
            a past further back than the last of them is the last.

    Raises:
        ValueError: an anchor that is not at hand, or a weight that is not one number.
    """
    weights: dict[str, float] = {}
    past = max((int(name.removeprefix("past-")) for name in known if name.startswith("past-")), default=0)
    players = sum(name.startswith("opponent-") for name in known)

    def add(name: str, weight: float, need: str) -> None:
        if name not in known:
            raise ValueError(f"rule {rule.name} needs {need}")
        weights[name] = weights.get(name, 0.0) + weight

    for anchor, weight in rule.anchors:
        share = np.asarray(weight, dtype=float)
        if share.size != 1:
            raise ValueError(f"rule {rule.name}: a weight must be one number; found {share.tolist()}")
        value = float(share.flat[0])
        match anchor:
            case Reference():
                add(REFERENCE, value, "the anchor reference, π_ref")
            case Own(lag=lag):
                step = min(lag, past)
                add(f"past-{step}" if step else CURRENT, value, "the anchor current, π_t")
            case Opponents(lag=0):
                if not players:
                    raise ValueError(
                        f"rule {rule.name} needs the other players' policies: opponent_models=[..]"
                    )
                for j in range(players):
                    add(f"opponent-{j + 1}", value / players, "opponent_models")
            case Opponents():
                raise ValueError(
                    f"rule {rule.name}: the other players' past policies cannot be anchors of a model"
                )
            case External(index=index):
                add(f"external-{index + 1}", value, f"{index + 1} external_models=[..]")
    return weights


def blend(weights: Mapping[str, float], deltas: Mapping[str, Array]) -> Array:
    """Return Σ_k λ_k Δ(μ_k), (pairs,)."""
    return np.sum([weight * deltas[name] for name, weight in weights.items()], axis=0)
