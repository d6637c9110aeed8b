"""Two contexts with everything that an objective may ask for, and networks of free logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mnpo.llm.crosscheck.executor import Executor, row
from mnpo.llm.crosscheck.finite import ResponseSet
from mnpo.minimisers import Minimiser, labelled_pairs, minimiser
from mnpo.numerics import Array
from support import random_matrix

CONTEXTS, SIZE = 2, 3


class World:
    """Two contexts with everything that an objective may ask for, and networks of free logits."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(1)
        self.responses = ResponseSet(CONTEXTS, SIZE)
        training = {"max_steps": 250, "optim": "adamw_torch", "learning_rate": 0.1, "adam_beta1": 0.8}
        self.executor = Executor("softmax", self.responses, folder, training | {"adam_beta2": 0.99})
        self.matrix = 0.3 + 0.4 * random_matrix(rng, SIZE, CONTEXTS)
        logits = 0.5 * rng.standard_normal((2, CONTEXTS, SIZE))
        policies = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        self.current, self.reference = (
            self.executor.teach(name, policy, seed)
            for seed, (name, policy) in enumerate(zip(("current", "reference"), policies, strict=True))
        )
        self.sampler = np.exp(self.current.log_policy)
        self.reward, self.gamma = rng.standard_normal((2, CONTEXTS, SIZE))
        self.lengths = np.array([len(answer) for _, answer in self.responses.requests[:SIZE]], dtype=float)
        self.seen = np.stack([labelled_pairs(*both) for both in zip(self.matrix, self.sampler, strict=True)])
        self.seen *= 1 - np.eye(SIZE)  # what is compared with itself teaches nothing
        wins = np.einsum("xyz,xz->xy", self.matrix, self.sampler)
        self.rows = [
            row(
                self.responses, x, y, z, weight=float(self.seen[x, y, z]),
                **{
                    f"{name}_{side}": float(values[x, place])
                    for name, values in (("reward", self.reward), ("gamma", self.gamma), ("win", wins))
                    for side, place in (("chosen", y), ("rejected", z))
                },
            )
            for x in range(CONTEXTS) for y in range(SIZE) for z in range(SIZE) if y != z
        ]  # fmt: skip

    def minimisers(self, name: Any, current: Array, **given: Any) -> list[Minimiser]:
        return [
            minimiser(
                name, self.matrix[x], self.sampler[x], reference=np.exp(self.reference.log_policy[x]),
                current=current[x], pairs=self.seen[x], rewards=self.reward[x], lengths=self.lengths,
                uncertainty=self.gamma[x], **{key: v[x] if key == "anchor" else v for key, v in given.items()},
            )
            for x in range(CONTEXTS)
        ]  # fmt: skip
