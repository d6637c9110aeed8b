"""Logistic regression where there is no best fit, or more than one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from mnpo.logistic import logistic


def test_it_is_where_an_outside_solver_ends() -> None:
    rng = np.random.default_rng(0)
    rows, weights, results = rng.normal(size=(60, 3)), rng.random(60), rng.random(60)

    def loss(at: np.ndarray) -> float:
        logits = rows @ at
        return float(weights @ (np.logaddexp(0, logits) - results * logits))

    assert logistic(rows, results, weights) == pytest.approx(
        minimize(loss, np.zeros(3), tol=1e-14).x, abs=1e-5
    )


@pytest.mark.parametrize("factor", [1.0, -0.97894501, 1 / 3, np.pi, 1e-3])
def test_columns_that_follow_from_others_are_refused(factor: float) -> None:
    """Whether the curvature is singular to the last bit differs between machines."""
    rng = np.random.default_rng(1)
    column = rng.normal(size=20)
    rows = np.column_stack([column, factor * column])
    with pytest.raises(ValueError, match="follow from others"):
        logistic(rows, rng.random(20), np.ones(20))


def test_a_side_that_always_wins_is_refused() -> None:
    with pytest.raises(ValueError, match="no finite coefficients"):
        logistic(np.ones((5, 1)), np.ones(5), np.ones(5))
