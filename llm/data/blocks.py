"""Sequences whose items come into being when they are looked at; of some a few blocks stay in memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

from mnpo.llm.storage.mapped import let_go

Item = TypeVar("Item")

#: Blocks that stay in memory: readers go forward, and look back a little.
_HELD = 2


class Lazy(Sequence[Item], Generic[Item]):
    """A sequence that says how one item is made."""

    @abstractmethod
    def one(self, place: int) -> Item:
        """Return the item at a place, from 0."""

    def some(self, places: range) -> Sequence[Item]:
        """Return the items at some places."""
        return [self.one(place) for place in places]

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...

    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        found = range(len(self))[place]
        return self.some(found) if isinstance(found, range) else self.one(found)


class Blocks(Lazy[Item]):
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

    def one(self, place: int) -> Item:
        """See `Lazy`."""
        return self._block(place // self._size)[place % self._size]

    def some(self, places: range) -> Sequence[Item]:
        """See `Lazy`; what follows each other is read at once."""
        if places.step == 1:
            return self._read(places.start, max(places.start, places.stop))
        return super().some(places)

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
