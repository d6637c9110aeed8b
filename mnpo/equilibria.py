"""solve(game): the Nash equilibrium, by the method that fits the game, with its certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnpo.certificates import Certificate, verify
from mnpo.games import Game
from mnpo.gaps import GapUndefined, dual_gap, exploitability_of
from mnpo.logit import solve_logit
from mnpo.numerics import Array, check_memory, safe_log
from mnpo.programs import convex_program, linear_program

#: log-policies (p, X, A), residual, iterations, notes.
Found = tuple[Array, float, int, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """A Nash equilibrium and how it was found.

    Attributes:
        game: what was solved.
        log_policies: (n, X, A); −10,000 where a policy is exactly 0, which happens at τ = 0 only.
        exploitability: (n,).
        value: (n,), payoffs u_i.
        dual_gap: of two identical players, else None.
        residual: largest |log π − log BR|; at τ = 0, largest payoff left on the table by a response played.
        method: "newton", "convex" or "linear".
        iterations: of the method, over all contexts.
        seconds: of the method, wall clock, without the certificate.
        certificate: the independent check.
        notes: what the method could not promise.
    """

    game: Game
    log_policies: Array
    exploitability: Array
    value: Array
    dual_gap: float | None
    residual: float
    method: str
    iterations: int
    seconds: float
    certificate: Certificate
    notes: tuple[str, ...] = ()

    @property
    def policies(self) -> Array:
        """(n, X, A)."""
        return np.exp(self.log_policies)

    @property
    def nash_conv(self) -> float:
        """Σ_i exploitability_i."""
        return float(self.exploitability.sum())

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; `mnpo sim verify` reads it back."""
        return {
            "players": self.game.players,
            "tau": _scalar_or_list(self.game.player_tau),
            "responses": list(self.game.responses),
            "reference": np.exp(np.broadcast_to(self.game.log_reference, self.log_policies.shape)).tolist(),
            "method": self.method,
            "policies": self.policies.tolist(),
            "exploitability": self.exploitability.tolist(),
            "nash_conv": self.nash_conv,
            "dual_gap": self.dual_gap,
            "value": self.value.tolist(),
            "residual": self.residual,
            "iterations": self.iterations,
            "seconds": self.seconds,
            "remarks": list(self.notes),
            "certificate": self.certificate.as_dict(),
        }


def solve(
    game: Game,
    method: str = "auto",
    *,
    tolerance: float = 1e-10,
    start: Array | None = None,
) -> Equilibrium:
    """Find a Nash equilibrium, the symmetric one where players are identical.

    Contexts do not interact: each is solved by itself. The equilibrium is unique for pairwise payoffs with
    τ > 0; for other oracles it is the one that the branch from strong regularisation leads to.

    Args:
        game: a single game (no batch).
        method: "auto"; "newton", any game with every τ > 0; "convex", pairwise payoffs with every τ > 0;
            "linear", pairwise payoffs with every τ = 0 (the maximum-entropy equilibrium).
        tolerance: what the certificate allows each player's exploitability to be.
        start: (p, X, A) policies near the equilibrium, for Newton's method to begin with.

    Returns:
        The equilibrium with its certificate. Read `certificate.holds`.

    Raises:
        ValueError: an unknown method, or one that the game does not admit.
        ConvergenceError: Newton's method lost the branch.
    """
    if game.batch_shape:
        raise ValueError("solve takes one game at a time; found a batch")
    if method == "auto":
        method = "linear" if game.unregularised else "newton"
    if method == "linear" and game.unregularised and game.pairwise_matrix() is None:
        raise ValueError(
            "tau = 0 can be solved for pairwise payoffs (one shared pairwise oracle, or two players) only; "
            "choose a small tau above 0"
        )
    if method not in METHODS:
        raise ValueError(f"method must be auto, {', '.join(METHODS)}; found {method!r}")
    began = time.perf_counter()
    log_policies, residual, iterations, notes = METHODS[method](game, start)
    seconds = time.perf_counter() - began
    policies = np.exp(log_policies)
    gains = exploitability_of(game, policies, log_policies, game.win_probabilities(policies))
    certificate = verify(game, policies, tolerance)
    try:
        gap = float(dual_gap(game, policies)) if game.players == 2 else None
    except GapUndefined:
        gap = None
    return Equilibrium(
        game=game,
        log_policies=np.array(game.everyone(log_policies)),
        exploitability=np.array(np.broadcast_to(gains, (game.players,))),
        value=np.array(np.broadcast_to(game.payoffs(policies), (game.players,))),
        dual_gap=gap,
        residual=residual,
        method=method,
        iterations=iterations,
        seconds=seconds,
        certificate=certificate,
        notes=notes,
    )


def _newton(game: Game, start: Array | None) -> Found:
    """Newton with continuation in τ (spec: `mnpo.logit`), context by context."""
    if not game.profile_tau.all():
        raise ValueError("tau must be above 0 for every player, or 0 for all of them with pairwise payoffs")
    if game.profile_tau.min() < SMALLEST_TAU:
        raise ValueError(
            f"tau must be at least {SMALLEST_TAU:g}, or 0; found {game.profile_tau.min():g}: "
            "payoffs divided by it would keep no digits"
        )
    unknowns = game.slots * game.actions
    check_memory((4, unknowns, unknowns), "Newton's matrix")
    slots, unique = game.slots, game.pairwise_matrix() is not None
    tau = np.broadcast_to(game.profile_tau[:, 0, 0], (slots,))
    log_start = None if start is None else safe_log(np.maximum(game.profile(start)[:slots], 1e-300))
    solutions = [
        solve_logit(
            profile_wins(game, x),
            profile_gradient(game, x),
            np.array(np.broadcast_to(game.log_reference[:, x], (slots, game.actions))),
            np.array(tau),
            unique=unique,
            start=None if log_start is None else np.broadcast_to(log_start[:, x], (slots, game.actions)),
        )
        for x in range(game.contexts)
    ]
    return (
        np.stack([solution.log_policies for solution in solutions], axis=1),
        max(solution.residual for solution in solutions),
        sum(solution.iterations for solution in solutions),
        (),
    )


def profile_wins(game: Game, context: int) -> Callable[[Array], Array]:
    """One context's win probabilities, (p, A) -> (p, A); the other contexts are filled in and ignored."""

    def wins(policies: Array) -> Array:
        spread = np.repeat(policies[:, None, :], game.contexts, axis=1)
        return game.win_probabilities(spread)[:, context]

    return wins


def profile_gradient(game: Game, context: int) -> Callable[[Array], Array]:
    """One context's ∂q_i(y)/∂π_j(z) as [i, y, j, z], (p, A) -> (p, A, p, A)."""

    def gradient(policies: Array) -> Array:
        slots, size = policies.shape
        spread = np.repeat(policies[:, None, :], game.contexts, axis=1)
        if slots == 1:
            return game.oracle.gradient(spread, counts=(game.players - 1,))[:, context, :, None, :]
        blocks = np.zeros((slots, size, slots, size))
        for i in range(slots):
            others = [j for j in range(slots) if j != i]
            blocks[i][:, others] = game.oracle.gradient(spread[others], player=i)[:, context].swapaxes(0, 1)
        return blocks

    return gradient


def _convex(game: Game, start: Array | None) -> Found:
    """The convex program in the exponential cone, for pairwise payoffs."""
    matrix = game.pairwise_matrix()
    if matrix is None or not game.profile_tau.all():
        raise ValueError(
            "method convex needs pairwise payoffs (one shared pairwise oracle, or two players) "
            "and every tau above 0"
        )
    slots = game.slots
    tau = np.array(np.broadcast_to(game.profile_tau[:, 0, 0], (slots,)))
    references = np.broadcast_to(game.log_reference, (slots, game.contexts, game.actions))
    log_policies = np.stack(
        [convex_program(matrix[x], references[:, x], tau)[0] for x in range(game.contexts)], axis=1
    )
    return log_policies, _residual(game, log_policies), game.contexts, ()


def _linear(game: Game, start: Array | None) -> Found:
    """The linear program of the maximal lottery, for pairwise payoffs without regularisation."""
    matrix = game.pairwise_matrix()
    if matrix is None or not game.unregularised:
        raise ValueError(
            "method linear needs pairwise payoffs (one shared pairwise oracle, or two players) and every tau 0"
        )
    found = [linear_program(matrix[x]) for x in range(game.contexts)]
    maximal = all(known for _, known in found)
    notes = () if maximal else ("an equilibrium, but perhaps not the one of maximum entropy",)
    log_policies = safe_log(np.stack([policy for policy, _ in found])[None])
    return log_policies, _residual(game, log_policies), game.contexts, notes


def _residual(game: Game, log_policies: Array) -> float:
    policies = np.exp(log_policies)
    wins = game.win_probabilities(policies)
    if game.unregularised:
        return float(((wins.max(-1, keepdims=True) - wins) * (policies > 0)).max())
    log_best = safe_log(game.best_response(wins)[0])
    return float(np.abs(np.where(policies > 1e-25, log_policies - log_best, 0.0)).max())


#: Below this τ a payoff over τ has no correct digit left.
SMALLEST_TAU = 1e-12

METHODS: dict[str, Callable[[Game, Array | None], Found]] = {
    "newton": _newton,
    "convex": _convex,
    "linear": _linear,
}


def _scalar_or_list(values: Array) -> float | list[float]:
    return float(values[0]) if (values == values[0]).all() else [float(value) for value in values]
