"""Win rates with their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from mnpo.llm.stages.evaluate import interval


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """Student's interval holds the true mean as often as it says."""
    rng = np.random.default_rng(0)
    found = [interval(rng.random(12)) for _ in range(2000)]
    assert np.mean([rate.low <= 0.5 <= rate.high for rate in found]) == pytest.approx(0.95, abs=0.015)
