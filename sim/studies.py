"""Studies: two- against n-player play on one game, with everything a figure needs in one plain record."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnpo.common.progress import Progress
from mnpo.dynamics import Trajectory, run
from mnpo.equilibria import Equilibrium, solve
from mnpo.games import Game
from mnpo.majority import facts
from mnpo.numerics import Array, entropy
from mnpo.presets import RULES, make_rule
from mnpo.sim.load import load_game
from mnpo.sim.spec import GameSpec
from mnpo.steps import Feedback

#: The default study: annotators in three groups with rotated tastes, so that majorities cycle.
STUDY_GAME = "annotators"
STUDY_PLAYERS = (2, 3, 4, 6)
STUDY_TAU = 0.05


@dataclass(frozen=True, eq=False)
class Comparison:
    """One game played by different numbers of players.

    Attributes:
        spec: the game of the first player count.
        tau: the KL strength of all.
        eta: the rule's step.
        equilibria: one for each number of players.
        trajectories: one for each number of players.
    """

    spec: GameSpec
    tau: float
    eta: float
    advantage: str
    equilibria: tuple[Equilibrium, ...]
    trajectories: tuple[Trajectory, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, all that the tables and figures show."""
        return {
            "kind": "compare",
            "game": self.spec.name,
            "notes": list(self.spec.notes),
            "tau": self.tau,
            "eta": self.eta,
            "advantage": self.advantage,
            "responses": list(self.equilibria[0].game.responses),
            "win_matrix": win_record(self.spec),
            "players": [
                _row(equilibrium, trajectory)
                for equilibrium, trajectory in zip(self.equilibria, self.trajectories, strict=True)
            ],
        }


def compare(
    game: str,
    *,
    players: Sequence[int] | None = None,
    tau: float | None = None,
    eta: float = 0.5,
    steps: int = 1000,
    advantage: str = "current",
    reference: Array | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Solve a game exactly for several numbers of players and run TD-MNPO with as many on each.

    Args:
        game: catalogue name or file.
        players: the numbers of players; those of the game's file, or 2, 3, 4 and 6.
        tau: KL strength; the file's, or 0.05.
        eta: step of TD-MNPO.
        steps: updates of TD-MNPO.
        advantage: TD-MNPO's, "current" or "population".
        reference: π_ref, as `Game` takes it; the file's, or uniform.
        seed: of random catalogue games.
        progress: called with what is being done, and how many of how many parts are done.

    Raises:
        ValueError: anything about the game or the options that does not fit.
    """
    spec = load_game(game, seed=seed, players=players[0] if players else None)
    fixed = spec.oracle.players if "players" not in _parameters(game) else None
    numbers = tuple(players or ((fixed,) if fixed else (spec.players,) if spec.players else STUDY_PLAYERS))
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"players must be different numbers; found {', '.join(map(str, numbers))}")
    if tau is None and isinstance(spec.tau, tuple):
        raise ValueError("a study compares players with one tau; give it with --tau")
    strength = tau if tau is not None else spec.tau if isinstance(spec.tau, float) else STUDY_TAU
    games = [
        load_game(game, seed=seed, players=n).game(players=n, tau=strength, reference=reference)
        for n in numbers
    ]
    rules = [make_rule("td-mnpo", eta=eta, tau=strength, players=n, advantage=advantage) for n in numbers]
    equilibria, trajectories = [], []
    parts = 2 * len(numbers)
    for number, (each, rule) in enumerate(zip(games, rules, strict=True)):
        if progress:
            progress(f"equilibrium of {each.players} players", 2 * number, parts)
        equilibria.append(solve(each))
        if progress:
            progress(f"TD-MNPO with {each.players} players", 2 * number + 1, parts)
        trajectories.append(run(each, rule, steps, every=max(1, math.ceil(steps / 400))))
    if progress:
        progress("done", parts, parts)
    return Comparison(spec, float(strength), eta, advantage, tuple(equilibria), tuple(trajectories))


def play(
    spec: GameSpec,
    rule_name: str,
    *,
    players: int | None = None,
    tau: float | list[float] | None = None,
    reference: Array | None = None,
    eta: float = 0.5,
    steps: int = 1000,
    every: int | None = None,
    externals: Sequence[Array] = (),
    feedback: Feedback | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Trajectory:
    """Run a rule by name on a game, the average iterate followed as well.

    A rule without regularisation of its own is measured at τ = 0 unless τ is given; MPO, whose τ is its inner
    strength, always.

    Args:
        spec: the game.
        rule_name: the rule.
        players: n.
        tau: KL strength, one number or (n,).
        reference: π_ref.
        eta: step.
        steps: updates.
        every: how often the gap is recorded; about a thousand times unless given.
        externals: the policies that the rule names.
        feedback: how win rates are learnt; exactly unless given.
        progress: called with the number of updates done.
        options: further ones of the rule; None stands for not given.

    Raises:
        ValueError: an unknown rule or options that it does not take.
    """
    preset = RULES.get(rule_name)
    inner = preset is not None and preset.unregularised and "tau" in preset.options
    measured = 0.0 if inner or (tau is None and preset is not None and preset.unregularised) else tau
    game = spec.game(players=players, tau=measured, reference=reference)
    strengths = (
        spec.game(players=players, tau=tau, reference=reference).player_tau if inner else game.player_tau
    )
    common = float(strengths[0]) if (strengths == strengths[0]).all() else strengths
    rule = make_rule(rule_name, eta=eta, tau=common, players=game.players, **options)
    spacing = every or max(1, math.ceil(steps / 1000))
    # The path is kept where it can be drawn: three responses, one context.
    keep = game.actions == 3 and game.contexts == 1
    return run(
        game,
        rule,
        steps,
        every=spacing,
        average=True,
        keep_policies=keep,
        externals=externals,
        feedback=feedback,
        progress=progress,
    )


def composition(policies: Array, game: Game) -> Array:
    """Return the probabilities averaged over players and contexts, (n, X, A) -> (A,)."""
    mean: Array = game.context_mean(policies.swapaxes(-1, -2)).mean(axis=0)
    return mean


def effective_responses(policies: Array, game: Game) -> float:
    """Return exp(entropy), averaged over players and contexts: how many responses are in play."""
    return float(game.context_mean(np.exp(entropy(policies))).mean())


def win_record(spec: GameSpec) -> dict[str, Any] | None:
    """Return the win matrices and their facts by context, or None for oracles without a two-player form."""
    try:
        matrices = spec.win_matrix()
    except ValueError:
        return None
    names = spec.responses or tuple(str(index) for index in range(spec.oracle.responses))
    return {
        "matrix": matrices.tolist(),
        "responses": list(names),
        "facts": [facts(matrix).as_dict(names) for matrix in matrices],
    }


def _row(equilibrium: Equilibrium, trajectory: Trajectory) -> dict[str, Any]:
    game, policies = equilibrium.game, equilibrium.policies
    mean = composition(policies, game)
    distance = np.abs(trajectory.policies - policies).sum(-1) / 2
    return {
        "players": game.players,
        "effective_responses": effective_responses(policies, game),
        "top_response": game.responses[int(mean.argmax())],
        "top_probability": float(mean.max()),
        "composition": mean.tolist(),
        "policies": policies.tolist(),
        "exploitability": float(equilibrium.exploitability.max()),
        "residual": equilibrium.residual,
        "method": equilibrium.method,
        "seconds": equilibrium.seconds,
        "certificate": equilibrium.certificate.as_dict(),
        "rule": trajectory.rule.as_dict(),
        "steps": trajectory.steps.tolist(),
        "gap": trajectory.gap.tolist(),
        "gap_per_player": (trajectory.gap / game.players).tolist(),
        "diverged": bool(trajectory.diverged),
        "distance_to_equilibrium": float(game.context_mean(distance).max()),
    }


def _parameters(game: str) -> dict[str, Any]:
    from mnpo.sim.catalogue import CATALOGUE

    name = game.partition(":")[0]
    return dict(CATALOGUE[name].parameters) if name in CATALOGUE else {}
