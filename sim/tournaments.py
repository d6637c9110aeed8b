"""Players ranked by a file of votes; `mnpo.meta_game` says what that gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mnpo.meta_game import Matches, ranked
from mnpo.numerics import check_memory
from mnpo.sim.tables import votes_in


def tournament(
    file: Path,
    *,
    tau: float = 0.0,
    draws: int = 200,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Rank the players of a file of votes.

    Args:
        file: one vote a line, as an arena keeps them.
        tau: τ of the second equilibrium; with 0 there is one.
        draws: resamples of the bootstrap, in which votes about the same question stay together.
        seed: of these.
        progress: called with the number of resamples that are done.

    Returns:
        What `mnpo.meta_game.ranked` does, as a record.

    Raises:
        ValueError: no votes, or what is wrong with one, with its line.
        OSError: the file cannot be read.
    """
    votes = list(votes_in(file))
    if not votes:
        raise ValueError(f"{file}: has no votes")
    names = tuple(sorted({name for vote in votes for name in (vote.first, vote.second)}))
    check_memory((len(names), len(names), max(1, len(names) // 8)), f"the cycles of {len(names)} players")
    place = {name: number for number, name in enumerate(names)}
    matches = Matches(
        names,
        np.array([place[vote.first] for vote in votes]),
        np.array([place[vote.second] for vote in votes]),
        np.array([vote.share for vote in votes]),
        np.array([vote.weight for vote in votes]),
        np.unique([vote.about for vote in votes], return_inverse=True)[1],
    )
    found = ranked(matches, tau=tau, draws=draws, seed=seed, progress=progress)
    about = f"{len(votes)} votes on {len(names)} players, about {matches.groups} questions"
    return {
        "kind": "tournament", "file": str(file), "tau": tau, "draws": draws, **found,
        "notes": [about, *found["notes"]],
    }  # fmt: skip
