"""solve(game): the Nash equilibrium, by the method that fits the game, with its certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mnpo.certificates import Certificate, verify
from mnpo.games import Game
from mnpo.gaps import exploitability_of
from mnpo.implicit import equilibrium_around
from mnpo.numerics import Array, check_memory, safe_log
from mnpo.programs import convex_program, linear_program


class Found(NamedTuple):
    """What a method found of a game or of some of its contexts."""

    #: (p, X, A).
    log_policies: Array
    residual: float
    iterations: int
    notes: tuple[str, ...] = ()


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

    At an equilibrium every policy is a best response (docs/concepts.md, (6)). With τ > 0 it is unique for pairwise
    payoffs and, among symmetric ones, for identical players of a contractive oracle (Plackett–Luce, rankings,
    populations of them); else it is the one that the branch from strong regularisation leads to. Contexts do not
    interact: each is solved as if it were alone, at the same cost.

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
    if method == "linear" and game.unregularised and not game.is_pairwise:
        raise ValueError(
            "tau = 0 can be solved for pairwise payoffs (one shared pairwise oracle, or two players) only; "
            "choose a small tau above 0"
        )
    if method not in METHODS:
        raise ValueError(f"method must be auto, {', '.join(METHODS)}; found {method!r}")
    begin = None if start is None else game.profile(start)[: game.slots]
    found: list[Found] = []
    logs: list[Array] = []
    gains, value, seconds = np.zeros(game.slots), np.zeros(game.slots), 0.0
    for block, weight, part in game.blocks():
        began = time.perf_counter()
        part = part.by_matrix()
        found.append(METHODS[method](part, None if begin is None else begin[:, block]))
        seconds += time.perf_counter() - began
        # Players may differ in other contexts only.
        log_policies = np.broadcast_to(found[-1].log_policies, (game.slots, part.contexts, game.actions))
        logs.append(log_policies)
        policies = np.exp(log_policies)
        wins = part.win_probabilities(policies)
        gains += weight * exploitability_of(part, policies, log_policies, wins)
        value += weight * part.payoffs(policies, wins)
    log_policies = np.concatenate(logs, axis=1)
    two_alike = game.players == 2 and game.symmetric and game.is_pairwise
    return Equilibrium(
        game=game,
        log_policies=np.array(game.everyone(log_policies)),
        exploitability=np.array(np.broadcast_to(gains, (game.players,))),
        value=np.array(np.broadcast_to(value, (game.players,))),
        dual_gap=2.0 * float(gains[0]) if two_alike else None,
        residual=max(every.residual for every in found),
        method=method,
        iterations=sum(every.iterations for every in found),
        seconds=seconds,
        certificate=verify(game, np.exp(log_policies), tolerance),
        notes=tuple(dict.fromkeys(note for every in found for note in every.notes)),
    )


def _newton(game: Game, start: Array | None) -> Found:
    """Newton's method with continuation in τ (`mnpo.logit`)."""
    if not game.profile_tau.all():
        raise ValueError("tau must be above 0 for every player, or 0 for all of them with pairwise payoffs")
    if game.profile_tau.min() < SMALLEST_TAU:
        raise ValueError(
            f"tau must be at least {SMALLEST_TAU:g}, or 0; found {game.profile_tau.min():g}: "
            "payoffs divided by it would keep no digits"
        )
    shape = (game.slots, game.contexts, game.actions)
    unknowns = game.slots * game.actions
    check_memory((4, game.contexts, unknowns, unknowns), "Newton's matrix")
    if start is not None:
        start = np.broadcast_to(safe_log(np.maximum(start[: game.slots], 1e-300)), shape)
    solution = equilibrium_around(
        game,
        np.array(np.broadcast_to(game.log_reference, shape)),
        np.array(np.broadcast_to(game.profile_tau[:, 0, 0], (game.slots,))),
        start,
    )
    return Found(solution.log_policies, float(solution.residual.max()), int(solution.iterations.sum()))


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
    return Found(log_policies, _residual(game, log_policies), game.contexts)


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
    return Found(log_policies, _residual(game, log_policies), game.contexts, notes)


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
