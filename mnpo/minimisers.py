"""Where a preference objective ends up on a table: the exact minimiser of its expectation over pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from mnpo.numerics import Array, as_array, as_policies, kl_divergence, normalise_log
from mnpo.objectives import Objective, Pairs, objective

#: A log-policy spread wider than this means that the minimum is at infinity.
UNBOUNDED = 60.0
#: Stands for a loss that is not a number.
OUTSIDE = 1e10


class NumpyOps:
    """`mnpo.objectives.Ops` for real and complex numpy arrays.

    Args:
        sharpness: None, or k, with which max(0, x) is rounded off to log(1 + e^{kx})/k.
    """

    def __init__(self, sharpness: float | None = None) -> None:
        self._sharpness = sharpness

    exp = staticmethod(np.exp)
    log = staticmethod(np.log)

    @staticmethod
    def softplus(x: Any) -> Any:
        """log(1 + e^x)."""
        positive = np.real(x) > 0
        return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))

    def relu(self, x: Any) -> Any:
        """max(0, x)."""
        if self._sharpness is None:
            return np.where(np.real(x) > 0, x, 0)
        return self.softplus(self._sharpness * x) / self._sharpness


@dataclass(frozen=True, eq=False)
class Minimiser:
    """The policy that minimises an objective's expectation.

    Attributes:
        objective: its name.
        policy: (A,).
        loss: the expected loss there.
        slope: largest derivative of the expected loss by a log-probability: 0 at a smooth minimum, not at a kink.
        bounded: whether the minimum is at a finite log-policy; if not, `policy` is how far the search went.
    """

    objective: str
    policy: Array
    loss: float
    slope: float
    bounded: bool


def labelled_pairs(matrix: Array, sampler: Array) -> Array:
    """Return how often (y_w, y_l) is seen: two i.i.d. draws from a policy, labelled by P(y ≻ y').

    Args:
        matrix: P, (A, A).
        sampler: ρ, (A,).

    Returns:
        (A, A), summing to 1: 2 ρ(y_w) ρ(y_l) P(y_w ≻ y_l).
    """
    return 2 * np.outer(sampler, sampler) * matrix


def minimiser(
    name: str | Objective,
    matrix: npt.ArrayLike,
    sampler: npt.ArrayLike,
    *,
    reference: npt.ArrayLike | None = None,
    current: npt.ArrayLike | None = None,
    pairs: npt.ArrayLike | None = None,
    anchor: npt.ArrayLike | None = None,
    target: npt.ArrayLike | None = None,
    rewards: npt.ArrayLike | None = None,
    lengths: npt.ArrayLike | None = None,
    uncertainty: npt.ArrayLike | None = None,
    **parameters: float,
) -> Minimiser:
    """Minimise an objective's expectation over labelled pairs, exactly, over all policies.

    Args:
        name: an objective.
        matrix: P, (A, A), who wins a pair.
        sampler: ρ, (A,), what pairs are drawn from.
        reference: π_ref, (A,); the sampler unless given.
        current: π_t, (A,); the sampler unless given.
        pairs: (A, A), how often (y_w, y_l) is seen; `labelled_pairs` unless given.
        anchor: Σ_k λ_k log μ_k, (A,), for the MNPO objectives; log π_t unless given.
        target: (A, A) or a number, for the MNPO objectives.
        rewards: r, (A,); the win rate against the sampler unless given.
        lengths: (A,) tokens; 1 unless given.
        uncertainty: Γ, (A,); 0 unless given.
        parameters: the objective's.

    Returns:
        The minimiser; `bounded` says whether there is one.

    Raises:
        ValueError: an unknown objective or parameter, or arrays that do not fit.
    """
    chosen = name if isinstance(name, Objective) else objective(name)
    unknown = set(parameters) - set(chosen.parameters)
    if unknown:
        raise ValueError(f"objective {chosen.name} has no parameter {sorted(unknown)[0]!r}")
    values = {**chosen.parameters, **parameters}
    wins = as_array(matrix, "matrix")
    rho = as_policies(sampler, "sampler")
    log_reference = np.log(as_policies(rho if reference is None else reference, "reference", positive=True))
    log_current = np.log(as_policies(rho if current is None else current, "current", positive=True))
    seen = labelled_pairs(wins, rho) if pairs is None else as_array(pairs, "pairs")
    against = wins @ rho
    reward = against if rewards is None else as_array(rewards, "rewards")
    tokens = np.ones(rho.size) if lengths is None else as_array(lengths, "lengths")
    gamma = np.zeros(rho.size) if uncertainty is None else as_array(uncertainty, "uncertainty")
    blend = log_current if anchor is None else as_array(anchor, "anchor")
    zero = np.zeros((rho.size, rho.size))
    given = Pairs(
        policy_w=zero,
        policy_l=zero,
        anchor=blend[:, None] - blend,
        target=0.5 if target is None else as_array(target, "target"),
        **_both("reference", log_reference),
        **_both("current", log_current),
        **_both("length", tokens),
        **_both("reward", reward),
        **_both("win", against),
        **_both("gamma", gamma),
    )
    best: Minimiser | None = None
    # Losses of the difference to π_t or to a rule's anchors have one minimum; others are started from several
    # places, near every corner among them.
    starts = [log_reference, np.zeros(rho.size), *(3.0 * np.eye(rho.size))]
    for start in [blend] if chosen.anchor in ("rule", "current") else starts:
        found = _descend(chosen, values, given, seen, start, log_reference)
        if best is None or (found.bounded, -found.loss) > (best.bounded, -best.loss + 1e-12):
            best = found
    assert best is not None
    return best


def iterate(
    name: str,
    matrix: npt.ArrayLike,
    reference: npt.ArrayLike,
    steps: int,
    *,
    start: npt.ArrayLike | None = None,
    **parameters: float,
) -> list[Array]:
    """Repeat an objective with its minimiser as the next sampler: π_0, π_1, .., (steps + 1) policies.

    π_0 is the reference unless a start is given. The pairs are labelled i.i.d. draws from the sampler.

    ONPO takes both of its regressions in each step: π'_{t+1} from π'_t with pairs of π_t, then π_{t+1} from
    π'_{t+1} with the same pairs.
    """
    ref = as_policies(reference, "reference", positive=True)
    first = ref if start is None else as_policies(start, "start", positive=True)
    policies, base = [first], first
    for _ in range(steps):
        sampler = policies[-1]
        if name == "onpo":
            base = minimiser(name, matrix, sampler, reference=ref, current=base, **parameters).policy
            found = minimiser(name, matrix, sampler, reference=ref, current=base, **parameters)
        else:
            found = minimiser(name, matrix, sampler, reference=ref, current=sampler, **parameters)
        floor = np.maximum(found.policy, 1e-300)
        policies.append(floor / floor.sum())
        base = np.maximum(base, 1e-300)
    return policies


def _both(name: str, values: Array) -> dict[str, Array]:
    """A per-response quantity as that of the winner (rows) and of the loser (columns)."""
    size = values.size
    return {
        f"{name}_w": np.broadcast_to(values[:, None], (size, size)),
        f"{name}_l": np.broadcast_to(values, (size, size)),
    }


def _descend(
    chosen: Objective,
    values: Mapping[str, float],
    given: Pairs,
    seen: Array,
    start: Array,
    log_reference: Array,
) -> Minimiser:
    step = 1e-30

    def loss_of(log_policy: Array, kl: float, ops: NumpyOps) -> tuple[float, Array]:
        """The expected loss and its derivative by log π, by complex steps: exact to rounding."""
        winner, loser = np.broadcast_arrays(log_policy[:, None], log_policy)
        now = replace(given, kl=kl)
        plain = chosen.loss(ops, replace(now, policy_w=winner, policy_l=loser), **values)
        by_w = chosen.loss(ops, replace(now, policy_w=winner + 1j * step, policy_l=loser), **values)
        by_l = chosen.loss(ops, replace(now, policy_w=winner, policy_l=loser + 1j * step), **values)
        slope = (seen * np.imag(by_w)).sum(1) + (seen * np.imag(by_l)).sum(0)
        return float((seen * np.real(plain)).sum()), slope / step

    def function(x: Array, kl: float, ops: NumpyOps) -> tuple[float, Array]:
        log_policy, policy = normalise_log(x)
        with np.errstate(all="ignore"):
            loss, slope = loss_of(log_policy, kl, ops)
        if not (np.isfinite(loss) and np.isfinite(slope).all()):
            return OUTSIDE, np.zeros_like(x)  # beyond what the loss is defined on: no minimum there
        return loss, slope - policy * slope.sum()

    def settle(x: Array, kl: float, ops: NumpyOps) -> Array:
        """Newton, which is enough for quadratic losses and near a minimum, and BFGS where it is not."""
        x = _polish(lambda y: function(y, kl, ops)[1], x)
        if np.abs(function(x, kl, ops)[1]).max() > 1e-14:
            options: Any = {"gtol": 1e-12, "maxiter": 2000}
            found = minimize(function, x, args=(kl, ops), jac=True, method="BFGS", options=options)
            x = _polish(lambda y: function(y, kl, ops)[1], found.x)
        return x

    x, kl = start.copy(), 0.0
    exact = NumpyOps()
    # A loss with kinks is approached through rounded ones; the last differs from it by less than 1e-7.
    for ops in [exact] if chosen.smooth else [NumpyOps(10.0**power) for power in range(1, 8)]:
        x = settle(x, kl, ops)
    if chosen.name == "kto":  # its z is held while the policy moves, so that a fixed point is looked for
        for _ in range(200):
            log_policy, policy = normalise_log(x)
            before, kl = kl, float(kl_divergence(policy, log_policy, log_reference))
            if abs(kl - before) < 1e-12:
                break
            x = settle(x, kl, exact)
    log_policy, policy = normalise_log(x)
    loss, slope = function(log_policy, kl, exact)
    return Minimiser(
        chosen.name,
        policy,
        loss,
        float(np.abs(slope).max()),
        bool(np.ptp(log_policy) < UNBOUNDED and loss < OUTSIDE),
    )


def _polish(slope: Any, x: Array) -> Array:
    """Newton on the gradient with a difference Hessian, as long as it helps."""
    error = float(np.abs(slope(x)).max())
    for _ in range(20):
        if error < 1e-15 or np.ptp(x) > UNBOUNDED:
            break
        size, width = x.size, 1e-5
        hessian = np.stack(
            [(slope(x + width * e) - slope(x - width * e)) / (2 * width) for e in np.eye(size)]
        )
        trial = x - np.linalg.pinv((hessian + hessian.T) / 2, rcond=1e-10) @ slope(x)
        new = float(np.abs(slope(trial)).max()) if np.isfinite(trial).all() else np.inf
        if not new < error:
            break
        x, error = trial, new
    return x
