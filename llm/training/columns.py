"""From scored pairs to the numbers that a loss takes: the fields of `mnpo.objectives.Pairs` (L)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
from datasets import Dataset

from mnpo.llm.config.model import CURRENT, REFERENCE
from mnpo.llm.data.tables import batches
from mnpo.llm.training.anchors import anchor_weights, blend
from mnpo.llm.training.tasks import Task
from mnpo.numerics import Array
from mnpo.rules import LABEL_GAP

#: The data's columns behind each side of a field of `Pairs`.
SIDES = {"w": "chosen", "l": "rejected"}


def check_columns(task: Task, columns: Collection[str]) -> None:
    """Refuse data without the columns that a task needs, before anything is scored.

    Raises:
        ValueError: which column is missing and what for.
    """
    what = f"objective {task.objective.name}" + (f" with target {task.target}" if task.rule else "")
    if task.rule is not None and task.target == "margin" and "margin" not in columns:
        raise ValueError(f"{what} needs the column margin, which the data lack")
    for need in task.known:
        given = all(f"{need.name}_{side}" in columns for side in SIDES.values())
        if not given and not (need.or_margin and "margin" in columns):
            raise ValueError(
                f"{what} needs the columns {need.name}_chosen and {need.name}_rejected, which the data lack"
            )


def fit_columns(task: Task, scored: Dataset) -> dict[str, Array]:
    """Return the fields of `mnpo.objectives.Pairs` that do not depend on the policy, and `preference`.

    Args:
        task: what is minimised.
        scored: with the columns <anchor>_chosen and <anchor>_rejected, and the data's own numbers.

    Returns:
        name -> (pairs,) float64; `preference` is there if the data have it and pairs are labels; `weight`,
        with mean 1, if they have it.

    Raises:
        ValueError: a column that is missing, a number that is missing in a row, or weights that are all 0.
    """
    at_hand = anchors_in(scored.column_names)
    check_columns(task, scored.column_names)
    fields: dict[str, Array] = {}
    for name in (REFERENCE, CURRENT):
        wanted = task.objective.anchor == name
        if wanted and name not in at_hand:
            raise ValueError(
                f"objective {task.objective.name} needs log-probabilities of the anchor {name}: a model for it, or "
                f"the columns {name}_chosen and {name}_rejected"
            )
        if name in at_hand and (wanted or name == REFERENCE):
            fields |= {f"{name}_{side}": _column(scored, f"{name}_{of}") for side, of in SIDES.items()}
    for need in task.known:
        fields |= _both_sides(scored, need.name)
    for estimate in task.estimated:
        fields[f"{estimate.name}_reference"] = _column(scored, f"{REFERENCE}_{estimate.name}")
    if task.rule is not None:
        weights = anchor_weights(task.rule, at_hand)
        deltas = {n: _column(scored, f"{n}_chosen") - _column(scored, f"{n}_rejected") for n in weights}
        fields["anchor"] = blend(weights, deltas)
        # η enters the network's loss here, by the rule's own target (L).
        gap = _advantage_gap(task.target, scored, fields)
        fields["target"] = np.asarray(task.rule.target(gap), dtype=np.float64)
    if task.labelled and "preference" in scored.column_names:
        fields["preference"] = _column(scored, "preference")
    if "weight" in scored.column_names:
        weight = _column(scored, "weight")
        if not weight.any():
            raise ValueError("the weights of the data are all 0")
        fields["weight"] = weight / weight.mean()
    return fields


def anchors_in(columns: Collection[str]) -> list[str]:
    """Return the anchors whose log-probabilities data have, by the columns' names."""
    starts = [name.removesuffix("_chosen") for name in columns if name.endswith("_chosen")]
    several = ("past-", "opponent-", "external-")
    named = [name for name in starts if name in (REFERENCE, CURRENT) or name.startswith(several)]
    return [name for name in named if f"{name}_rejected" in columns]


def _advantage_gap(target: str, scored: Dataset, fields: Mapping[str, Array]) -> Array:
    """a(y_w) − a(y_l), as far as the data tell it: (pairs,)."""
    match target:
        case "label":
            return np.full(len(scored), LABEL_GAP)
        case "margin":
            return _column(scored, "margin")
        case "reward":
            return fields["reward_w"] - fields["reward_l"]
    return fields["win_w"] - fields["win_l"]


def _both_sides(scored: Dataset, what: str) -> dict[str, Array]:
    """Both sides of a number; where only the margin is known, the margin and 0."""
    if f"{what}_chosen" in scored.column_names and f"{what}_rejected" in scored.column_names:
        return {f"{what}_{side}": _column(scored, f"{what}_{name}") for side, name in SIDES.items()}
    margin = _column(scored, "margin")
    return {f"{what}_w": margin, f"{what}_l": np.zeros_like(margin)}


def _column(scored: Dataset, name: str) -> Array:
    parts = [rows.column(0).cast(pa.float64()).to_numpy() for rows in batches(scored, [name])]
    values = np.concatenate(parts).astype(np.float64) if parts else np.empty(0)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        row = scored[int(bad[0])]["row"] if "row" in scored.column_names else int(bad[0]) + 1
        raise ValueError(f"row {row} of the data has no {name}, which the objective needs")
    return values
