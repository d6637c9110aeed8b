"""Responses sampled from a policy: each has a seed of its own, so that batching and interruptions change nothing.

A sample belongs to the model's content, the way it was drawn, the prompt's token ids, the player and its number k.
All uniform numbers that it needs are drawn from a generator with that seed; a token is the quantile of the model's
distribution at one of them. Samples are kept by content and never drawn twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mnpo.common.digests import bytes_digest
from mnpo.llm.data.batches import in_batches
from mnpo.llm.data.schema import RESPONSE
from mnpo.llm.storage.store import Store, key_digest


class Sample(NamedTuple):
    """A response.

    Attributes:
        ids: token ids, with the token that ends it.
        text: without that token.
        ended: whether the policy ended it; if not, it was cut at the longest length.
    """

    ids: list[int]
    text: str
    ended: bool


class Wanted(NamedTuple):
    """One response that is wanted: to which prompt, for which player, and its number among these."""

    prompt: tuple[int, ...]
    stream: str
    k: int

    def digest(self) -> bytes:
        """Return what the store keeps it under."""
        return bytes_digest(json.dumps(self).encode())


class Drawing(NamedTuple):
    """How responses are drawn.

    Attributes:
        temperature: of the logits; 0 takes the likeliest token.
        top_p: the mass of the likeliest tokens that are drawn from.
        longest: tokens of a response, at most; the room that max_length leaves may be less.
        room: tokens of prompt and response.
        seed: of the run.
    """

    temperature: float
    top_p: float
    longest: int
    room: int
    seed: int

    def tokens_for(self, prompt: Sequence[int]) -> int:
        """Return how many tokens a response may have."""
        return min(self.longest, self.room - len(prompt))


class Sampler(Protocol):
    """What draws responses from a model."""

    def __call__(self, batch: Sequence[Wanted], seeds: Sequence[int]) -> list[tuple[list[int], bool]]:
        """Return the token ids of each response, with what ended it, and whether something did."""


class SampleStore:
    """The responses of one model, drawn in one way.

    Args:
        folder: holds the stores of all models.
        key: what responses depend on: the model's content, the tokenizer, how they are drawn.
        ends: token ids that end a response. Responses depend on them, their seeds do not.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], ends: Sequence[int]) -> None:
        self._store = Store(folder, {**key, "ends": list(ends)}, RESPONSE)
        self._seeds = bytes.fromhex(key_digest(key))

    def load(self) -> dict[bytes, Sample]:
        """Return all responses by digest."""
        return {digest: Sample(**found) for digest, found in self._store.load().items()}

    def seed_of(self, wanted: Wanted) -> int:
        """Return the seed of a sample: of the model, the way of drawing and what is wanted.

        Two models never share one, so that responses that are compared are independent.
        """
        return int.from_bytes(bytes_digest(self._seeds + wanted.digest(), size=8), "big")

    def missing(self, wanted: Iterable[Wanted], batch_size: int) -> list[list[Wanted]]:
        """Return batches of what is not kept, longest prompts first.

        Batches are cut from the front and drawn in that order, so that a run that is continued forms exactly those
        that were left.
        """
        known = self._store.load()
        left = {one.digest(): one for one in wanted}
        order = sorted((d for d in left if d not in known), key=lambda d: (-len(left[d].prompt), d))
        return in_batches([left[d] for d in order], batch_size)

    def draw(
        self,
        sampler: Sampler,
        batches: Sequence[Sequence[Wanted]],
        tokenizer: Any,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Draw responses and keep them, batch by batch."""
        done, total = 0, sum(map(len, batches))
        with self._store.writer() as writer:
            for batch in batches:
                found = []
                for ids, ended in sampler(batch, [self.seed_of(one) for one in batch]):
                    text = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
                    found.append({"ids": ids, "text": text, "ended": ended})
                writer.append([one.digest() for one in batch], found)
                done += len(batch)
                if progress is not None:
                    progress(done, total)
