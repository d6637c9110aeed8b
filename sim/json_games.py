"""Games written as JSON objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mnpo.numerics import as_array
from mnpo.sim.json_oracles import read_oracle
from mnpo.sim.spec import GameSpec

#: Keys of a game besides those of its oracle.
_KEYS = frozenset({"responses", "reference", "players", "tau"})


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: says what is wrong, with the line.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: malformed JSON, {error.msg} (column {error.colno})"
        ) from None
    except RecursionError:
        raise ValueError(f"{path}: malformed JSON, nested too deeply") from None


def read_json_game(path: Path) -> GameSpec:
    """Read a game: an oracle by its kind, and optionally names, reference, players and tau.

    Raises:
        ValueError: says what is wrong with the object.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise ValueError("a game file holds one JSON object with the key 'oracle'")
    players = content.get("players")
    if players is not None and (isinstance(players, bool) or not isinstance(players, int)):
        raise ValueError(f"players must be an integer of at least 2; found {players!r}")
    oracle = read_oracle(content, players, _KEYS)
    tau = content.get("tau")
    if tau is not None:
        strengths = as_array(tau, "tau")
        if strengths.ndim > 1:
            raise ValueError(f"tau must be one number or one for each player; found {tau}")
        tau = float(strengths) if strengths.ndim == 0 else tuple(float(value) for value in strengths.ravel())
    names = content.get("responses", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("responses must be a list of names")
    reference = content.get("reference")
    spec = GameSpec(
        name=str(path),
        oracle=oracle,
        responses=tuple(names),
        players=players,
        tau=tau,
        reference=None if reference is None else as_array(reference, "reference"),
    )
    spec.game()  # refuses a reference, names or players that do not fit
    return spec
