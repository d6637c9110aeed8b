"""Finitely many labels teach what infinitely many do, with an error that falls as it should."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from crosscheck_cases import cases

import mnpo.llm.preferences.implicit
import mnpo.llm.training.columns
from mnpo import Game, Pairwise, prox, update
from mnpo.llm.crosscheck.check import crosscheck
from mnpo.llm.crosscheck.estimators import ESTIMATORS, Labels, limit
from mnpo.llm.crosscheck.executor import Around, Part
from mnpo.llm.crosscheck.finite import ResponseSet
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.preferences.implicit import credited
from mnpo.llm.preferences.pairing import Recipe
from support import random_matrix, random_policies


@pytest.mark.slow
def test_labels_teach_what_they_should() -> None:
    """Every estimator's error falls as m^{−1/2} towards its own limit; of those that are biased it is another one."""
    record = crosscheck(
        cases("mwu:players=2", feedback="sampled", game="rps:contexts=8"),
        ["softmax"],
        steps=0,
        feedback="sampled",
        labels=(50, 800),
    )
    errors = {entry["estimator"]: entry for entry in record["errors"]}
    assert {name for name, entry in errors.items() if entry["unbiased"]} == {"third", "win-rate"}
    for entry in errors.values():
        assert entry["slope"] == pytest.approx(-0.5, abs=0.15)
        assert entry["progress"] == pytest.approx(1, abs=0.05)
        assert entry["agrees"]
        if entry["slope_table"] is not None:
            assert entry["slope_table"] == pytest.approx(-0.5, abs=0.15)
    for entry in record["rows"]:
        if entry["labels"] == 800 and entry["estimator"] in ("label", "best-worst"):
            assert (
                entry["tv"] > 2 * entry["tv_limit"]
            )  # it is on its way to the biased point, not to the update


def test_limits_are_what_many_labels_tend_to() -> None:
    """The limit of best against worst is the regression on a great many pairs, solved apart from networks."""
    rng = np.random.default_rng(5)
    game = Game(Pairwise(random_matrix(rng, 4)), tau=0.1)
    own, other = random_policies(rng, 2, 1, 4)
    parts = [Part(1.0, np.stack([own, other]))]
    responses = ResponseSet(1, 4)
    for name in ("label", "third", "win-rate", "best-worst"):
        lesson = Labels(name, 20_000, rng)
        rows = lesson(game, responses, 0, own, parts)
        normal, right = np.zeros((4, 4)), np.zeros(4)
        for entry in rows:
            pair = [responses.texts.index(entry[side]) for side in ("chosen", "rejected")]
            difference = np.eye(4)[pair[0]] - np.eye(4)[pair[1]]
            gap = entry["win_chosen"] - entry["win_rejected"] if "win_chosen" in entry else 0.5
            normal += entry["weight"] * np.outer(difference, difference)
            right += entry["weight"] * gap * difference
        solved = np.linalg.pinv(normal) @ right
        wanted = limit(name, game, 0, own, parts)[0]
        assert solved - solved.mean() == pytest.approx(wanted - wanted.mean(), abs=0.03)


def test_sample_games_teach_what_they_should() -> None:
    """The error falls as m^{−1/2} towards the limit, and the limit's distance to the rule's step as 1/K."""
    found = crosscheck(
        cases("prox", feedback="sampled", game="rps:contexts=8"), ["softmax"],
        steps=0, feedback="sampled", labels=(100, 3200),
    )  # fmt: skip
    (entry,) = found["errors"]
    assert entry["estimator"] == "sample-game"
    assert entry["slope"] == pytest.approx(-0.5, abs=0.15)
    assert entry["progress"] == pytest.approx(1, abs=0.05)
    assert entry["agrees"]
    bias = [entry["bias_by_responses"][size] for size in ("4", "8", "16", "32")]
    assert np.polyfit(np.log([2, 6, 14, 30]), np.log(bias), 1)[0] == pytest.approx(-1, abs=0.15)


@pytest.mark.parametrize("left_out", [True, False])
def test_the_limit_of_sample_games_goes_through_all_draws(
    left_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K = 4 of three responses, by what annotation uses itself: and a pair that is not left out is seen."""
    rng = np.random.default_rng(2)
    matrix, own = random_matrix(rng, 3), random_policies(rng, 3)
    around = Around(np.log(random_policies(rng, 1, 1, 3)), 5.0)
    game, parts = Game(Pairwise(matrix)), [Part(1.0, own[None, None], around)]
    monkeypatch.setitem(ESTIMATORS, "sample-game", ESTIMATORS["sample-game"]._replace(drawn=4))
    if not left_out:
        whole = mnpo.llm.preferences.implicit.sample_game

        def kept(oracle: Any, weights: Any, pairs: Any, **how: Any) -> Any:
            found = whole(oracle, weights, pairs, **how)
            policy = solve_each(oracle.matrix, weights, how["strength"])
            wins = np.einsum("xij,xj->xi", oracle.matrix, policy)
            return found._replace(advantages=wins[:, np.array(pairs)])

        monkeypatch.setattr(mnpo.llm.preferences.implicit, "sample_game", kept)
    draws = np.array(list(itertools.product(range(3), repeat=4)))
    weights = (around.log_reference[0, 0] - np.log(own))[draws]
    judged = [[Judged(1.0, wins=matrix[np.ix_(draw, draw)])] for draw in draws]
    recipe = Recipe("all", "soft", 4, wanted=True, strength=5.0)
    first = credited(recipe, judged, weights).advantages[:, 0, 1]
    chances = own[draws].prod(axis=1)
    learnt = [chances[draws[:, 0] == y] @ first[draws[:, 0] == y] / own[y] for y in range(3)]
    wanted = limit("sample-game", game, 0, own[None], parts)[0]
    assert (np.abs(learnt - wanted).max() < 1e-12) == left_out


def solve_each(matrices: Any, weights: Any, strength: float) -> Any:
    policies = np.exp(weights - np.logaddexp.reduce(weights, axis=1)[:, None])
    for x, (matrix, reference) in enumerate(zip(matrices, policies.copy(), strict=True)):
        policies[x] = update(
            Game(Pairwise(matrix), 2, 1.0, reference), prox(strength, 1 / strength), [reference]
        )
        policies[x] = np.exp(policies[x])
    return policies


def test_a_wrong_constant_for_labels_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """η in place of η/2 leaves an error that labels do not mend."""
    monkeypatch.setattr(mnpo.llm.training.columns, "LABEL_GAP", 1.0)
    found = crosscheck(
        cases("inpo:eta=4", feedback="sampled", game="rps:contexts=8"), ["softmax"],
        steps=0, feedback="sampled", labels=(50, 1600),
    )  # fmt: skip
    wrong = {entry["estimator"] for entry in found["errors"] if not entry["agrees"]}
    assert wrong == {"label", "best-worst"}
