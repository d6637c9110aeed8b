"""Local rates of rules on one game, as tables: rate against step, stable region, best step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mnpo.common.progress import Progress
from mnpo.equilibria import solve
from mnpo.games import Game
from mnpo.gaps import nash_conv
from mnpo.logit import ConvergenceError
from mnpo.numerics import Array
from mnpo.presets import RULES, make_rule
from mnpo.rates import frequencies, local_rate
from mnpo.rules import UpdateRule
from mnpo.sim.spec import GameSpec
from mnpo.tuning import stable_steps, tune

#: Rules compared with TD-MNPO. (The point at which Nash-MD stands still moves with its step, so that its rates are
#: rates to different places.)
COMPARED = ("onpo", "egpo")
PLAYERS = (2, 3, 4, 5, 6)
#: Gap, relative to that of the reference, at which predicted updates are counted.
SHRINK = 1e-9
#: A stationary point with a gap above this is not the equilibrium.
REST = 1e-8
#: τ/ω at which the stable region is mapped.
REGION = (0.003, 0.01, 0.03, 0.1, 0.3)


def rate_table(
    spec: GameSpec,
    *,
    tau: float | None = None,
    players: Sequence[int] = PLAYERS,
    rules: Sequence[str] = COMPARED,
    reference: Array | None = None,
    points: int = 41,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Predict the rate of every rule at every step of a grid, the stable steps, and the best step.

    Args:
        spec: the game. It is played by two; `players` is TD-MNPO's, its past policies being the others.
        tau: KL strength, above 0.
        players: TD-MNPO's n.
        rules: further rules by name.
        reference: π_ref.
        points: length of the grid of steps.
        progress: called with what is done, and how many of how many.

    Returns:
        A record: `rows` of rule, players, eta, rate, stable; `summary` of rule, players, stable steps, best step
        and rate there, and the predicted number of updates to a gap of 1e-9 of the reference's.

    Raises:
        ValueError: τ not above 0, unknown rules, or rules that have no local rate here.
    """
    game = spec.game(players=spec.oracle.players or 2, tau=tau, reference=reference)
    if not game.profile_tau.all() or game.profile_tau.size != 1:
        raise ValueError("rates are predicted at one tau above 0")
    strength = float(game.player_tau[0])
    exact = solve(game).policies
    omega = float(frequencies(game, exact).max(initial=0.0))
    steps = np.geomspace(0.02, 20.0, points) / max(omega, 0.05)
    named = [("td-mnpo", n) for n in players] + [(name, 2) for name in rules]
    for name, _ in named:
        builder(name, strength, 2)  # refuses unknown names before any work
    rows, summary = [], []
    for number, (name, n) in enumerate(named):
        if progress:
            progress(f"{name}, n = {n}", number, len(named))
        build = builder(name, strength, n)
        for eta in steps[steps <= 1 / strength]:
            try:
                radius = local_rate(build(float(eta)), game, exact).radius
            except ConvergenceError:
                continue
            rows.append(
                {"rule": name, "players": n, "eta": float(eta), "rate": radius, "stable": bool(radius < 1)}
            )
        summary.append({"rule": name, "players": n, **_best(build, game, exact)})
    region = []
    for place, ratio in enumerate(REGION):
        if progress:
            progress("stable region", place, len(REGION))
        beside = spec.game(players=game.players, tau=ratio * max(omega, 0.05), reference=reference)
        found = solve(beside).policies
        for n in players:
            intervals = stable_steps(
                builder("td-mnpo", ratio * max(omega, 0.05), n), beside, equilibrium=found
            )
            # From 0 on only: a step that is stable by chance beyond an unstable stretch is no region.
            largest = intervals[0][1] if intervals and intervals[0][0] == 0.0 else 0.0
            region.append({"players": n, "tau": ratio * max(omega, 0.05), "largest": float(largest)})
    return {
        "kind": "rates",
        "region": region,
        "game": spec.name,
        "tau": strength,
        "frequency": omega,
        "rows": rows,
        "summary": summary,
    }


def builder(name: str, tau: float, players: int) -> Callable[..., UpdateRule]:
    """Return η -> rule, and (η, weights=w) -> rule for TD-MNPO.

    Raises:
        ValueError: an unknown rule, one without regularisation, or one that needs external policies.
    """
    rule = make_rule(name, eta=1e-6, tau=tau, players=players)
    if RULES[name].unregularised or rule.externals:
        raise ValueError(f"rule {name} has no local rate at a regularised equilibrium of the game alone")

    def build(eta: float, weights: Sequence[float] | None = None) -> UpdateRule:
        built = make_rule(name, eta=eta, tau=tau, players=players, weights=weights)
        assert isinstance(built, UpdateRule)
        return built

    return build


def recommend(
    spec: GameSpec,
    rule: str,
    *,
    tau: float | None = None,
    players: Sequence[int] = PLAYERS,
    weights: bool = False,
    reference: Array | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Recommend step, number of players and, if asked for, history weights for a rule on a game.

    Raises:
        ValueError: as `rate_table`; weights asked of a rule that has none; a rule whose stationary point is not
            the equilibrium.
        ConvergenceError: the rule is stable at no step.
    """
    if weights and "weights" not in RULES.get(rule, RULES["inpo"]).options:
        raise ValueError(f"rule {rule} has no history weights")
    game = spec.game(players=spec.oracle.players or 2, tau=tau, reference=reference)
    if not game.profile_tau.all() or game.profile_tau.size != 1:
        raise ValueError("steps are tuned at one tau above 0")
    strength, exact = float(game.player_tau[0]), solve(game).policies
    counts = list(players) if "players" in RULES.get(rule, RULES["inpo"]).options else [2]
    rows = []
    for number, n in enumerate(counts):
        if progress:
            progress(f"{rule}, n = {n}", number, len(counts))
        build = builder(rule, strength, n)
        row: dict[str, Any] = {"rule": rule, "players": n, **_best(build, game, exact)}
        if weights and n > 2:
            free = tune(build, game, history=n - 1, equilibrium=exact)
            row |= {
                "weights": list(free.weights or ()),
                "eta": free.eta,
                "rate": free.rate.radius,
                "updates": free.rate.updates(_shrink(game)),
            }
        rows.append(row)
    stable = [row for row in rows if row["rate"] is not None and row["rate"] < 1]
    if not stable:
        raise ConvergenceError(f"rule {rule} is stable at no step on this game")
    best = min(stable, key=lambda row: float(row["rate"]))
    return {"kind": "tune", "game": spec.name, "tau": strength, "best": best, "rows": rows}


def _best(build: Callable[..., UpdateRule], game: Game, exact: Array) -> dict[str, Any]:
    intervals = stable_steps(build, game, equilibrium=exact)
    found: dict[str, Any] = {"stable_steps": [list(map(float, pair)) for pair in intervals]}
    try:
        tuned = tune(build, game, equilibrium=exact)
    except ConvergenceError:
        return {**found, "eta": None, "rate": None, "updates": None, "oracle_calls": None}
    rest = float(nash_conv(game, tuned.rate.policies))
    if rest > REST:
        raise ValueError(
            f"rule {tuned.rule.name} stands still off the equilibrium, at a gap of {rest:.2g} with its fastest "
            "step; it has no best step (its guarantee is for falling ones)"
        )
    updates = tuned.rate.updates(_shrink(game))
    calls = updates * tuned.rule.oracle_calls
    return {**found, "eta": tuned.eta, "rate": tuned.rate.radius, "updates": updates, "oracle_calls": calls}


def _shrink(game: Game) -> float:
    """The factor from the reference's gap to 1e-9."""
    first = float(
        nash_conv(game, np.exp(np.broadcast_to(game.log_reference, (1, game.contexts, game.actions))))
    )
    return min(0.5, SHRINK / max(first, SHRINK))
