"""A rule that is changed in one executor alone is found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from crosscheck_cases import cases

import mnpo.llm.crosscheck.executor
import mnpo.llm.training.collator
import mnpo.llm.training.columns
import mnpo.llm.training.scores
from mnpo import UpdateRule
from mnpo.implicit import ImplicitStep
from mnpo.llm.config import CURRENT, REFERENCE
from mnpo.llm.crosscheck.check import crosscheck
from mnpo.llm.crosscheck.executor import Executor, Part, Position
from mnpo.llm.crosscheck.finite import NETWORKS
from mnpo.llm.training.anchors import anchor_weights
from mnpo.numerics import normalise_log
from mnpo.rules import Own
from mnpo.steps import Blend, Step

Change = Callable[[pytest.MonkeyPatch], None]


def _doubled_target(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(UpdateRule, "target", lambda self, gap: 2 * self.eta * gap)


def _swapped_weights(patch: pytest.MonkeyPatch) -> None:
    def swapped(rule: Any, known: Any) -> dict[str, float]:
        weights = anchor_weights(rule, known)
        return weights | {REFERENCE: weights[CURRENT], CURRENT: weights[REFERENCE]}

    patch.setattr(mnpo.llm.training.columns, "anchor_weights", swapped)


def _forgotten_past(patch: pytest.MonkeyPatch) -> None:
    def forgotten(rule: Any, known: Any) -> dict[str, float]:
        weights = anchor_weights(rule, known)
        return {REFERENCE: weights[REFERENCE], CURRENT: 1 - weights[REFERENCE]}

    patch.setattr(mnpo.llm.training.columns, "anchor_weights", forgotten)


def _wrong_sign(patch: pytest.MonkeyPatch) -> None:
    right = mnpo.llm.training.columns._advantage_gap
    patch.setattr(mnpo.llm.training.columns, "_advantage_gap", lambda *given: -right(*given))


def _opponents_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mnpo.llm.training.columns, "anchor_weights", lambda rule, known: {REFERENCE: 1.0})


def _external_forgotten(patch: pytest.MonkeyPatch) -> None:
    def forgotten(rule: Any, known: Any) -> dict[str, float]:
        weights = anchor_weights(rule, known)
        return {REFERENCE: weights[REFERENCE] + weights.pop("external-1"), CURRENT: weights[CURRENT]}

    patch.setattr(mnpo.llm.training.columns, "anchor_weights", forgotten)


def _no_half_step(patch: pytest.MonkeyPatch) -> None:
    def current(self: Any, game: Any, rule: Any, position: Position, lesson: Any) -> Any:
        return [Part(1.0, np.exp(position.log_policies()))]

    patch.setattr(Executor, "parts", current)


def _no_end(patch: pytest.MonkeyPatch) -> None:
    """Scoring and training alike leave out the token that ends a response."""
    right = mnpo.llm.training.scores.laid_out

    def endless(trees: Any, *given: Any, **how: Any) -> Any:
        batch = right(trees, *given, **how)
        kept = torch.ones(len(batch.token), dtype=torch.bool)
        kept[batch.lengths.cumsum(0) - 1] = False
        return batch._replace(source=batch.source[kept], token=batch.token[kept], lengths=batch.lengths - 1)

    for module in (mnpo.llm.training.scores, mnpo.llm.training.collator):
        patch.setattr(module, "laid_out", endless)


def _table_doubled(patch: pytest.MonkeyPatch) -> None:
    right = Step.__init__

    def doubled(self: Any, *given: Any) -> None:
        right(self, *given)
        self._won = [(lag, 2 * weight) for lag, weight in self._won]

    patch.setattr(Step, "__init__", doubled)


def _table_sign(patch: pytest.MonkeyPatch) -> None:
    right = Step.__init__

    def turned(self: Any, *given: Any) -> None:
        right(self, *given)
        self._won = [(lag, -weight) for lag, weight in self._won]

    patch.setattr(Step, "__init__", turned)


def _table_lags(patch: pytest.MonkeyPatch) -> None:
    right = Blend.__init__

    def reversed_lags(self: Any, *given: Any) -> None:
        right(self, *given)
        self._own = [(1 - lag, 2 * weight if lag else 0 * weight) for lag, weight in self._own]

    patch.setattr(Blend, "__init__", reversed_lags)


def _network_solves_twice_as_strong(patch: pytest.MonkeyPatch) -> None:
    right = mnpo.llm.crosscheck.executor._next
    patch.setattr(
        mnpo.llm.crosscheck.executor,
        "_next",
        lambda game, around: right(game, around._replace(strength=2 * around.strength)),
    )


def _network_forgets_the_reference(patch: pytest.MonkeyPatch) -> None:
    right = mnpo.llm.crosscheck.executor._mixture
    patch.setattr(
        mnpo.llm.crosscheck.executor, "_mixture", lambda anchors, position: right(((Own(), 1.0),), position)
    )


def _table_solves_twice_as_strong(patch: pytest.MonkeyPatch) -> None:
    right = ImplicitStep.__init__
    patch.setattr(ImplicitStep, "__init__", lambda self, game, strength: right(self, game, 2 * strength))


def _table_takes_an_explicit_step(patch: pytest.MonkeyPatch) -> None:
    """The win rate at π^t in the place of that at π^{t+1}, which is INPO."""

    def explicit(self: Any, logits: Any) -> Any:
        now = normalise_log(logits)[1]
        return normalise_log(logits + self._strength * self._game.win_probabilities(now))

    patch.setattr(ImplicitStep, "__call__", explicit)


_TD, _PROX = "td-mnpo:players=3", "prox"
CHANGES: list[tuple[Change, str]] = [
    (_doubled_target, _TD),
    (_swapped_weights, _TD),
    (_forgotten_past, _TD),
    (_wrong_sign, _TD),
    (_no_end, _TD),
    (_table_doubled, _TD),
    (_table_sign, _TD),
    (_table_lags, _TD),
    (_opponents_forgotten, "mwu:players=2"),
    (_external_forgotten, "eo-mnpo"),
    (_no_half_step, "egpo"),
    (_swapped_weights, _PROX),
    (_wrong_sign, _PROX),
    (_network_solves_twice_as_strong, _PROX),
    (_network_forgets_the_reference, _PROX),
    (_table_solves_twice_as_strong, _PROX),
    (_table_takes_an_explicit_step, _PROX),
]


@pytest.mark.parametrize(("change", "rule"), CHANGES)
def test_a_rule_changed_in_one_executor_is_caught(
    change: Change, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = cases(rule, game="rps:contexts=2")
    change(monkeypatch)
    record = crosscheck(chosen, ["softmax"], steps=0)
    assert record["rows"][0]["tv"] > 100 * NETWORKS["softmax"].tolerance
    assert record["disagreements"]
