"""Games written as JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnpo.games import check_tau
from mnpo.sim.json_oracles import read_oracle
from mnpo.sim.reading import as_numbers, load_json
from mnpo.sim.spec import GameSpec
from mnpo.values import shown

#: Keys of a game besides those of its oracle.
_KEYS = frozenset({"responses", "reference", "players", "tau"})


def read_json_game(path: Path) -> GameSpec:
    """Read a game: an oracle by its kind, and optionally names, reference, players and tau.

    Raises:
        ValueError: says what is wrong with the object.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise ValueError("a game file holds one JSON object with the key 'oracle'")
    players = read_players(content)
    oracle = read_oracle(content, players, _KEYS)
    names = content.get("responses", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("responses must be a list of names")
    reference = content.get("reference")
    spec = GameSpec(
        name=str(path),
        oracle=oracle,
        responses=tuple(names),
        players=players,
        tau=read_tau(content),
        reference=None if reference is None else as_numbers(reference, "reference"),
    )
    spec.game()  # refuses a reference, names or players that do not fit
    return spec


def read_players(content: Mapping[str, Any]) -> int | None:
    """Return the number of players that an object names, if it does.

    Raises:
        ValueError: no number of players.
    """
    players = content.get("players")
    if players is not None and (type(players) is not int or players < 2):
        raise ValueError(f"players must be an integer of at least 2; found {shown(players)}")
    return players


def read_tau(content: Mapping[str, Any]) -> float | tuple[float, ...] | None:
    """Return the strength that an object names, or one for each player, if it does.

    Raises:
        ValueError: no such numbers.
    """
    if content.get("tau") is None:
        return None
    strengths = as_numbers(content["tau"], "tau")
    if strengths.ndim > 1:
        raise ValueError(f"tau must be one number or one for each player; found shape {strengths.shape}")
    check_tau(strengths)
    return float(strengths) if strengths.ndim == 0 else tuple(map(float, strengths))
