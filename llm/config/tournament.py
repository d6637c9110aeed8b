"""Who plays, and what a tournament makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import Section, key
from mnpo.llm.config.sampling import GENERATIONS


@dataclass(frozen=True, kw_only=True)
class Contest(Section):
    """Who plays tournaments and is put to benchmarks."""

    entrants: dict[str, Any] = key(
        {}, "name: a model, a file of responses, or {base_url, model, ..} of an endpoint", scope="run"
    )


@dataclass(frozen=True, kw_only=True)
class Tournament(Section):
    """What `mnpo llm tournament` compares, and how."""

    tournament_oracles: dict[str, Any] = key({}, "name: oracle; oracle unless given", scope="run")
    tournament_prompts: str = key(
        "all", "which prompts are asked: all, or the held-out ones", choices=("all", "held-out"), scope="run"
    )
    tournament_generations: int = key(
        1, "responses of each player to a prompt", least=1, most=GENERATIONS, scope="run"
    )
    against: dict[str, float] = key(
        {}, "a mixture of players, name: weight, that all are met with", scope="run"
    )
    tournament_tau: float = key(0.0, "τ of a second equilibrium of the meta-game", least=0, scope="run")
    meet_at_once: int = key(
        2, "players that meet at once, n: with more than 2 a third equilibrium", least=2, most=6, scope="run"
    )
    bootstrap_draws: int = key(
        200, "resamples of the prompts, for intervals", least=0, most=10**6, scope="run"
    )
