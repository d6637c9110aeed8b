"""Pairwise games as optimisation problems: the convex program for τ > 0 and the linear program for τ = 0.

Both take one context. Their solvers are cvxpy's Clarabel and scipy's HiGHS.
"""

from __future__ import annotations

import warnings

import numpy as np

from mnpo.numerics import Array, normalise_log


def convex_program(matrix: Array, log_reference: Array, tau: Array) -> tuple[Array, float]:
    """Minimise NashConv over all policies: zero, and only, at the equilibrium of a pairwise game.

    Σ_i [τ_i log Σ_y π_ref,i e^{q_i(y)/τ_i} + τ_i KL(π_i ‖ π_ref,i)] − n/2, with q_i = mean_{j≠i} P π_j, is
    convex because the payoffs ⟨π_i, q_i⟩ sum to a constant. With one policy given it is the symmetric game.

    Args:
        matrix: P, (A, A).
        log_reference: (p, A), p = 1 for identical players, else n.
        tau: (p,), all above 0.

    Returns:
        log-policies (p, A) and the value found, NashConv (of two players, if p = 1).

    Raises:
        RuntimeError: the solver failed.
    """
    import cvxpy as cp

    players, size = log_reference.shape
    if tau.shape != (players,):
        raise ValueError(f"tau must be {players} numbers, one for each reference; found shape {tau.shape}")
    policies = [cp.Variable(size, nonneg=True) for _ in range(players)]
    terms = []
    for i, policy in enumerate(policies):
        others = [other for j, other in enumerate(policies) if j != i] or [policy]
        beats = matrix @ (sum(others) / len(others))
        terms.append(tau[i] * cp.log_sum_exp(log_reference[i] + beats / tau[i]))
        terms.append(-tau[i] * cp.sum(cp.entr(policy)) - tau[i] * (log_reference[i] @ policy))
    problem = cp.Problem(cp.Minimize(sum(terms) - players / 2), [cp.sum(policy) == 1 for policy in policies])
    with warnings.catch_warnings():
        # An answer short of these tolerances is still an answer: its value says how good it is.
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        try:
            problem.solve(
                solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11, max_iter=500
            )
        except cp.error.SolverError as error:
            raise RuntimeError(f"the convex program failed: {error}") from None
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE) or policies[0].value is None:
        raise RuntimeError(f"the convex program failed: {problem.status}")
    found = np.stack([np.maximum(policy.value, 0.0) for policy in policies])
    # One best response turns an interior-point answer into policies with meaningful logarithms everywhere.
    means = (found.sum(axis=0) - found) / (players - 1) if players > 1 else found
    log_policies, _ = normalise_log(
        log_reference + (means / means.sum(-1, keepdims=True)) @ matrix.T / tau[:, None]
    )
    value = float(problem.value)
    return log_policies, value if players > 1 else 2 * value


def linear_program(matrix: Array) -> tuple[Array, bool]:
    """Return the maximal lottery: the equilibrium of a pairwise game at τ = 0, of any number of players.

    Every player plays a maximin policy of the two-player game. Where there are several, the one of maximum
    entropy, which is unique. Responses with equal rows (copies) are taken together and share.

    Args:
        matrix: P, (A, A).

    Returns:
        A policy (A,), with exact zeros outside its support, and whether its entropy is known to be maximal.

    Raises:
        RuntimeError: the solver failed.
    """
    kinds, place, counts = np.unique(np.round(matrix, 12), axis=0, return_inverse=True, return_counts=True)
    first = np.array([int(np.flatnonzero(place == kind)[0]) for kind in range(len(kinds))])
    margin, copies = matrix[np.ix_(first, first)] - 0.5, counts.astype(np.float64)
    scale = float(np.abs(margin).max())
    share, maximal = _lottery(margin / scale, copies) if scale > 0 else (copies / copies.sum(), True)
    return (share / copies)[place.ravel()], maximal


def _lottery(margin: Array, counts: Array) -> tuple[Array, bool]:
    """The maximal lottery of margins with largest absolute value 1, among kinds of `counts` copies each."""
    from scipy.optimize import linprog

    size = margin.shape[0]
    # Variables: the policy and the margin v that it guarantees; maximise v, which is 0 at the optimum.
    result = linprog(
        np.append(np.zeros(size), -1.0),
        A_ub=np.hstack([-margin.T, np.ones((size, 1))]),
        b_ub=np.zeros(size),
        A_eq=np.append(np.ones(size), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * size + [(None, None)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if result.x is None:
        raise RuntimeError(f"the linear program failed: {result.message}")
    policy = _refined(margin, np.maximum(result.x[:size], 0.0))
    # Another optimum can only play responses that do as well as possible against this one.
    rivals = np.flatnonzero(margin @ policy > -1e-9)
    support = np.flatnonzero(policy)
    if rivals.size == support.size and _nullity(margin[np.ix_(rivals, support)]) <= 1:
        return policy, True
    try:
        spread = np.zeros(size)
        spread[rivals] = _maximum_entropy(margin[:, rivals], counts[rivals])
    except RuntimeError:
        return policy, False
    # Better nearly of maximum entropy than no equilibrium, and better an equilibrium than neither.
    for candidate in (_refined_entropy(margin, spread, counts), _refined(margin, spread)):
        if (margin @ candidate).max() <= max(1e-12, float((margin @ policy).max())):
            return candidate, True
    return policy, False


def _maximum_entropy(margin: Array, counts: Array) -> Array:
    """The policy of maximum entropy, copies counted, among those that no response beats."""
    import cvxpy as cp

    policy = cp.Variable(margin.shape[1], nonneg=True)
    spread = cp.sum(cp.entr(policy)) + np.log(counts) @ policy
    problem = cp.Problem(cp.Maximize(spread), [cp.sum(policy) == 1, margin @ policy <= 0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        try:
            problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        except cp.error.SolverError as error:
            raise RuntimeError(f"the maximum-entropy program failed: {error}") from None
    if policy.value is None:
        raise RuntimeError(f"the maximum-entropy program failed: {problem.status}")
    return np.maximum(policy.value, 0.0)


def _refined(margin: Array, policy: Array) -> Array:
    """Move a solver's answer, exact to its tolerance, to the nearest exact solution with its support."""
    policy = np.where(policy > 1e-7, policy, 0.0)
    policy = policy / policy.sum()
    support = np.flatnonzero(policy)
    tight = np.flatnonzero(margin @ policy > -1e-7)
    rows = np.vstack([margin[np.ix_(tight, support)], np.ones(support.size)])
    excess = rows @ policy[support] - np.append(np.zeros(tight.size), 1.0)
    moved = policy.copy()
    moved[support] -= np.linalg.lstsq(rows, excess, rcond=None)[0]
    better = moved.min() >= 0 and (margin @ moved).max() <= (margin @ policy).max()
    return moved / moved.sum() if better else policy


def _refined_entropy(margin: Array, policy: Array, counts: Array) -> Array:
    """Sharpen a policy of maximum entropy: Newton on its optimality conditions, with its active constraints.

    log(p/counts) is a combination of the active constraints' rows; what is solved for are the coefficients.
    """
    support = np.flatnonzero(policy > 1e-6 * policy.max())
    tight = np.flatnonzero(margin @ policy > -1e-6)
    rows = np.vstack([margin[np.ix_(tight, support)], np.ones(support.size)])
    target = np.append(np.zeros(tight.size), 1.0)
    base = counts[support].astype(np.float64)
    start = policy[support] / policy[support].sum()
    dual = np.linalg.lstsq(rows.T, np.log(start / base), rcond=None)[0]
    for _ in range(30):
        weights = base * np.exp(np.clip(rows.T @ dual, -700, 700))
        dual += np.linalg.lstsq((rows * weights) @ rows.T, target - rows @ weights, rcond=1e-13)[0]
    result = np.zeros_like(policy)
    result[support] = base * np.exp(np.clip(rows.T @ dual, -700, 700))
    close = np.isfinite(result).all() and np.abs(result - policy).max() < 1e-3
    return result / result.sum() if close else policy


def _nullity(matrix: Array) -> int:
    return int(matrix.shape[1] - np.linalg.matrix_rank(matrix, tol=1e-9))
