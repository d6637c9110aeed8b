"""Sequences of which only a few blocks are in memory: items are read where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

from mnpo.llm.storage.mapped import let_go

Item = TypeVar("Item")

#: Blocks that stay in memory: readers go forward, and look back a little.
_HELD = 2


class Blocks(Sequence[Item], Generic[Item]):
    """A sequence that is read block by block.

    Args:
        length: how many items there are.
        read: start, stop -> the items between.
        size: items of a block.
    """

    def __init__(self, length: int, read: Callable[[int, int], Sequence[Item]], size: int = 64) -> None:
        self._length, self._read, self._size = length, read, size
        self._held: dict[int, Sequence[Item]] = {}

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...

    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        if isinstance(place, slice):
            start, stop, step = place.indices(self._length)
            if step == 1:
                return self._read(start, max(start, stop))
            return [self[one] for one in range(start, stop, step)]
        one = range(self._length)[place]
        return self._block(one // self._size)[one % self._size]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, self._length, self._size):
            yield from self._block(start // self._size)

    def _block(self, number: int) -> Sequence[Item]:
        found = self._held.pop(number, None)
        if found is None:
            start = number * self._size
            found = self._read(start, min(start + self._size, self._length))
            let_go()
        self._held[number] = found
        while len(self._held) > _HELD:
            del self._held[next(iter(self._held))]
        return found
