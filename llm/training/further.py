"""Further responses for what an objective estimates on each batch: to every prompt one of another prompt's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset

from mnpo.common.digests import bytes_digest
from mnpo.llm.data.ids import Ids, ids_digests, list_lengths
from mnpo.llm.data.tables import batches
from mnpo.llm.storage.store import Digests, Places, as_digests
from mnpo.llm.training.tasks import Task


def with_further_responses(task: Task, split: Dataset, max_length: int) -> Dataset:
    """Add the column <estimate>_ids for every estimate of a task's objective.

    Args:
        task: what is minimised.
        split: encoded pairs.
        max_length: tokens of prompt and response; a longer response loses its end.

    Raises:
        ValueError: pairs that all have the same prompt.
    """
    for estimate in task.estimated:
        others = following(prompt_digests(split))
        if others is None:
            raise ValueError(needs_different(task, estimate.name))
        answers, parts, start = Ids(split, "chosen_ids"), [], 0
        for rows in batches(split, ["prompt_ids"]):
            mine = others[start : start + len(rows)]
            parts.append(other_responses(rows.column("prompt_ids"), answers, mine, max_length))
            start += len(rows)
        found = pa.chunked_array(parts)
        split = split.add_column(f"{estimate.name}_ids", found, feature=split.features["chosen_ids"])
    return split


def mismatched(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], max_length: int
) -> list[list[int]] | None:
    """Return for every prompt the response of the next row that has another prompt, cut to length.

    Args:
        prompts: token ids.
        responses: token ids, one to each prompt.
        max_length: tokens of prompt and response.

    Returns:
        Token ids, one response for each prompt; None if there is only one prompt.
    """
    others = following(as_digests([bytes_digest(np.asarray(prompt).tobytes()) for prompt in prompts]))
    if others is None:
        return None
    return [
        list(responses[other])[: max(1, max_length - len(prompt))]
        for prompt, other in zip(prompts, others.tolist(), strict=True)
    ]


def following(prompts: Digests) -> Places | None:
    """Return for every row the next one that has another prompt, (N,); None if there is only one prompt.

    After the last row comes the first: rows that repeat a prompt share the row that follows.

    Args:
        prompts: a digest of each row's prompt, (N,).
    """
    others = np.flatnonzero(prompts != prompts[-1])
    if not others.size:
        return None
    ends = np.flatnonzero(prompts[1:] != prompts[:-1])  # the last rows of those that have a prompt in common
    after = np.append(ends + 1, others[0])
    return after[np.searchsorted(ends, np.arange(len(prompts)))]


def other_responses(
    prompts: pa.ChunkedArray, responses: Ids, others: Places, max_length: int
) -> pa.ListArray:
    """Return other rows' responses to some prompts, cut to length.

    Args:
        prompts: token ids of some rows' prompts.
        responses: of all rows.
        others: whose response each of these prompts has.
        max_length: tokens of prompt and response.
    """
    room = np.maximum(1, max_length - list_lengths(prompts))
    found = [responses[other][:most] for other, most in zip(others.tolist(), room.tolist(), strict=True)]
    ends = np.cumsum([0, *map(len, found)]).astype(np.int32)
    return pa.ListArray.from_arrays(ends, np.concatenate(found))


def prompt_digests(pairs: Dataset) -> Digests:
    """Return a digest of each pair's prompt, (N,)."""
    return np.concatenate([ids_digests(rows.column(0)) for rows in batches(pairs, ["prompt_ids"])])


def needs_different(task: Task, name: str) -> str:
    """Say that pairs which all have the same prompt do not do.

    Args:
        task: what is minimised.
        name: what is estimated.
    """
    return (
        f"objective {task.objective.name} needs pairs of at least two different prompts: {name} is estimated on "
        "responses to other prompts"
    )
