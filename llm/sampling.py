"""Responses sampled from a policy: each has a seed of its own, so that batching and interruptions change nothing.

A sample belongs to the model's content, the way it was drawn, the prompt's token ids, the player and its number k.
All uniform numbers that it needs are drawn from a generator with that seed; a token is the quantile of the model's
distribution at one of them. Samples are kept by content and never drawn twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from mnpo.llm.scores import in_batches
from mnpo.llm.store import Store

VALUE = pa.struct([("ids", pa.list_(pa.int32())), ("text", pa.string()), ("ended", pa.bool_())])


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


class Asked(NamedTuple):
    """One response that is wanted: to which prompt, for which player, and its number among these."""

    prompt: tuple[int, ...]
    stream: str
    k: int


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

    def __call__(self, batch: Sequence[Asked], seeds: Sequence[int]) -> list[tuple[list[int], bool]]:
        """Return the token ids of each response, with what ended it, and whether something did."""


def store_of(folder: Path, key: Mapping[str, Any]) -> Store:
    """Return the store of one model's samples."""
    return Store(folder, key, VALUE)


def digest(asked: Asked) -> bytes:
    """Return a digest of what is asked."""
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).digest()


def seed_of(store: Store, asked: Asked) -> int:
    """Return the seed of a sample: of the model, the way of drawing and what is asked.

    Two models never share one, so that responses that are compared are independent.
    """
    content = bytes.fromhex(store.key) + digest(asked)
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def missing(wanted: Iterable[Asked], store: Store, batch_size: int) -> list[list[Asked]]:
    """Return batches of what a store lacks, longest prompts first.

    Batches are cut from the front and drawn in that order, so that a run that is continued forms exactly those that
    were left.
    """
    known = store.load()
    left = {digest(asked): asked for asked in wanted}
    order = sorted((d for d in left if d not in known), key=lambda d: (-len(left[d].prompt), d))
    return in_batches([left[d] for d in order], batch_size)


def draw(
    sampler: Sampler,
    batches: Sequence[Sequence[Asked]],
    store: Store,
    tokenizer: Any,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Draw responses and put them into the store, batch by batch; return how many tokens they have."""
    done, total, tokens = 0, sum(map(len, batches)), 0
    with store.writer() as writer:
        for batch in batches:
            found = []
            for ids, ended in sampler(batch, [seed_of(store, asked) for asked in batch]):
                text = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
                found.append({"ids": ids, "text": text, "ended": ended})
                tokens += len(ids)
            writer.append([digest(asked) for asked in batch], found)
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return tokens
