"""Who judges responses, and what pairs are made of the judgments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import Section, key

#: How pairs are made of the K responses to a prompt.
PAIRINGS = {
    "iid": "disjoint pairs as they were drawn",
    "all": "all K(K−1)/2 pairs",
    "third": "disjoint pairs, both compared with one response of an opponent",
    "best-worst": "the best against the worst: not independent draws, as the published recipe has it",
}

#: What a pair is labelled with, if p is the oracle's probability that the one beats the other.
LABELS = {
    "soft": "p itself: the loss is the expectation over the label",
    "sampled": "a draw with probability p",
    "hard": "whichever p favours: without noise, and biased",
}


@dataclass(frozen=True, kw_only=True)
class Judging(Section):
    """Who judges responses, and what pairs are made of the judgments."""

    oracle: str | dict[str, Any] | None = key(
        None, "who judges: a name, or {kind, ..}; see docs/reference/oracles.md"
    )
    group_size: int = key(
        1,
        "opponents that a response is judged against at once: 1, or n − 1 with n players",
        least=1,
        most=1000,
    )
    pairing: str = key("best-worst", f"how pairs are made: {', '.join(PAIRINGS)}", choices=PAIRINGS)
    labels: str = key("soft", f"what a pair is labelled with: {', '.join(LABELS)}", choices=LABELS)
