"""Pairs of like length in a step, each once an epoch, in an order that a seed and the epoch give."""

from __future__ import annotations

import numpy as np
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from mnpo.llm.training.grouping import LengthGroupedSampler, lengths_of


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 3))
def test_every_pair_comes_once(lengths: list[int], size: int, seed: int) -> None:
    sampler = LengthGroupedSampler(np.array(lengths), size, seed)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert sorted(epochs[-1]) == list(range(len(lengths)))
    assert epochs[0] == epochs[2]
    full = len(lengths) // size
    if full:
        first = [lengths[place] for place in epochs[0][:size]]
        assert max(first) >= max(lengths[place] for place in epochs[0][: full * size])


def test_little_is_padded_and_steps_are_mixed() -> None:
    lengths = np.random.default_rng(0).lognormal(5, 0.6, 4000).astype(np.int64)
    sampler = LengthGroupedSampler(lengths, 8, 0)
    steps = lengths[list(sampler)].reshape(-1, 8)
    assert (steps.max(1) * 8).sum() < 1.05 * lengths.sum()
    means = steps.mean(1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.1
    sampler.set_epoch(1)
    assert list(sampler) != list(LengthGroupedSampler(lengths, 8, 0))


def test_lengths_are_the_tokens_of_a_row() -> None:
    rows = [{"prompt_ids": [1] * i, "chosen_ids": [2] * (i % 5), "rejected_ids": [3]} for i in range(9000)]
    data = Dataset.from_list(rows).select(range(8999, -1, -1))
    assert lengths_of(data, shared=True).tolist() == [i + i % 5 + 1 for i in range(8999, -1, -1)]
    assert lengths_of(data, shared=False).tolist() == [i + max(i % 5, 1) for i in range(8999, -1, -1)]
