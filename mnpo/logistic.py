"""Logistic regression with soft labels and weights: what ratings, style and length control are fitted by."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from mnpo.logit import ConvergenceError
from mnpo.numerics import Array

_STEPS, _DONE = 100, 1e-13
#: A coefficient beyond which a chance is 0 or 1 to the last digit.
_CERTAIN = 40.0


def logistic(rows: Array, results: Array, weights: Array, free: Array | None = None) -> Array:
    """Return the maximum of a weighted logistic likelihood with soft labels, (D,), by Newton's method.

    Args:
        rows: (N, D).
        results: (N,), from 0 to 1.
        weights: (N,), at least 0.
        free: (D, D), added to the curvature: what the rows leave open, such as a constant of all ratings.

    Raises:
        ValueError: there is none, since the likelihood rises without end, or more than one.
        ConvergenceError: it was not found.
    """
    found = np.zeros(rows.shape[1])
    open_ = 0.0 if free is None else free
    if np.linalg.matrix_rank((rows * weights[:, None]).T @ rows / 4 + open_) < len(found):
        raise ValueError("many coefficients fit equally well: some columns follow from others")

    def loss(at: Array) -> float:
        logits = rows @ at
        return float(weights @ (np.logaddexp(0, logits) - results * logits))

    for _ in range(_STEPS):
        chances = expit(rows @ found)
        slope = rows.T @ (weights * (chances - results))
        curvature = (rows * (weights * chances * (1 - chances))[:, None]).T @ rows + open_
        try:
            step = -np.linalg.solve(curvature, slope)
        except np.linalg.LinAlgError:
            raise ValueError("no finite coefficients fit best") from None
        length, here = 1.0, loss(found)
        while loss(found + length * step) > here and length > _DONE:
            length /= 2
        found = found + length * step
        if np.abs(found).max() > _CERTAIN:
            raise ValueError("no finite coefficients fit best")
        small = np.abs(length * step).max() < _DONE * max(1.0, float(np.abs(found).max()))
        if small or -slope @ step < 1e-22:
            return found
    raise ConvergenceError("the logistic regression did not converge")
