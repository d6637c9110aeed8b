"""The order of a training set: pairs of like length in a batch, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from torch.utils.data import Sampler

from mnpo.llm.data.ids import Ids

#: Steps' worth of pairs that are sorted among themselves: more pad less, fewer mix better.
STEPS = 100

Lengths = npt.NDArray[np.int64]


def lengths_of(data: Dataset, *, shared: bool) -> Lengths:
    """Return how long the rows of a batch must be for each pair, (pairs,).

    Args:
        data: pairs as token ids.
        shared: whether both responses lie in one row.
    """
    prompt, chosen, rejected = (
        Ids(data, f"{name}_ids").lengths() for name in ("prompt", "chosen", "rejected")
    )
    return prompt + (chosen + rejected if shared else np.maximum(chosen, rejected))


class LengthGroupedSampler(Sampler[int]):
    """A random order in which the pairs of a step have like lengths: each pair once an epoch.

    The pairs are shuffled, sorted by length within `STEPS` steps, cut into steps, and these are shuffled; the step
    with the longest pair comes first, so that what does not fit in memory fails at once. An epoch's order depends
    on its number and the seed alone, so that a run that goes on meets the pairs that it would have met.

    Args:
        lengths: (pairs,), in tokens.
        size: pairs of a step, of all processes.
        seed: of the order.
    """

    def __init__(self, lengths: Lengths, size: int, seed: int) -> None:
        self._lengths, self._size, self._seed, self.epoch = lengths, size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self.epoch])
        shuffled = rng.permutation(len(self._lengths))
        steps: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(shuffled), STEPS * self._size):
            part = shuffled[start : start + STEPS * self._size]
            part = part[np.argsort(-self._lengths[part], kind="stable")]
            steps += [part[at : at + self._size] for at in range(0, len(part), self._size)]
        # A step that is not full must stay the last, where batches are cut by counting.
        last = steps.pop() if steps and len(steps[-1]) < self._size else None
        order = rng.permutation(len(steps))
        if steps:
            longest = max(range(len(steps)), key=lambda place: int(self._lengths[steps[place][0]]))
            order = np.concatenate([[longest], order[order != longest]])
        for place in order:
            yield from steps[place].tolist()
        if last is not None:
            yield from last.tolist()
