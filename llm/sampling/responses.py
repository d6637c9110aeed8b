"""Responses sampled from a policy: each has a seed of its own, so that batching and interruptions change nothing.

A sample belongs to the model's content, the way it was drawn, the prompt's token ids, the player and its number k.
All uniform numbers that it needs are drawn from a generator with that seed; a token is the quantile of the model's
distribution at one of them. Samples are kept by content and never drawn twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from mnpo.common.digests import bytes_digest
from mnpo.llm.data.blocks import Blocks
from mnpo.llm.data.prompts import Prompt
from mnpo.llm.data.schema import RESPONSE
from mnpo.llm.storage.store import Digests, Kept, Places, Store, as_digests, key_digest


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
        return _digest(json.dumps(self.prompt), json.dumps(self.stream), self.k)


def _digest(prompt: str, stream: str, k: int) -> bytes:
    """Return the digest of what is wanted; the prompt's ids and the player as JSON writes them."""
    return bytes_digest(f"[{prompt}, {stream}, {k}]".encode())


class WantedResponses:
    """K responses to each of some prompts; response k to prompt p has the place p·K + k.

    Only digests are held, 16 bytes a response; what one of them is comes up when it is asked for.

    Args:
        prompts: any sequence.
        stream: names the player in the seeds.
        count: K.

    Attributes:
        digests: what the store keeps each under, (prompts · K,).
        lengths: tokens of each prompt, (prompts,).
    """

    def __init__(self, prompts: Sequence[Prompt], stream: str, count: int) -> None:
        self.prompts, self.stream, self.count = prompts, stream, count
        player = json.dumps(stream)
        lengths, digests = [], bytearray()
        for prompt in prompts:
            lengths.append(len(prompt.ids))
            ids = json.dumps(prompt.ids)
            for k in range(count):
                digests += _digest(ids, player, k)
        self.lengths: Places = np.array(lengths, dtype=np.int64)
        self.digests: Digests = as_digests([bytes(digests)])

    def at(self, places: Places) -> list[Wanted]:
        """Return what is wanted at some places."""
        return [
            Wanted(self.prompts[place // self.count].ids, self.stream, place % self.count)
            for place in places.tolist()
        ]


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

    def found(self, wanted: WantedResponses) -> Found:
        """Return responses that are all kept."""
        return Found(self._store, wanted)

    def seed_of(self, wanted: Wanted) -> int:
        """Return the seed of a sample: of the model, the way of drawing and what is wanted.

        Two models never share one, so that responses that are compared are independent.
        """
        return int.from_bytes(bytes_digest(self._seeds + wanted.digest(), size=8), "big")

    def missing(self, wanted: WantedResponses, batch_size: int) -> list[Places]:
        """Return batches of places of what is not kept, longest prompts first, equal ones by digest.

        Batches are cut from the front and drawn in that order, so that a run that is continued forms exactly those
        that were left.
        """
        digests, first = np.unique(wanted.digests, return_index=True)
        left = first[~self._store.kept().has(digests)]
        order = left[np.argsort(-wanted.lengths[left // wanted.count], kind="stable")]
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def draw(
        self,
        sampler: Sampler,
        wanted: WantedResponses,
        batches: Sequence[Places],
        tokenizer: Any,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Draw responses and keep them, batch by batch."""
        done, total = 0, sum(map(len, batches))
        with self._store.writer() as writer:
            for places in batches:
                batch, found = wanted.at(places), []
                for ids, ended in sampler(batch, [self.seed_of(one) for one in batch]):
                    text = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
                    found.append({"ids": ids, "text": text, "ended": ended})
                writer.append([one.digest() for one in batch], found)
                done += len(batch)
                if progress is not None:
                    progress(done, total)


class Found(Blocks[list[Sample]]):
    """Responses that are kept: the K of each prompt, read where they lie when they are asked for."""

    def __init__(self, store: Store, wanted: WantedResponses) -> None:
        super().__init__(len(wanted.prompts), self._samples)
        self._store, self._wanted = store, wanted

    def arrow(self, start: int, stop: int) -> pa.StructArray:
        """Return the responses to prompts `start` to `stop`, one after the other."""
        count = self._wanted.count
        return self._kept.of(self._wanted.digests[start * count : stop * count])

    @cached_property
    def _kept(self) -> Kept:
        return self._store.kept()

    def _samples(self, start: int, stop: int) -> list[list[Sample]]:
        count = self._wanted.count
        found = [Sample(**one) for one in self.arrow(start, stop).to_pylist()]
        return [found[place : place + count] for place in range(0, len(found), count)]
