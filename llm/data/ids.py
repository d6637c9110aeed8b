"""Token ids as they lie in Arrow tables: read row by row without copies, digests of many at once."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from mnpo.common.digests import SIZE
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.storage.store import Digests, Places, as_digests

#: Rows, and parts of a column, that are read between two times that pages of mapped files are given back.
_READ, _CHUNKS = 2048, 64


class Lists:
    """Lists of token ids, in pieces: `lists[place]` is a view of one of them.

    Args:
        chunks: the pieces, one after the other.
        selected: which of the lists there are, in this order; all of them unless given.
    """

    def __init__(self, chunks: Sequence[pa.ListArray], selected: Places | None = None) -> None:
        self._chunks = [(np.asarray(chunk.offsets), np.asarray(chunk.values)) for chunk in chunks]
        self._starts = np.cumsum([0, *map(len, chunks)])
        self._selected = selected

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._selected is None else len(self._selected)

    def __getitem__(self, place: int) -> npt.NDArray[np.int32]:
        row = place if self._selected is None else self._selected[place]
        which = int(np.searchsorted(self._starts, row, side="right")) - 1
        offsets, values = self._chunks[which]
        row -= self._starts[which]
        found: npt.NDArray[np.int32] = values[offsets[row] : offsets[row + 1]]
        return found

    def lengths(self) -> Places:
        """Return how many each row has, (N,)."""
        found = []
        for place, (offsets, _) in enumerate(self._chunks):
            found.append(np.diff(offsets).astype(np.int64))
            if place % _CHUNKS == 0:
                let_go()
        every = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        let_go()
        return every if self._selected is None else every[self._selected]


class Ids(Lists):
    """A column of token ids: `ids[place]` is a view of those of one row.

    Args:
        data: any data set, with or without a selection of rows.
        name: of the column.
    """

    def __init__(self, data: Dataset, name: str) -> None:
        super().__init__(data.data.table.column(name).chunks, selected(data))


def ids_of_responses(column: pa.ChunkedArray) -> Lists:
    """Return the token ids of all responses in a column of lists of them, one response after the other."""
    pieces = [chunk.flatten() for chunk in column.chunks]
    return Lists([dict(zip(one.type.names, one.flatten(), strict=True))["ids"] for one in pieces])


def selected(data: Dataset) -> Places | None:
    """Return which rows of its table a data set has; None for all of them."""
    if data._indices is None:
        return None
    return np.asarray(data._indices.column(0)).astype(np.int64)


def list_lengths(column: pa.ChunkedArray) -> Places:
    """Return how many ids each row has, (N,)."""
    return np.asarray(pc.list_value_length(column), dtype=np.int64)


def ids_digests(column: pa.ChunkedArray) -> Digests:
    """Return a digest of each row's ids, (N,)."""
    found = []
    for chunk in column.chunks:
        offsets, values = np.asarray(chunk.offsets), np.asarray(chunk.values)
        found += [
            hashlib.blake2b(values[start:end].data, digest_size=SIZE).digest()
            for start, end in itertools.pairwise(offsets.tolist())
        ]
    return as_digests(found)


def request_digests(
    requests: Iterable[tuple[Sequence[int] | npt.NDArray[np.int32], Sequence[int] | npt.NDArray[np.int32]]],
) -> Digests:
    """Return a digest of each prompt and response, (N,): of int64 [tokens of the prompt, prompt, response]."""
    found = []
    room = np.empty(0, dtype="<i8")
    for count, (prompt, response) in enumerate(requests, start=1):
        end = 1 + len(prompt) + len(response)
        if end > len(room):
            room = np.empty(2 * end, dtype="<i8")
        room[0] = len(prompt)
        room[1 : 1 + len(prompt)] = prompt
        room[1 + len(prompt) : end] = response
        found.append(hashlib.blake2b(room[:end].data, digest_size=SIZE).digest())
        if count % _READ == 0:
            let_go()
    let_go()
    return as_digests(found)
