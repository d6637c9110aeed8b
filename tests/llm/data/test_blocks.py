"""Sequences that are read block by block."""

from __future__ import annotations

import pytest

from mnpo.llm.data.blocks import Blocks


def test_blocks_read_as_a_list_and_only_what_is_wanted() -> None:
    items, read = [f"item {i}" for i in range(23)], []

    def some(start: int, stop: int) -> list[str]:
        read.append((start, stop))
        return items[start:stop]

    blocks = Blocks(len(items), some, size=5)
    assert list(blocks) == items
    assert read == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 23)]
    assert [blocks[21], blocks[-1], blocks[16]] == [items[21], items[22], items[16]]
    assert len(read) == 5  # the last two are still there
    assert blocks[3] == items[3]
    assert read[5:] == [(0, 5)]
    for wanted in (
        slice(4, 12),
        slice(None),
        slice(9, 3),
        slice(20, 99),
        slice(None, None, -7),
        slice(2, 20, 6),
    ):
        assert list(blocks[wanted]) == items[wanted]
    with pytest.raises(IndexError):
        blocks[23]
