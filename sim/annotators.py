"""Annotators written as JSON: each a ranking with ties or utilities, by context if need be."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnpo.numerics import LARGEST_WEIGHT, check_memory
from mnpo.oracles import Population, levels_of
from mnpo.sim.reading import as_numbers
from mnpo.values import shown


def read_annotators(annotators: Any) -> Population:
    """Read a list of annotators: `{"ranking": [[2], [0, 1]], "weight": 2}` or `{"utilities": [1.0, 0.2, 0.0]}`.

    Raises:
        ValueError: says what is wrong, with the annotator's number.
    """
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
            raise ValueError(f"{where}: unknown key {shown(sorted(unknown)[0])}")
        weight = annotator.get("weight", 1)
        if (
            isinstance(weight, bool)
            or not isinstance(weight, int | float)
            or not 0 <= weight <= LARGEST_WEIGHT
        ):
            raise ValueError(
                f"{where}: weight must be a number from 0 to {LARGEST_WEIGHT:g}; found {shown(weight)}"
            )
        (rankings if "ranking" in annotator else utilities).append(
            (annotator.get("ranking", annotator.get("utilities")), float(weight))
        )
    contexts, size = _population_shape([ranking for ranking, _ in rankings], [u for u, _ in utilities])
    levels = [
        np.stack([levels_of(order, size) for order in _orders(ranking, contexts)]) for ranking, _ in rankings
    ]
    values = []
    for given, _ in utilities:
        array = as_numbers(given, "utilities")
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
        shape = as_numbers(values, "utilities").shape
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
        raise ValueError(f"ranking must be a list of tie classes, best first; found {shown(ranking)}")
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
