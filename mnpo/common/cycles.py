"""A few prompts with their cycles spelled out, to read."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from mnpo.cyclicity import strongest_cycle
from mnpo.numerics import Array

#: How many prompts are kept, and how long their texts are.
MOST, LENGTH = 3, 200


class Cycles:
    """Keeps the clearest cycles of all that it is shown; its memory does not grow."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, int, dict[str, Any]]] = []
        self._seen = 0

    def add(self, prompt: str, responses: Sequence[str], wins: Array) -> None:
        """Look at a prompt.

        Args:
            prompt: what was asked.
            responses: (K,) texts.
            wins: the population's P(row ≻ column), (K, K).
        """
        self._seen += 1
        circle = strongest_cycle(wins)
        if circle is None:
            return
        steps = list(zip(circle, [*circle[1:], circle[0]], strict=True))
        clear = min(float(wins[step]) for step in steps)
        # Of equally clear ones the first is kept.
        entry = (clear, -self._seen)
        if len(self._kept) == MOST and entry <= self._kept[0][:2]:
            return
        found = {
            "prompt": shortened(prompt),
            "cycle": [
                {"response": shortened(responses[i]), "beats_next": float(wins[i, j])} for i, j in steps
            ],
        }
        if len(self._kept) == MOST:
            heapq.heapreplace(self._kept, (*entry, found))
        else:
            heapq.heappush(self._kept, (*entry, found))

    def found(self) -> list[dict[str, Any]]:
        """Return the cycles as plain data, the clearest first."""
        return [found for _, _, found in sorted(self._kept, key=lambda kept: kept[:2], reverse=True)]


def shortened(text: str, length: int = LENGTH) -> str:
    """Return a text on one line with at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
