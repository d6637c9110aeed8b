"""`mnpo crosscheck oracles`: what fit-oracle minimises ends where the table says, and a wrong loss is found."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mnpo.cli.main import app
from mnpo.cyclicity import cyclicity
from mnpo.llm.crosscheck.oracle_check import check_oracles
from mnpo.llm.data.made import STYLE_WINS
from mnpo.llm.training import oracle_tasks
from mnpo.oracle_objectives import ORACLE_OBJECTIVES


def matrix(size: int, seed: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).uniform(0.05, 0.95, (size, size)), 1)
    return upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(size)


@pytest.mark.parametrize("wins", [STYLE_WINS, matrix(3, 0), matrix(7, 1)], ids=["styles", "three", "seven"])
def test_every_objective_ends_at_its_minimiser(wins: np.ndarray) -> None:
    rows = check_oracles(wins)
    assert {row["objective"] for row in rows} == set(ORACLE_OBJECTIVES)
    assert {row["kind"] for row in rows} == {"reward", "pairwise", "embedding"}
    assert all(row["agrees"] and row["distance"] < 1e-7 for row in rows)
    share = float(cyclicity(wins).share)
    for row in rows:
        if row["minimiser"] == "the game itself":
            assert row["cyclicity"] == pytest.approx(share, abs=1e-6)
        elif row["objective"] != "regression":
            assert row["cyclicity"] < 1e-9


def shifted(losses: Any) -> Any:
    def wrong(objective: str, ops: Any, logit: Any, **given: Any) -> Any:
        return losses(objective, ops, 1.001 * logit, **given)

    return wrong


@pytest.mark.parametrize(
    ("name", "caught"),
    [
        ("comparison_losses", {"bradley-terry", "margin", "scaled"}),
        ("top_one", {"top-one"}),
        ("full_ranking", {"full-ranking"}),
        ("regression", {"regression"}),
    ],
)
def test_a_changed_loss_is_caught(name: str, caught: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A factor of a thousandth on logits or rewards, in the losses that fits run."""
    right = getattr(oracle_tasks, name)
    wrong = {
        "comparison_losses": shifted(right),
        "top_one": lambda ops, r, *given: right(ops, 1.001 * r, *given),
        "full_ranking": lambda ops, r, *given: right(ops, 1.001 * r, *given),
        "regression": lambda y, *given: right(1.001 * y, *given),
    }[name]
    monkeypatch.setattr(oracle_tasks, name, wrong)
    rows = check_oracles(STYLE_WINS)
    assert {row["objective"] for row in rows if not row["agrees"]} == caught


def test_embeddings_that_are_not_turned_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def inner(v: torch.Tensor, w: torch.Tensor, weights: float, scale: float = 1.0) -> torch.Tensor:
        return (v * w).sum(-1)

    monkeypatch.setattr(oracle_tasks, "embedding_logits", inner)
    rows = check_oracles(STYLE_WINS)
    assert [row["kind"] for row in rows if not row["agrees"]] == ["embedding"]


def test_a_planted_cycle_is_measured_within_its_error() -> None:
    """Labels drawn from a game with a cycle; the embedding model that fits them best, and its error by bootstrap."""
    rng = np.random.default_rng(0)
    pairs = list(zip(*np.triu_indices(4, 1), strict=True))

    def fitted(won: np.ndarray, count: int) -> float:
        wins = np.full((4, 4), 0.5)
        for (i, j), share in zip(pairs, won / count, strict=True):
            wins[i, j], wins[j, i] = share, 1 - share
        rows = check_oracles(wins)
        return next(row["cyclicity"] for row in rows if row["kind"] == "embedding")

    count = 1500
    won = rng.binomial(count, [STYLE_WINS[pair] for pair in pairs])
    found = fitted(won, count)
    again = [fitted(rng.binomial(count, won / count), count) for _ in range(12)]
    assert abs(found - float(cyclicity(STYLE_WINS).share)) < 2 * np.std(again, ddof=1)
    assert np.std(again, ddof=1) < 0.05


def test_the_command_says_who_agrees() -> None:
    result = CliRunner().invoke(app, ["crosscheck", "oracles", "--game", "rps", "--json"])
    assert result.exit_code == 0, result.output
    assert all(row["agrees"] for row in json.loads(result.stdout))
