"""KTO's estimate is made on responses to other prompts, never longer than the rest of the pair may be."""

from __future__ import annotations

import itertools

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from mnpo.llm.training.further import mismatched, with_further_responses
from mnpo.llm.training.tasks import task_of


def test_the_response_of_the_next_row_with_another_prompt_is_taken() -> None:
    """Rows that repeat a prompt, as `annotate` leaves them beside each other, never answer each other."""
    prompts = [[1], [1], [1], [2], [3], [3], [1]]
    answers = [[10 + place] for place in range(7)]
    assert mismatched(prompts, answers, 9) == [[13], [13], [13], [14], [16], [16], [13]]


def test_different_prompts_are_answered_by_their_neighbours() -> None:
    """Where no prompt is repeated nothing is other than it always was: each row has the next one's response."""
    prompts = [[place] for place in range(5)]
    answers = [[10 + place, 1] for place in range(5)]
    assert mismatched(prompts, answers, 9) == [*answers[1:], answers[0]]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), min_size=1, max_size=12),
    longest=st.integers(3, 8),
)
def test_no_response_of_the_same_prompt_and_none_that_is_too_long(
    rows: list[tuple[int, int]], longest: int
) -> None:
    prompts = [[7] * (1 + kind) for kind, _ in rows]
    # A response says in each of its tokens whose it is.
    answers = [[100 * (1 + kind) + place] * size for place, (kind, size) in enumerate(rows)]
    found = mismatched(prompts, answers, longest)
    if len({kind for kind, _ in rows}) == 1:
        assert found is None
        return
    assert found is not None
    for prompt, response in zip(prompts, found, strict=True):
        assert response
        assert response[0] // 100 != len(prompt)
        assert len(prompt) + len(response) <= max(longest, len(prompt) + 1)


def test_a_cut_response_is_the_beginning_of_one() -> None:
    (first, second) = mismatched([[1, 2, 3], [4]], [[5, 6], [7, 8, 9, 10]], 5) or []
    assert first == [7, 8]
    assert second == [5, 6]


def pairs(*prompts: int) -> Dataset:
    return Dataset.from_list(
        [{"prompt_ids": [prompt], "chosen_ids": [10 + i]} for i, prompt in enumerate(prompts)]
    )


def test_pairs_of_one_prompt_cannot_estimate() -> None:
    """Formerly a row was then paired with its own response."""
    task = task_of("kto")
    for alike in (pairs(1), pairs(1, 1, 1)):
        with pytest.raises(
            ValueError, match="objective kto needs pairs of at least two different prompts"
        ) as error:
            with_further_responses(task, alike, 9)
        assert "\n" not in str(error.value)
    found = with_further_responses(task, pairs(1, 1, 2), 9)
    assert found["kl_ids"] == [[12], [12], [10]]


def test_objectives_that_estimate_nothing_leave_the_pairs_alone() -> None:
    for name, data in itertools.product(("dpo", "simpo"), (pairs(1, 1), pairs(1, 2))):
        assert with_further_responses(task_of(name), data, 9) is data
