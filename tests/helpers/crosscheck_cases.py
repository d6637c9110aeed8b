"""Rules on games, as the command `mnpo crosscheck` names them."""

from __future__ import annotations

from mnpo.cli.crosscheck import cases_of
from mnpo.llm.crosscheck.positions import Case


def cases(*rules: str, feedback: str = "exact", game: str | None = None) -> list[Case]:
    options = {"rules": rules, "game": game, "feedback": feedback, "eta": 1.0, "tau": 0.1, "seed": None}
    return cases_of(options)
