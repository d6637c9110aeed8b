"""What is scored: many prompts and responses, of which digests and lengths are at hand and ids lie in tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Self, overload

import numpy as np
from datasets import Dataset

from mnpo.common.digests import bytes_digest
from mnpo.llm.data.batches import Request
from mnpo.llm.data.ids import Ids, request_digests
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.storage.store import Digests, Places, as_digests

#: Requests that are read between two times that pages of mapped files are given back: each takes several pages.
_READ = 256


def request_digest(prompt: Sequence[int], response: Sequence[int]) -> bytes:
    """Return a digest of a prompt's and a response's token ids."""
    return bytes_digest(np.concatenate([[len(prompt)], prompt, response]).astype("<i8").tobytes())


class Requests(Sequence[Request]):
    """Token ids of prompts and responses, each read when it is looked at.

    Args:
        digests: (N,), those of `request_digest`.
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
        digests = as_digests([request_digest(*request) for request in requests])
        lengths = np.array([len(prompt) + len(response) for prompt, response in requests], dtype=np.int64)
        asked = as_digests([request_digest(prompt, ()) for prompt, _ in requests])
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
        nothing = responses[0][:0] if len(responses) else np.empty(0, dtype=np.int32)
        alone = request_digests((prompts[place], nothing) for place in range(len(lengths)))
        return cls(digests, asked + lengths, alone, read)

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

    @overload
    def __getitem__(self, place: int) -> Request: ...
    @overload
    def __getitem__(self, place: slice) -> list[Request]: ...
    def __getitem__(self, place: int | slice) -> Request | list[Request]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._read(place % len(self))

    def batch(self, places: Places) -> Batch:
        """Return some of them, to be scored together."""
        return Batch(self, places)


class Batch(Sequence[Request]):
    """Some of many requests: read once, when the first is looked at."""

    def __init__(self, requests: Requests, places: Places) -> None:
        self._requests, self._places = requests, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Request: ...
    @overload
    def __getitem__(self, place: slice) -> list[Request]: ...
    def __getitem__(self, place: int | slice) -> Request | list[Request]:
        return self._rows[place]

    def __iter__(self) -> Iterator[Request]:
        return iter(self._rows)

    @cached_property
    def _rows(self) -> list[Request]:
        return [self._requests[place] for place in self._places.tolist()]


class Batches(Sequence[Batch]):
    """Batches that come into being one after the other; none is held.

    Args:
        requests: all there are.
        places: of those that are wanted, in order.
        size: of a batch; they are cut from the front.
        which: numbers of the batches that there are; all unless given.
    """

    def __init__(self, requests: Requests, places: Places, size: int, which: range | None = None) -> None:
        self._requests, self._places, self._size = requests, places, size
        self._which = range(-(-len(places) // size)) if which is None else which

    def __len__(self) -> int:
        return len(self._which)

    @overload
    def __getitem__(self, place: int) -> Batch: ...
    @overload
    def __getitem__(self, place: slice) -> Batches: ...
    def __getitem__(self, place: int | slice) -> Batch | Batches:
        if isinstance(place, slice):
            return Batches(self._requests, self._places, self._size, self._which[place])
        start = self._which[place] * self._size
        return self._requests.batch(self._places[start : start + self._size])

    def __iter__(self) -> Iterator[Batch]:
        for place in range(len(self)):
            yield self[place]
            if place % max(1, _READ // self._size) == 0:
                let_go()
