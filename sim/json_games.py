"""Games written as JSON objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mnpo.choices import suggestion
from mnpo.numerics import as_array, check_memory
from mnpo.oracles import (
    DenseTensor,
    Heterogeneous,
    Oracle,
    Pairwise,
    PlackettLuce,
    Population,
    levels_of,
)
from mnpo.sim.spec import GameSpec

_COMMON = {"responses", "reference", "players", "tau"}


def read_json(path: Path) -> Any:
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
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError("a game file holds one JSON object with the key 'oracle'")
    players = content.get("players")
    if players is not None and (isinstance(players, bool) or not isinstance(players, int)):
        raise ValueError(f"players must be an integer of at least 2; found {players!r}")
    oracle = _oracle(content, players, frozenset(_COMMON))
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


def _oracle(content: Any, players: int | None, common: frozenset[str] = frozenset()) -> Oracle:
    if not isinstance(content, dict) or "oracle" not in content:
        raise ValueError("an oracle is an object with the key 'oracle'")
    kind = content["oracle"]
    if not isinstance(kind, str) or kind not in _ORACLES:
        raise ValueError(f"unknown oracle {kind!r}; {suggestion(str(kind), _ORACLES)}")
    own, build = _ORACLES[kind]
    known = {"oracle", own, *common}
    extra = set(content) - known
    if extra:
        name = sorted(extra)[0]
        raise ValueError(f"unknown key {name!r} of oracle {kind}; {suggestion(name, known)}")
    if own not in content:
        raise ValueError(f"oracle {kind} needs the key {own!r}")
    return build(content[own], players)


def _population(annotators: Any, players: int | None) -> Oracle:
    if not isinstance(annotators, list) or not annotators:
        raise ValueError("annotators must be a list of objects with 'ranking' or 'utilities'")
    rankings: list[tuple[Any, float]] = []
    utilities: list[tuple[Any, float]] = []
    for number, annotator in enumerate(annotators):
        where = f"annotator {number}"
        if not isinstance(annotator, dict) or ("ranking" in annotator) == ("utilities" in annotator):
            raise ValueError(f"{where}: must have either 'ranking' or 'utilities'")
        unknown = set(annotator) - {"ranking", "utilities", "weight"}
        if unknown:
            raise ValueError(f"{where}: unknown key {sorted(unknown)[0]!r}")
        weight = annotator.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"{where}: weight must be a number of at least 0; found {weight!r}")
        (rankings if "ranking" in annotator else utilities).append(
            (annotator.get("ranking", annotator.get("utilities")), float(weight))
        )
    contexts, size = _population_shape([ranking for ranking, _ in rankings], [u for u, _ in utilities])
    levels = [
        np.stack([levels_of(order, size) for order in _orders(ranking, contexts)]) for ranking, _ in rankings
    ]
    values = []
    for given, _ in utilities:
        array = as_array(given, "utilities")
        if array.ndim == 2 and array.shape[0] not in (1, contexts):
            raise ValueError(
                f"utilities of one annotator have {array.shape[0]} contexts; others have {contexts}"
            )
        values.append(np.broadcast_to(array, (contexts, size)))
    return Population(
        levels=np.stack(levels) if levels else None,
        level_weights=[weight for _, weight in rankings] if rankings else None,
        utilities=np.stack(values) if values else None,
        utility_weights=[weight for _, weight in utilities] if utilities else None,
    )


def _population_shape(rankings: list[Any], utilities: list[Any]) -> tuple[int, int]:
    """Return X and A: from the utilities if there are any, else one more than the highest response named."""
    contexts, sizes = 1, set()
    for values in utilities:
        shape = as_array(values, "utilities").shape
        if len(shape) not in (1, 2):
            raise ValueError(
                f"utilities must be a list of numbers, or one list per context; found shape {shape}"
            )
        sizes.add(shape[-1])
        contexts = max(contexts, shape[0] if len(shape) == 2 else 1)
    if len(sizes) > 1:
        raise ValueError(f"all annotators must value the same responses; found {sorted(sizes)} utilities")
    highest = -1
    for ranking in rankings:
        orders = _orders(ranking, None)
        contexts = max(contexts, len(orders))
        for order in orders:
            for tied in order:
                highest = max(highest, *(index for index in tied if isinstance(index, int)), -1)
    size = sizes.pop() if sizes else highest + 1
    if size < 1:
        raise ValueError("the rankings name no responses; they are numbers from 0")
    check_memory((8, len(rankings) + len(utilities), contexts, size), "the annotators")
    return contexts, size


def _orders(ranking: Any, contexts: int | None) -> list[list[list[int]]]:
    """Return one weak order per context; `[2, 0, 1]`, `[[2], [0, 1]]` and a list of the latter are accepted."""
    if not isinstance(ranking, list) or not ranking:
        raise ValueError(f"ranking must be a list of tie classes, best first; found {ranking!r}")
    classes = [tied if isinstance(tied, list) else [tied] for tied in ranking]
    nested = [any(isinstance(member, list) for member in tied) for tied in classes]
    if not any(nested):
        return [classes] * (contexts or 1)
    if not all(nested):
        raise ValueError("ranking mixes tie classes and contexts")
    orders = [[tied if isinstance(tied, list) else [tied] for tied in order] for order in ranking]
    if contexts is not None and len(orders) not in (1, contexts):
        raise ValueError(f"ranking has {len(orders)} contexts; others have {contexts}")
    return orders * (contexts or 1) if len(orders) == 1 else orders


def _heterogeneous(oracles: Any, players: int | None) -> Oracle:
    if not isinstance(oracles, list):
        raise ValueError("oracles must be a list, one for each player")
    built = []
    for number, content in enumerate(oracles):
        try:
            built.append(_oracle(content, len(oracles)))
        except ValueError as error:
            raise ValueError(f"oracle {number}: {error}") from None
    return Heterogeneous(built)


_ORACLES: dict[str, tuple[str, Callable[[Any, int | None], Oracle]]] = {
    "pairwise": ("matrix", lambda values, players: Pairwise(values)),
    "plackett-luce": ("utilities", lambda values, players: _plackett_luce(values)),
    "population": ("annotators", _population),
    "tensor": ("tensor", lambda values, players: DenseTensor(values, players=players)),
    "heterogeneous": ("oracles", _heterogeneous),
}


def _plackett_luce(values: Any) -> Oracle:
    utilities = as_array(values, "utilities")
    if utilities.ndim not in (1, 2):
        raise ValueError(
            f"utilities must be a list of numbers, or one per context; found shape {utilities.shape}"
        )
    return PlackettLuce(utilities)
