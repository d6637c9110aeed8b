"""Rows of preference pairs and of judgments as Arrow tables, for some prompts at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnpo.llm.data.schema import NUMBERS
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.oracles.panel import Panel
from mnpo.llm.preferences.pairing import Pair
from mnpo.numerics import Array

Places = npt.NDArray[np.int64]


class Pool:
    """The responses to some prompts, those of the policy and then those of its opponents.

    Args:
        rows: of `mnpo.llm.data.schema.SAMPLES`, as many responses in each.

    Attributes:
        size: responses to a prompt.
    """

    def __init__(self, rows: pa.Table) -> None:
        self._rows, prompts = rows, np.arange(len(rows))[:, None]
        own = _whole(rows["responses"]).flatten()
        others = _whole(rows["opponents"]).flatten().flatten()
        k, m = len(own) // len(rows), len(others) // len(rows)
        self.size = k + m
        order = np.hstack([prompts * k + np.arange(k), len(own) + prompts * m + np.arange(m)])
        self._items = pa.concat_arrays([own, others]).take(pa.array(order.ravel()))
        self._own = k

    def texts(self) -> list[list[str]]:
        """Return the texts by prompt."""
        texts = self._items.field("text").to_pylist()
        return [texts[start : start + self.size] for start in range(0, len(texts), self.size)]

    def drawn(self, prompt: int) -> tuple[list[int], list[list[int]]]:
        """Return the token ids of a prompt, and of the policy's responses to it."""
        asked = self._prompts.of(prompt).tolist()
        first = prompt * self.size
        return asked, [self._ids.of(first + place).tolist() for place in range(self._own)]

    def encoded(self, pairs: Sequence[Sequence[Pair]], number: int) -> Encoded:
        """Return rows of pairs as token ids, as they were sampled; pairs of identical responses are left out.

        Args:
            pairs: of each prompt.
            number: of the first row.
        """
        made = [(prompt, pair) for prompt, found in enumerate(pairs) for pair in found]
        bits = [ids.tobytes() for ids in self._ids.each()]
        kept = [
            (prompt, prompt * self.size + pair.chosen, prompt * self.size + pair.rejected, pair)
            for prompt, pair in made
            if bits[prompt * self.size + pair.chosen] != bits[prompt * self.size + pair.rejected]
        ]
        prompts, chosen, rejected = (
            np.array([one[side] for one in kept], dtype=np.int64) for side in range(3)
        )
        of_prompts = self._rows.select(["row", "prompt", "prompt_ids"]).take(pa.array(prompts))
        sides = [self._items.take(pa.array(places)) for places in (chosen, rejected)]
        columns: dict[str, Any] = {
            "row": pa.array(np.arange(number, number + len(kept))),
            "source": of_prompts["row"],
            "prompt": of_prompts["prompt"],
            "chosen": sides[0].field("text"),
            "rejected": sides[1].field("text"),
            "chosen_cut": pa.compute.invert(sides[0].field("ended")),
            "rejected_cut": pa.compute.invert(sides[1].field("ended")),
            "prompt_ids": of_prompts["prompt_ids"],
            "chosen_ids": sides[0].field("ids"),
            "rejected_ids": sides[1].field("ids"),
        }
        for column in NUMBERS:
            numbers = [pair.numbers.get(column.name) for *_, pair in kept]
            if any(value is not None for value in numbers):
                columns[column.name] = pa.array(numbers, column.type)
        lengths = self._ids.lengths
        longest = self._prompts.lengths[prompts] + np.maximum(lengths[chosen], lengths[rejected])
        return Encoded(pa.table(columns), len(made), int(longest.max(initial=0)))

    @cached_property
    def _ids(self) -> _Lists:
        return _Lists(self._items.field("ids"))

    @cached_property
    def _prompts(self) -> _Lists:
        return _Lists(_whole(self._rows["prompt_ids"]))


class Encoded(NamedTuple):
    """Rows of `mnpo.llm.data.schema.PAIRS`, of how many pairs they are left, and tokens of the longest."""

    rows: pa.Table
    pairs: int
    longest: int


def annotation_rows(
    numbers: Sequence[int],
    judged: Sequence[Sequence[Judged]],
    panel: Panel,
    own: int,
    effective: Array | None = None,
) -> pa.Table:
    """Return what oracles said of some prompts, rows of `mnpo.llm.data.schema.ANNOTATIONS`.

    Args:
        numbers: of the prompts, in their source.
        judged: of each prompt, by member.
        panel: who judged.
        own: K.
        effective: (X,), what the sample game's weights are worth, where there is one.
    """
    columns: dict[str, Any] = {"row": pa.array(numbers, pa.int64())}
    if effective is not None:
        columns["effective"] = pa.array(effective)
    for place, (oracle, _) in enumerate(panel.members):
        said = [answers[place] for answers in judged]
        columns[f"wins {oracle.name}"] = _nested(np.stack([one.matrix(own) for one in said]))
        rewards = [one.rewards for one in said if one.rewards is not None]
        if rewards:
            columns[f"rewards {oracle.name}"] = _nested(np.stack(rewards) * oracle.scale)
    return pa.table(columns)


def columns_of(panel: Panel, *, weighed: bool) -> list[str]:
    """Return the names of the columns of `annotation_rows`."""
    names = ["row", "effective"][: 1 + weighed]
    for oracle, _ in panel.members:
        names += [f"{what} {oracle.name}" for what in ("wins", "rewards")[: 1 + (oracle.kind == "reward")]]
    return names


class _Lists:
    """Lists of numbers as slices of one array."""

    def __init__(self, lists: pa.ListArray) -> None:
        self.lengths: Places = lists.value_lengths().to_numpy().astype(np.int64)
        self._values, self._ends = lists.flatten().to_numpy(), np.cumsum(self.lengths)

    def of(self, place: int) -> npt.NDArray[np.int32]:
        found: npt.NDArray[np.int32] = self._values[
            self._ends[place] - self.lengths[place] : self._ends[place]
        ]
        return found

    def each(self) -> list[npt.NDArray[np.int32]]:
        return [self.of(place) for place in range(len(self.lengths))]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _nested(numbers: Array) -> pa.Array:
    """Return an array as lists, of lists where it has further axes."""
    found: pa.Array = pa.array(np.ascontiguousarray(numbers).ravel())
    for axis in range(numbers.ndim - 1, 0, -1):
        count = int(np.prod(numbers.shape[:axis]))
        found = pa.ListArray.from_arrays(
            pa.array(np.arange(count + 1) * numbers.shape[axis], pa.int32()), found
        )
    return found
