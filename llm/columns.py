"""What an objective needs to know of each pair, from scores and data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from mnpo.llm.anchors import CURRENT, REFERENCE, anchor_weights, blend
from mnpo.llm.config import Config
from mnpo.numerics import Array
from mnpo.rules import LABEL_GAP, UpdateRule, WinRate

#: The data's columns behind each side of a field of `mnpo.objectives.Pairs`.
_SIDES = {"w": "chosen", "l": "rejected"}


def check_columns(config: Config, columns: list[str]) -> None:
    """Refuse data without the columns that the objective needs, before anything is scored.

    Raises:
        ValueError: which column is missing and what for.
    """
    chosen, _ = config.the_objective()
    _check_target(config, config.the_rule())
    for wanted in _wanted(config):
        if wanted == "margin" or f"{wanted}_chosen" not in columns or f"{wanted}_rejected" not in columns:
            by_margin = wanted in ("margin", "reward", "gamma") and "margin" in columns
            if wanted == "kl" or by_margin:
                continue
            names = "margin" if wanted == "margin" else f"{wanted}_chosen and {wanted}_rejected"
            raise ValueError(
                f"objective {chosen.name} with target {config.target} needs the column"
                f"{'s' * (wanted != 'margin')} {names}, which the data lack"
            )


def fit_columns(config: Config, scored: Dataset) -> dict[str, Array]:
    """Return the fields of `mnpo.objectives.Pairs` that do not depend on the policy, and `preference`.

    Args:
        config: the run.
        scored: with the columns <anchor>_chosen and <anchor>_rejected, and the data's own numbers.

    Returns:
        name -> (pairs,) float64; `preference` is there if the data have it and the target is a label; `weight`,
        with mean 1, if they have it.

    Raises:
        ValueError: a number that is missing in a row, or weights that are all 0.
    """
    chosen, _ = config.the_objective()
    rule = config.the_rule()
    fields = {f"reference_{side}": _column(scored, f"{REFERENCE}_{name}") for side, name in _SIDES.items()}
    if chosen.anchor == CURRENT:
        fields |= {f"current_{side}": _column(scored, f"{CURRENT}_{name}") for side, name in _SIDES.items()}
    for wanted in _wanted(config):
        if wanted == "kl":
            fields["kl_reference"] = _column(scored, f"{REFERENCE}_kl")
        elif wanted != "margin":
            fields |= _gap(scored, wanted)
    labelled = rule is None or config.target == "label"
    if rule is not None:
        weights = anchor_weights(rule, config)
        deltas = {n: _column(scored, f"{n}_chosen") - _column(scored, f"{n}_rejected") for n in weights}
        fields["anchor"] = blend(weights, deltas)
        fields["target"] = np.asarray(rule.target(_advantage_gap(config, scored, fields)), dtype=np.float64)
    if labelled and "preference" in scored.column_names:
        fields["preference"] = _column(scored, "preference")
    if "weight" in scored.column_names:
        weight = _column(scored, "weight")
        if not weight.any():
            raise ValueError("the weights of the data are all 0")
        fields["weight"] = weight / weight.mean()
    return fields


def _wanted(config: Config) -> list[str]:
    chosen, _ = config.the_objective()
    wanted = list(chosen.columns)
    if chosen.anchor == "rule" and config.target != "label":
        wanted.append({"win-rate": "win"}.get(config.target, config.target))
    return wanted


def _check_target(config: Config, rule: UpdateRule | None) -> None:
    """Labels teach the win rate against the policy that the pairs are drawn from, and nothing else."""
    if rule is None or config.target != "label":
        return
    if any(not isinstance(credit, WinRate) or credit.lag for credit, _ in rule.advantage):
        raise ValueError(
            f"rule {rule.name} credits more than the win rate against the current policy, which labels do not "
            "tell; give target=win-rate and its advantage in the columns win_chosen and win_rejected"
        )


def _advantage_gap(config: Config, scored: Dataset, fields: Mapping[str, Array]) -> Array:
    """a(y_w) − a(y_l), as far as the data tell it: (pairs,)."""
    match config.target:
        case "label":
            return np.full(len(scored), LABEL_GAP)
        case "margin":
            return _column(scored, "margin")
        case "reward":
            return fields["reward_w"] - fields["reward_l"]
    return fields["win_w"] - fields["win_l"]


def _gap(scored: Dataset, what: str) -> dict[str, Array]:
    """Both sides of a number; where only the margin is known, the margin and 0."""
    if f"{what}_chosen" in scored.column_names and f"{what}_rejected" in scored.column_names:
        return {f"{what}_{side}": _column(scored, f"{what}_{name}") for side, name in _SIDES.items()}
    margin = _column(scored, "margin")
    return {f"{what}_w": margin, f"{what}_l": np.zeros_like(margin)}


def _column(scored: Dataset, name: str) -> Array:
    values = np.array([np.nan if value is None else value for value in scored[name]], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(
            f"row {scored['row'][int(bad[0])]} of the data has no {name}, which the objective needs"
        )
    return values
