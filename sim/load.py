"""A game from what a user typed: a catalogue name with parameters, or a file."""

from __future__ import annotations

from pathlib import Path

from mnpo.choices import suggestion
from mnpo.sim.catalogue import CATALOGUE, make_game
from mnpo.sim.readers import READERS, read_game
from mnpo.sim.spec import GameSpec
from mnpo.values import shown


def load_game(text: str, *, players: int | None = None, seed: int | None = None) -> GameSpec:
    """Open a game by catalogue name or path.

    Args:
        text: `rps:bias=0.2`, `votes.jsonl`, ..
        players: for catalogue games that are made for a number of players.
        seed: for random catalogue games.

    Raises:
        ValueError: no such game or file, or a malformed one.
        OSError: a file that cannot be read.
    """
    if not text.strip():
        raise ValueError("a game is a catalogue name or a file; found nothing")
    name = text.partition(":")[0]
    if _in_catalogue(text):
        return make_game(text, players=players, seed=seed)
    path = Path(text)
    if path.exists():
        return read_game(path)
    if path.suffix.lower() in READERS or len(path.parts) > 1:
        raise ValueError(f"no such file: {text}")
    raise ValueError(
        f"unknown game {shown(name)}; {suggestion(name[:60], CATALOGUE)} (or name an existing file)"
    )


def takes_seed(text: str) -> bool:
    """Whether what a user typed is a random game of the catalogue."""
    return _in_catalogue(text) and "seed" in CATALOGUE[text.partition(":")[0]].parameters


def _in_catalogue(text: str) -> bool:
    return text.partition(":")[0] in CATALOGUE and not Path(text).exists()
