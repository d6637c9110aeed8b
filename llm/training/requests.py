"""What is scored: many prompts and responses, of which digests and lengths are at hand and ids lie in tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import pyarrow as pa
from datasets import Dataset

from mnpo.llm.data.batches import Request
from mnpo.llm.data.blocks import Lazy
from mnpo.llm.data.ids import Ids, Lists, ids_of_responses, request_digests
from mnpo.llm.storage.store import Digests, Places, as_digests


def cut(places: Places, size: int) -> list[Places]:
    """Cut places into batches from the front."""
    return [places[start : start + size] for start in range(0, len(places), size)]


class Requests(Lazy[Request]):
    """Token ids of prompts and responses, each read when it is looked at.

    Args:
        digests: (N,), of int64 [tokens of the prompt, prompt, response].
        lengths: (N,), tokens of prompt and response.
        prompts: (N,), digests that tell prompts apart.
        read: gives one by its place.
    """

    def __init__(
        self, digests: Digests, lengths: Places, prompts: Digests, read: Callable[[int], Request]
    ) -> None:
        self.digests, self.lengths, self.prompts, self._read = digests, lengths, prompts, read

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Self:
        """Return requests that are in memory."""
        digests = request_digests(requests)
        lengths = np.array([len(prompt) + len(response) for prompt, response in requests], dtype=np.int64)
        asked = request_digests((prompt, ()) for prompt, _ in requests)
        return cls(digests, lengths, asked, requests.__getitem__)

    @classmethod
    def in_table(
        cls, data: Dataset, response: str, others: Places | None = None, max_length: int | None = None
    ) -> Self:
        """Return the prompts of encoded pairs with a response each.

        Args:
            data: with the column prompt_ids.
            response: the column of the responses.
            others: whose response each prompt has; its own row's unless given.
            max_length: tokens of prompt and response, where they are other rows' responses; longer ones are cut,
                but for one token.
        """
        prompts, responses = Ids(data, "prompt_ids"), Ids(data, response)
        lengths = responses.lengths()
        asked = prompts.lengths()
        if others is not None:
            lengths = lengths[others]
            if max_length is not None:
                lengths = np.minimum(lengths, np.maximum(1, max_length - asked))
        from_row = np.arange(len(lengths)) if others is None else others

        def ids(place: int) -> tuple[np.ndarray, np.ndarray]:
            return prompts[place], responses[int(from_row[place])][: int(lengths[place])]

        def read(place: int) -> Request:
            prompt, answer = ids(place)
            return prompt.tolist(), answer.tolist()

        digests = request_digests(map(ids, range(len(lengths))))
        alone = request_digests((prompts[place], ()) for place in range(len(lengths)))
        return cls(digests, asked + lengths, alone, read)

    @classmethod
    def in_samples(cls, rows: pa.Table, count: int) -> Self:
        """Return the prompts with the responses of their policy; response k to prompt p has the place p·K + k.

        Args:
            rows: of `mnpo.llm.data.schema.SAMPLES`.
            count: K.
        """
        prompts, answers = Lists(rows["prompt_ids"].chunks), ids_of_responses(rows["responses"])
        asked = prompts.lengths()

        def ids(place: int) -> tuple[np.ndarray, np.ndarray]:
            return prompts[place // count], answers[place]

        def read(place: int) -> Request:
            prompt, answer = ids(place)
            return prompt.tolist(), answer.tolist()

        digests = request_digests(map(ids, range(len(answers))))
        alone = request_digests((prompts[place], ()) for place in range(len(asked)))
        return cls(digests, asked.repeat(count) + answers.lengths(), alone.repeat(count), read)

    @classmethod
    def joined(cls, parts: Sequence[Requests]) -> Self:
        """Return all requests of some, one after the other."""
        starts = np.cumsum([0, *map(len, parts)])

        def read(place: int) -> Request:
            part = int(np.searchsorted(starts, place, side="right")) - 1
            return parts[part]._read(place - int(starts[part]))

        digests = np.concatenate([as_digests([]), *(part.digests for part in parts)])
        lengths = np.concatenate([np.empty(0, dtype=np.int64), *(part.lengths for part in parts)])
        asked = np.concatenate([as_digests([]), *(part.prompts for part in parts)])
        return cls(digests, lengths, asked, read)

    def __len__(self) -> int:
        return len(self.digests)

    def one(self, place: int) -> Request:
        """See `Lazy`."""
        return self._read(place)

    def take(self, places: Places) -> list[Request]:
        """Return those at some places."""
        return [self._read(place) for place in places.tolist()]
