"""Small numerical tools shared by the whole package: log-space sums, divergences, products, checked input."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: How far a probability vector's sum, or P + Pᵀ, may be from one before it is refused. Smaller differences
#: are the rounding of a file or of float32, and are removed.
ROUNDING = 1e-6

#: Larger weights are refused: their sum and squares must be numbers.
LARGEST_WEIGHT = 1e100

#: What stands for the logarithm of zero: finite, so that 0 · log 0 = 0, yet e to it is exactly 0.
LOG_ZERO = -1e4


def normalise_log(unnormalised: Array) -> tuple[Array, Array]:
    """Normalise log-weights over the last axis, with one exponential.

    Args:
        unnormalised: (..., A), finite.

    Returns:
        log-probabilities (..., A) and probabilities (..., A).
    """
    log_policy = unnormalised - unnormalised.max(axis=-1, keepdims=True)
    policy = np.exp(log_policy)
    total = policy.sum(axis=-1, keepdims=True)
    log_policy -= np.log(total)
    policy /= total
    return log_policy, policy


def logsumexp(values: Array) -> Array:
    """Return log Σ exp over the last axis, (..., A) -> (...)."""
    top = values.max(axis=-1, keepdims=True)
    summed: Array = np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0]
    return summed


def safe_log(policy: Array) -> Array:
    """Return the logarithm, and at zero `LOG_ZERO`."""
    with np.errstate(divide="ignore"):
        logarithm: Array = np.log(policy)
    return np.maximum(logarithm, LOG_ZERO)


def kl_divergence(policy: Array, log_policy: Array, log_other: Array) -> Array:
    """Return KL(policy ‖ other) in nats over the last axis, (..., A) -> (...).

    Args:
        policy: (..., A).
        log_policy: its logarithm, finite (see `safe_log`).
        log_other: (..., A), finite, the logarithm of a normalised policy.
    """
    divergence: Array = (policy * (log_policy - log_other)).sum(axis=-1)
    return np.maximum(divergence, 0.0)


def entropy(policy: Array) -> Array:
    """Return the entropy in nats over the last axis, (..., A) -> (...); its exponential counts responses."""
    return np.maximum(-(policy * safe_log(policy)).sum(axis=-1), 0.0)


def integer_power(base: Array, exponent: int) -> Array:
    """Return base**exponent by repeated squaring (numpy's power is an order slower on arrays)."""
    result: Array | None = None
    square = base
    while exponent:
        if exponent & 1:
            result = square if result is None else result * square
        exponent >>= 1
        if exponent:
            square = square * square
    return np.ones_like(base) if result is None else result


def mean_of_others(profile: Array) -> Array:
    """Return, for each player, the mean of the other players' rows; of one row that all share, itself.

    Args:
        profile: (..., p, X, A), probabilities or their logarithms.
    """
    players = profile.shape[-3]
    if players == 1:
        return profile
    return (profile.sum(axis=-3, keepdims=True) - profile) / (players - 1)


def products_of_others(factors: Array, axis: int) -> Array:
    """Return, for each index i along an axis, the product of all factors but the i-th, in linear time.

    Prefix times suffix products: no division, so that zero factors need no care.
    """
    moved = np.moveaxis(factors, axis, 0)
    result = np.empty_like(moved)
    running = np.ones_like(moved[0])
    for index in range(moved.shape[0]):
        result[index] = running
        if index + 1 < moved.shape[0]:
            running = running * moved[index]
    running = np.ones_like(moved[0])
    for index in range(moved.shape[0] - 1, -1, -1):
        result[index] *= running
        if index:
            running = running * moved[index]
    return np.moveaxis(result, 0, axis)


def as_array(values: npt.ArrayLike, name: str) -> Array:
    """Return a float64 array, or say which argument is not one.

    Raises:
        ValueError: not numbers, ragged, empty, or not finite.
    """
    try:
        if np.iscomplexobj(given := np.asarray(values)):
            raise ValueError("complex numbers")
        if given.dtype.kind in "USMmV":
            raise ValueError(f"found {given.dtype.name}")
        array = np.asarray(given, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} must be a rectangular array of numbers ({_reason(error)})") from None
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f" at index {list(where)}" if where else ""
        raise ValueError(f"{name} must be finite; found {array[where]}{place}")
    return array


def as_policies(values: npt.ArrayLike, name: str, *, positive: bool = False) -> Array:
    """Return probability vectors over the last axis, rounding removed.

    Raises:
        ValueError: an entry negative (or zero, when `positive`), or a sum further from 1 than `ROUNDING`.
    """
    array = as_array(values, name)
    if array.min() < 0 or (positive and array.min() <= 0):
        where = tuple(int(i) for i in np.argwhere(array <= 0 if positive else array < 0)[0])
        kind = "greater than 0" if positive else "at least 0"
        raise ValueError(
            f"{name} must have every entry {kind}; found {array[where]:g} at index {list(where)}"
        )
    sums = array.sum(axis=-1, keepdims=True)
    worst = float(np.abs(sums - 1).max())
    if worst > ROUNDING:
        found = float(sums.flat[int(np.abs(sums - 1).argmax())])
        raise ValueError(f"{name} must sum to 1 over the responses; found a sum of {found:.6g}")
    return array / sums


def as_weights(values: npt.ArrayLike | None, count: int, name: str) -> Array:
    """Return `count` non-negative weights normalised to sum 1; None means equal weights.

    Raises:
        ValueError: the wrong number of weights, a negative one, or none above zero.
    """
    if values is None:
        return np.full(count, 1.0 / count)
    weights = as_array(values, name)
    if weights.shape != (count,):
        raise ValueError(f"{name} must be {count} numbers; found an array of shape {weights.shape}")
    if weights.max() > LARGEST_WEIGHT:
        raise ValueError(f"{name} must be at most {LARGEST_WEIGHT:g}; found {weights.max():g}")
    if weights.min() < 0 or weights.sum() <= 0:
        raise ValueError(f"{name} must be at least 0 and not all 0; found {weights.min():g} as the least")
    return weights / weights.sum()


def check_memory(shape: Sequence[int], what: str) -> None:
    """Refuse an array of float64 that does not fit in half of the memory that is free now.

    Raises:
        ValueError: says how much is needed and how much is free.
    """
    needed = 8.0
    for size in shape:
        needed *= min(size, 1e30)
    free = float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    if needed > free / 2:
        raise ValueError(
            f"{what} of shape {_dimensions(shape)} would need {needed / 2**30:.3g} GiB of memory; "
            f"{free / 2**30:.3g} GiB are free, of which half may be taken"
        )


def _dimensions(shape: Sequence[int]) -> str:
    """Return a shape in words; one of many axes is cut."""
    axes = [str(size) if size < 10**15 else f"{float(min(size, 10**300)):.3g}" for size in shape[:8]]
    return f"({', '.join(axes)}{', ..' if len(shape) > 8 else ''})"


def _reason(error: Exception) -> str:
    return "rows of different lengths" if "inhomogeneous" in str(error) else str(error)
