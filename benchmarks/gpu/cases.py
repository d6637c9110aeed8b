"""What is measured, in which order, and within how much time."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from gpu.shapes import Size

#: Implementations that compute in any precision.
EXACT = ("eager", "flex_attention")


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        part: rate, agreement, fit, scoring, sampling or tiny.
        who: mnpo, TRL, all logits, transformers or vLLM.
        attention: transformers' name of an implementation.
        rows: "plain" (each sequence in a row), "shared" (a prompt once for its responses), "packed" or both.
        pairs: of a step.
        checkpointing: of gradients.
        mixed: lengths differ; else all are the longest.
        responses: to each prompt that is scored.
        dtype: of the agreement.
        note: what was tried before.
    """

    part: str
    who: str = "mnpo"
    attention: str = "eager"
    rows: str = "plain"
    pairs: int = 0
    checkpointing: bool = False
    mixed: bool = False
    responses: int = 2
    dtype: str = ""
    note: str = ""

    @property
    def shared(self) -> bool:
        return "shared" in self.rows

    @property
    def packed(self) -> bool:
        return "packed" in self.rows

    @property
    def name(self) -> str:
        """What the table calls it."""
        if self.part in ("rate", "tiny"):
            return {"rate": "matrix product", "tiny": "mnpo llm train tiny"}[self.part]
        if self.part == "sampling":
            return f"sampling: {self.who}"
        if self.part == "agreement":
            return f"agreement: {self.dtype}, {self.attention}"
        found = f"{self.part}: {self.who}, {self.attention}, {self.rows}"
        found += f", K = {self.responses}" if self.part == "scoring" else ""
        found += ", checkpointing" if self.checkpointing else ""
        return found + (", mixed lengths" if self.mixed else "")


@dataclass(frozen=True)
class Group:
    """Cases that one process runs after each other, so that it starts and compiles once."""

    name: str
    cases: tuple[Case, ...]
    seconds: float


def plan(
    size: Size, gpu: bool, attentions: Collection[str], parts: Collection[str], only: str = ""
) -> list[Group]:
    """Return the groups in the order of their weight: what comes last is left out where time runs short."""
    exact = [name for name in attentions if name in EXACT] or ["eager"]
    agreements = [Group("agreement", tuple(_agreements(name)), 90) for name in sorted(exact)]
    fits = [Group(f"fit: {name}", tuple(_fits(size, name)), 240 if gpu else 120) for name in attentions]
    groups = [
        # Eager attention is not compiled: whether anything is right is known at once.
        *agreements[:1],
        *fits[:1],
        *agreements[1:],
        *fits[1:],
        Group("tiny", (Case("tiny"),), 150),
        Group("scoring", tuple(case for name in attentions for case in _scorings(name)), 90),
        Group("sampling", (Case("sampling", "transformers"),), 90),
        Group("vLLM", (Case("sampling", "vLLM"),), 180),
    ]
    wanted = [group for group in groups if group.cases[0].part in parts]
    found = [
        replace(group, cases=tuple(c for c in group.cases if re.search(only, c.name))) for group in wanted
    ]
    return [group for group in found if group.cases]


def _agreements(attention: str) -> list[Case]:
    return [Case("agreement", attention=attention, dtype=dtype) for dtype in ("float32", "bfloat16")]


def _fits(size: Size, attention: str) -> list[Case]:
    def case(who: str, rows: str, pairs: int = size.pairs, **more: Any) -> Case:
        return Case("fit", who, attention, rows, pairs, **more)

    if attention.startswith("flash"):
        # It takes no mask, so that prompts cannot be shared.
        return [case("mnpo", "plain"), case("mnpo", "packed"), case("TRL", "plain")]
    packed = size.pairs_of_packed if attention == "eager" else size.pairs
    return [
        case("mnpo", "shared"),
        case("TRL", "plain"),
        case("mnpo", "plain"),
        case("mnpo", "shared", checkpointing=True),
        case("mnpo", "shared packed", packed),
        case("all logits", "plain", size.pairs_of_logits),
        case("mnpo", "shared", mixed=True),
        case("mnpo", "shared packed", packed, mixed=True),
        case("TRL", "plain", mixed=True),
    ]


def _scorings(attention: str) -> list[Case]:
    found = [Case("scoring", attention=attention)]
    if not attention.startswith("flash"):
        found += [Case("scoring", attention=attention, rows="shared", responses=k) for k in (2, 8)]
    return found
