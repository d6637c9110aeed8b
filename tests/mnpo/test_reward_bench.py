"""RewardBench's scores from their definitions, on answers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mnpo.calibration import clustered_error
from mnpo.reward_bench import SECTIONS, best_of, sections, ties_score


def test_sections_weigh_pairs_and_mathematics_as_all_code():
    rng = np.random.default_rng(0)
    names = [name for subsets in SECTIONS.values() for name in subsets]
    pairs = {name: int(rng.integers(10, 200)) for name in names}
    accuracy = {name: float(rng.random()) for name in names}
    found = sections(accuracy, pairs)
    chat = [(pairs[name], accuracy[name]) for name in SECTIONS["Chat"]]
    assert found["Chat"] == pytest.approx(sum(n * a for n, a in chat) / sum(n for n, _ in chat))
    code = [(pairs[name], accuracy[name]) for name in SECTIONS["Reasoning"] if name != "math-prm"]
    mean = sum(n * a for n, a in code) / sum(n for n, _ in code)
    assert found["Reasoning"] == pytest.approx((mean + accuracy["math-prm"]) / 2)
    assert found["all"] == pytest.approx(np.mean([found[name] for name in SECTIONS]))
    del pairs["hep-go"]
    assert set(sections(accuracy, pairs)) == {"Chat", "Chat Hard", "Safety"}
    assert sections({"mine": 1.0}, {"mine": 3}) == {}


def test_ties_are_accuracy_and_margins():
    # Prompt 1: all right; the right answers 0.5 apart, margins 1 and 2. Prompt 2: a wrong answer above a right one.
    references = {"1": ([3.0], [1.0, 0.0]), "2": ([1.0], [0.0])}
    tied = {"1": ([2.0, 2.5], [1.0, -1.0]), "2": ([2.0, 0.0], [1.0])}
    margins = np.tanh(1 / 0.5 - 1), np.tanh(-1 / 2 - 1)
    wanted = 0.3 * (1 / 2 + 1) + 0.2 * (1 / 2 + 1 / 2) + 0.01 * np.mean(margins)
    assert ties_score(references, tied) == pytest.approx(wanted, abs=1e-15)
    same = {"1": ([2.0, 2.0], [1.0])}
    assert ties_score(references, same) == pytest.approx(0.3 * 2 + 0.2 * 2 + 0.01 * 1)
    with pytest.raises(ValueError, match="no prompt has both"):
        ties_score(references, {})


def test_the_best_of_four():
    assert best_of([1, 4, 2, 3], [1]) == 1
    assert best_of([1, 4, 2, 3], [0]) == 0
    assert best_of([4, 4, 2, 4], [0]) == pytest.approx(1 / 3)


def test_errors_count_prompts():
    """Each judgment thrice adds nothing; of single judgments the error is that of a mean."""
    values = np.array([1.0, 0, 0, 1, 1, 0, 1])
    alone = clustered_error(values, np.arange(7))
    assert alone == pytest.approx(values.std(ddof=1) / math.sqrt(7))
    assert clustered_error(np.repeat(values, 3), np.repeat(np.arange(7), 3)) == pytest.approx(alone)
    assert math.isnan(clustered_error([1.0, 0.0], ["a", "a"]))
    rng, found = np.random.default_rng(1), []
    for _ in range(4000):
        prompts = np.repeat(np.arange(20), rng.integers(1, 6, 20))
        luck = rng.normal(size=20)[prompts] + rng.normal(size=prompts.size)
        found.append((luck.mean(), clustered_error(luck, prompts)))
    means, errors = np.array(found).T
    assert np.sqrt((errors**2).mean()) == pytest.approx(means.std(), rel=0.05)
