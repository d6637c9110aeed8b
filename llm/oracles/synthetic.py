"""Oracles without a model: what a text shows is read off it, and preferences between that are given.

A response has traits x(y), numbers that sum to 1, and
P(y ≻ y') = σ((Σ_ab x_a(y) L_ab x_b(y') + Σ_a u_a (x_a(y) − x_a(y')))/scale), with L skew: the general preference
model (2410.02197) plus a transitive part. Where responses have one trait each, the win matrix is σ(L/scale),
whatever it is; without L the oracle is the reward u·x.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mnpo.choices import choose
from mnpo.llm.data import made
from mnpo.llm.oracles.base import Answers, Question, TextOracle, check_scale
from mnpo.numerics import Array

if TYPE_CHECKING:
    import torch

#: The form of a text: its words at which brevity has fallen to 1/e.
BRIEF_WORDS = 30
_ITEM = re.compile(r"\s*([-*•]|\d+[.)])\s")


def styles(text: str) -> list[float]:
    """Tell which of the tiny models' styles a text is in, one of `made.STYLES` or none of them."""
    found = made.style_of(text)
    return [float(found == style) for style in (*made.STYLES, None)]


def forms(text: str) -> list[float]:
    """Tell how brief a text is, and how far the rest of it is a list or runs on as prose."""
    brief = math.exp(-len(text.split()) / BRIEF_WORDS)
    lines = [line for line in text.splitlines() if line.strip()]
    listed = sum(bool(_ITEM.match(line)) for line in lines) / max(len(lines), 1)
    return [brief, (1 - brief) * listed, (1 - brief) * (1 - listed)]


#: Traits by name: what they are called and how they are read off a text.
TRAITS: dict[str, tuple[tuple[str, ...], Callable[[str], list[float]]]] = {
    "styles": ((*made.STYLES, "other"), styles),
    "forms": (("brief", "list", "prose"), forms),
}

_CERTAIN = 700.0  # a logit beyond which e^logit is no float64
_AT_ONCE, _REMEMBERED = 4096, 64  # questions that are answered at once, texts whose traits are not read again
_LOST = 0.05  # what a text in no style wins with


def _with_others(wins: Array) -> Array:
    """Add texts without a style, which lose to all others."""
    count = len(wins)
    whole = np.full((count + 1, count + 1), 1 - _LOST)
    whole[:count, :count], whole[count], whole[count, count] = wins, _LOST, 0.5
    return whole


#: Oracles that a name stands for. Both are cycles: each trait beats the next.
NAMED: dict[str, Mapping[str, Any]] = {
    "styles": {"traits": "styles", "wins": _with_others(made.STYLE_WINS).tolist()},
    "forms": {"traits": "forms", "wins": [[0.5, 0.35, 0.95], [0.65, 0.5, 0.3], [0.05, 0.7, 0.5]]},
}


class Synthetic(TextOracle):
    """Prefers by traits.

    Args:
        name: how results call it.
        traits: a key of `TRAITS`.
        wins: P(row's trait ≻ column's) strictly between 0 and 1, with P + Pᵀ = 1; none: ½ everywhere.
        utilities: u, trait -> number; 0 for those left out.
        scale: divides the logit of the win probability: above 1 preferences are weaker, below 1 stronger.

    Raises:
        ValueError: unknown traits, a matrix of another shape or that is no win matrix, or nothing given at all.
    """

    def __init__(
        self,
        *,
        name: str = "synthetic",
        traits: str = "styles",
        wins: Sequence[Sequence[float]] | None = None,
        utilities: Mapping[str, float] | None = None,
        scale: float = 1.0,
    ) -> None:
        self.name, self.scale = name, check_scale(scale)
        self.traits, self._read = choose(traits, TRAITS, "traits")
        size = len(self.traits)
        if wins is None and utilities is None:
            raise ValueError(
                f"oracle {name} needs wins or utilities over the traits {', '.join(self.traits)}"
            )
        for given in utilities or {}:
            choose(given, dict.fromkeys(self.traits), f"trait of {traits}")
        numbers = [*(utilities or {}).values(), *(value for row in wins or () for value in row)]
        if not all(type(value) in (int, float) and math.isfinite(value) for value in numbers):
            raise ValueError(f"oracle {name}: wins and utilities must be finite numbers")
        self._utilities = np.array([float((utilities or {}).get(trait, 0.0)) for trait in self.traits])
        self._skew: Array | None = None
        if wins is not None:
            matrix = np.asarray(wins, dtype=float)
            if matrix.shape != (size, size):
                raise ValueError(f"oracle {name}: wins must be {size} × {size} for the traits {traits}")
            if not (matrix > 0).all() or np.abs(matrix + matrix.T - 1).max() > 1e-9:
                raise ValueError(f"oracle {name}: wins must be above 0, with P + Pᵀ = 1")
            self._skew = np.log(matrix) - np.log(matrix.T)
        self.kind = "reward" if self._skew is None else "pairwise"
        self._given = {"traits": traits, "wins": wins, "utilities": self._utilities.tolist()}

    def key(self) -> dict[str, Any]:
        """See `TextOracle.key`; rewards do not depend on the scale."""
        scaled = self._skew is not None and self.scale != 1
        return {"kind": "synthetic", **self._given, **({"scale": self.scale} if scaled else {})}

    def answer(self, questions: Sequence[Question], device: torch.device) -> Iterator[Answers]:
        """See `TextOracle.answer`."""
        read = lru_cache(_REMEMBERED)(lambda text: np.array(self._read(text)))
        for start in range(0, len(questions), _AT_ONCE):
            places = range(start, min(start + _AT_ONCE, len(questions)))
            yield [(place, self._one(place, questions[place], read)) for place in places]

    def _one(self, place: int, question: Question, read: Callable[[str], Array]) -> float:
        first = read(question.first)
        if self._skew is None:
            return float(self._utilities @ first)
        if question.second is None:
            raise ValueError(f"the oracle {self.name} compares two responses; question {place} has one")
        second = read(question.second)
        logit = first @ self._skew @ second + self._utilities @ (first - second)
        return float(1 / (1 + np.exp(-np.clip(logit / self.scale, -_CERTAIN, _CERTAIN))))
