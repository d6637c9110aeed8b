"""Further responses for what an objective estimates on each batch: to every prompt one of another prompt's."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset

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
        found = mismatched(split["prompt_ids"], split["chosen_ids"], max_length)
        if found is None:
            raise ValueError(
                f"objective {task.objective.name} needs pairs of at least two different prompts: {estimate.name} "
                "is estimated on responses to other prompts"
            )
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
    keys = [tuple(prompt) for prompt in prompts]
    if len(set(keys)) < 2:
        return None
    size = len(keys)
    # The next row with another prompt, found from the end: rows that repeat a prompt share it.
    following = [0] * size
    nearest = next(place for place in range(size) if keys[place] != keys[-1])
    following[-1] = nearest
    for place in range(size - 2, -1, -1):
        following[place] = place + 1 if keys[place + 1] != keys[place] else following[place + 1]
    return [
        list(responses[other])[: max(1, max_length - len(prompt))]
        for prompt, other in zip(prompts, following, strict=True)
    ]
