"""Finitely many labels teach what infinitely many do, with an error that falls as it should."""

from __future__ import annotations

import numpy as np
import pytest
from crosscheck_cases import cases

import mnpo.llm.training.columns
from mnpo import Game, Pairwise
from mnpo.llm.crosscheck.check import crosscheck
from mnpo.llm.crosscheck.estimators import Labels, limit
from mnpo.llm.crosscheck.finite import ResponseSet
from support import random_matrix, random_policies


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
    parts = [(1.0, np.stack([own, other]))]
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


def test_a_wrong_constant_for_labels_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """η in place of η/2 leaves an error that labels do not mend."""
    monkeypatch.setattr(mnpo.llm.training.columns, "LABEL_GAP", 1.0)
    found = crosscheck(
        cases("inpo:eta=4", feedback="sampled", game="rps:contexts=8"), ["softmax"],
        steps=0, feedback="sampled", labels=(50, 1600),
    )  # fmt: skip
    wrong = {entry["estimator"] for entry in found["errors"] if not entry["agrees"]}
    assert wrong == {"label", "best-worst"}
