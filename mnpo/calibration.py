"""How well win probabilities fit judgments: accuracy, log-loss, calibration, and the scale that fits best.

The order of a pair's two responses is nobody's choice, so nothing here depends on it: what is asked is how often
the response that a model favours is the preferred one, and how sure it was (docs/concepts.md, (18)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import rankdata

from mnpo.minimisers import NumpyOps
from mnpo.numerics import Array, as_array, as_weights
from mnpo.oracle_objectives import comparison_losses

#: Bins of confidence, from a half to 1.
BINS = 10
#: Scales further from 1 than this, either way, are none: the logits say everything or nothing.
FURTHEST = 1e8


@dataclass(frozen=True)
class Bin:
    """Pairs that a model is about equally sure of.

    Attributes:
        low, high: of the confidence, from ½ to 1.
        share: of all pairs.
        confidence: mean probability of the favoured response.
        right: how often it was preferred.
    """

    low: float
    high: float
    share: float
    confidence: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """How well logits fit judgments.

    Attributes:
        accuracy: how often the favoured response was preferred; of a model that favours neither, a half.
        log_loss: mean of −log of the probability of what was said, in nats; log 2 for a coin.
        error: expected calibration error, Σ share·|confidence − right| over bins (Guo et al., 1706.04599).
        bins: those with pairs, for a reliability diagram.
    """

    accuracy: float
    log_loss: float
    error: float
    bins: tuple[Bin, ...]


def calibration(
    logits: npt.ArrayLike,
    preference: npt.ArrayLike,
    *,
    scale: float = 1.0,
    weights: npt.ArrayLike | None = None,
    bins: int = BINS,
) -> Calibration:
    """Measure logits of P(first ≻ second) against judgments.

    Args:
        logits: (B,), of rewards their differences.
        preference: (B,), how often the first was preferred: 1, 0, ½ for a tie, or a share of annotators.
        scale: what logits are divided by.
        weights: (B,), how much pairs count.
        bins: so many of equal width.

    Raises:
        ValueError: no pairs, numbers that do not fit or are no probabilities, a scale or bins that are not above 0.
    """
    given, said, shares = _pairs(logits, preference, weights)
    if not 0 < scale < np.inf:
        raise ValueError(f"scale must be a number above 0; found {scale}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1; found {bins}")
    values = given / scale
    loss = comparison_losses("bradley-terry", NumpyOps(), values, preference=said)
    confidence = expit(np.abs(values))
    right = _right(values, said)
    place = np.minimum((2 * (confidence - 0.5) * bins).astype(int), bins - 1)
    rows = []
    for k in range(bins):
        share = float(shares[place == k].sum())
        if share:
            mean = [float((shares * x)[place == k].sum()) / share for x in (confidence, right)]
            rows.append(Bin(0.5 + k / (2 * bins), 0.5 + (k + 1) / (2 * bins), share, *mean))
    return Calibration(
        accuracy=float(shares @ right),
        log_loss=float(shares @ loss),
        error=sum(row.share * abs(row.confidence - row.right) for row in rows),
        bins=tuple(rows),
    )


def fitted_scale(
    logits: npt.ArrayLike, preference: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Return the s > 0 at which logits/s have the least log-loss: temperature scaling (Guo et al., 1706.04599).

    Args:
        logits, preference, weights: see `calibration`.

    Raises:
        ValueError: there is none: logits that order pairs no better than a coin, or always rightly.
    """
    given, said, shares = _pairs(logits, preference, weights)
    unit = np.abs(given).max()
    values = given / (unit or 1.0)

    def slope(log_factor: float) -> float:
        return float(shares @ (values * (expit(np.exp(log_factor) * values) - said)))

    widest = np.log(FURTHEST)
    if slope(-widest) >= 0:
        raise ValueError("no scale fits: the logits order pairs no better than a coin")
    if slope(widest) <= 0:
        raise ValueError("no scale fits: no pair is judged wrongly, so that surer is always better")
    return float(unit * np.exp(-brentq(slope, -widest, widest, xtol=1e-14, rtol=1e-14)))


def clustered_error(
    values: npt.ArrayLike, clusters: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Return the standard error of a weighted mean of values that are independent between clusters alone.

    Args:
        values: (B,).
        clusters: (B,), which cluster each belongs to: judgments of one prompt are no independent draws.
        weights: (B,); equal unless given.

    Returns:
        The error, with C/(C − 1) for few clusters (Liang & Zeger 1986); NaN with one cluster.
    """
    numbers = as_array(values, "values")
    shares = as_weights(weights, numbers.size, "weights")
    _, of = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(of.max()) + 1
    if count < 2:
        return float("nan")
    sums = np.bincount(of, shares * (numbers - shares @ numbers))
    return float(np.sqrt((sums**2).sum() * count / (count - 1)))


def right(logits: npt.ArrayLike, preference: npt.ArrayLike) -> Array:
    """Return how often the favoured response was preferred, pair by pair; of a model that favours neither, ½."""
    return _right(as_array(logits, "logits"), as_array(preference, "preference"))


@dataclass(frozen=True)
class LengthBias:
    """How far rewards follow length.

    Attributes:
        correlation: Spearman's, of reward and length over all responses of all pairs; NaN if either is constant.
        shorter: accuracy on pairs whose shorter response was preferred; NaN without such pairs.
        longer: on pairs whose longer one was.
    """

    correlation: float
    shorter: float
    longer: float


def length_bias(rewards: npt.ArrayLike, lengths: npt.ArrayLike, preference: npt.ArrayLike) -> LengthBias:
    """Measure how far rewards follow length.

    Args:
        rewards: (B, 2), of the first and the second response.
        lengths: (B, 2), in whatever unit.
        preference: (B,), how often the first was preferred.

    Raises:
        ValueError: see `calibration`.
    """
    scores, sizes = as_array(rewards, "rewards"), as_array(lengths, "lengths")
    said = as_array(preference, "preference")
    if scores.shape != (said.size, 2) or sizes.shape != scores.shape:
        raise ValueError(
            f"rewards and lengths must have shape ({said.size}, 2); found {scores.shape}, {sizes.shape}"
        )
    given, said, _ = _pairs(scores[:, 0] - scores[:, 1], said, None)
    ranks = [rankdata(table.ravel()) for table in (scores, sizes)]
    constant = any(np.ptp(row) == 0 for row in ranks)
    correlation = float("nan") if constant else float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    right = _right(given, said)
    # Whether the longer one was preferred: 1, −1, or 0 where lengths or votes are even.
    followed = np.sign(sizes[:, 0] - sizes[:, 1]) * np.sign(said - 0.5)
    shorter, longer = (float(right[followed == side].mean()) if (followed == side).any() else float("nan")
                       for side in (-1, 1))  # fmt: skip
    return LengthBias(correlation, shorter, longer)


@dataclass(frozen=True)
class Order:
    """How far a pairwise model's answer depends on which response it reads first.

    Attributes:
        bias: mean of P(first ≻ second) over both orders of all pairs, minus ½; above 0 the first place is favoured.
        residual: mean of |P(y ≻ y') + P(y' ≻ y) − 1|; 0 for an antisymmetric model.
        turned: the share of pairs of which another response wins when the order is swapped.
    """

    bias: float
    residual: float
    turned: float


def order_effects(first: npt.ArrayLike, swapped: npt.ArrayLike) -> Order:
    """Compare answers in both orders.

    Args:
        first: (B,) P(y ≻ y') with y read first.
        swapped: (B,) P(y' ≻ y) with y' read first.

    Raises:
        ValueError: no pairs, shapes that differ, or numbers that are no probabilities.
    """
    one, other = (_probabilities(values, name) for values, name in ((first, "first"), (swapped, "swapped")))
    if one.shape != other.shape:
        raise ValueError(f"first and swapped must have one shape; found {one.shape} and {other.shape}")
    return Order(
        bias=float((one + other).mean() / 2 - 0.5),
        residual=float(np.abs(one + other - 1).mean()),
        turned=float(((one - 0.5) * (other - 0.5) > 0).mean()),
    )


def _right(logits: Array, said: Array) -> Array:
    """How often the response that is favoured was preferred; a half where none is."""
    return np.where(logits > 0, said, np.where(logits < 0, 1 - said, 0.5))


def _pairs(
    logits: npt.ArrayLike, preference: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[Array, Array, Array]:
    values, said = as_array(logits, "logits"), _probabilities(preference, "preference")
    if values.shape != said.shape:
        raise ValueError(f"logits and preference must have one shape; found {values.shape} and {said.shape}")
    return values, said, as_weights(weights, values.size, "weights")


def _probabilities(given: npt.ArrayLike, name: str) -> Array:
    values = as_array(given, name)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"{name} must be a list of numbers, one for each pair; found shape {values.shape}")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"{name} must lie in [0, 1]; found {values[(values < 0) | (values > 1)][0]:g}")
    return values
