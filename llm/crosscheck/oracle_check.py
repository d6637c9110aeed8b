"""Objectives of oracles cross-checked: what `mnpo llm fit-oracle` minimises ends where the table says.

Free numbers stand for a network's outputs: a reward for each response, both answers' logits for each ordered pair,
an embedding for each response. They are trained by the trainer's own losses on all judgments of a game, each as
often as it comes, and compared with `mnpo.oracle_minimisers`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from mnpo.cyclicity import cyclicity
from mnpo.llm.training.oracle_tasks import Judged, OracleTask
from mnpo.numerics import Array
from mnpo.oracle_minimisers import Pools
from mnpo.oracle_objectives import COMPARISONS, RANKINGS, REGRESSION, embedding_logits
from mnpo.oracles import Pairwise

#: How far win probabilities, or ratings, may be off.
CLOSE = 1e-6
#: Responses of rankings, all of whose orders are judged, and attributes of ratings, of which some are missing.
_RANKED, _RATED = 4, 3
#: Starts of embeddings, of which the best counts: their loss is not convex.
_STARTS = 5


def check_oracles(wins: Array, seed: int = 0) -> list[dict[str, Any]]:
    """Train free outputs by every objective and compare them with the exact minimiser.

    Args:
        wins: P, (A, A), of a pairwise game; strictly between 0 and 1.
        seed: of strengths, rankings and ratings, and of where embeddings start.

    Returns:
        A row for each kind and objective: `minimiser`, where it should end; `distance`, the largest difference of
        win probabilities (of ratings, of these); `cyclicity` of what was trained; `agrees`; `seconds`.

    Raises:
        ValueError: no pairwise game, or one without a minimiser.
    """
    matrix = Pairwise(wins).matrix[0]
    size = len(matrix)
    rng = np.random.default_rng(seed)
    strengths = np.triu(rng.integers(1, 4, (size, size)), 1).astype(float)
    rows = []
    for name, kind in COMPARISONS.items():
        known = strengths + strengths.T if kind.offset or kind.factor else np.ones((size, size))
        exact = Pools.of_pairs(name, matrix, strengths=known).minimiser()
        label = "Bradley-Terry projection" if name == "bradley-terry" else "minimiser of its likelihood"
        trained = partial(_rewards, name, matrix, known)
        rows.append(_row(OracleTask(objective=name), label, trained, _chances(exact)))
    pairwise, embedding = OracleTask("pairwise"), OracleTask("embedding")
    rows.append(_row(pairwise, "the game itself", partial(_pairwise, matrix), matrix))
    rows.append(_row(embedding, "the game itself", partial(_embedding, matrix, rng), matrix))
    orders = list(itertools.permutations(range(_RANKED)))
    weights = rng.dirichlet(np.ones(len(orders)))
    for name in RANKINGS:
        exact = Pools.of_rankings(orders, weights, top=name == "top-one").minimiser()
        trained = partial(_ranked, name, orders, weights)
        rows.append(_row(OracleTask(objective=name), "Plackett-Luce likelihood", trained, _chances(exact)))
    rows.append(_regression(rng))
    return rows


def _row(task: OracleTask, label: str, train: Callable[[], Array], exact: Array) -> dict[str, Any]:
    begun = time.monotonic()
    found = train()
    distance = float(np.abs(found - exact).max())
    share = cyclicity(found).share if len(found) > 2 else np.nan
    return {
        "kind": task.kind, "objective": task.objective, "minimiser": label, "distance": distance,
        "cyclicity": float(share), "agrees": distance < CLOSE, "seconds": time.monotonic() - begun,
    }  # fmt: skip


def _chances(rewards: Array) -> Array:
    return np.asarray(expit(rewards[:, None] - rewards[None, :]))


def _rewards(objective: str, wins: Array, strengths: Array) -> Array:
    task, (i, j) = OracleTask(objective=objective), np.triu_indices(len(wins), 1)
    judged = _judged(len(i), 2, preference=wins[i, j], strength=strengths[i, j])
    places = torch.from_numpy(np.stack([i, j], 1).ravel())
    free = _least(lambda r: task.found(r[places][:, None], judged).losses.sum(), np.zeros(len(wins)))
    return _chances(free)


def _pairwise(wins: Array) -> Array:
    size, task = len(wins), OracleTask("pairwise")
    i, j = np.triu_indices(size, 1)
    judged = _judged(len(i), 2, preference=wins[i, j])
    # Both orders of each pair, with the logits of both answers.
    free = _least(lambda z: task.found(z.view(-1, 2), judged).losses.sum(), np.zeros(4 * len(i)))
    z = free.reshape(-1, 2, 2)
    first, second = (expit(z[:, k, 0] - z[:, k, 1]) for k in (0, 1))
    trained = np.full((size, size), 0.5)
    trained[i, j] = (first + 1 - second) / 2
    trained[j, i] = 1 - trained[i, j]
    return trained


def _embedding(wins: Array, rng: np.random.Generator) -> Array:
    size, task = len(wins), OracleTask("embedding")
    width, (i, j) = 2 * max(1, size // 2), np.triu_indices(size, 1)
    judged = _judged(len(i), 2, preference=wins[i, j])
    places = torch.from_numpy(np.stack([i, j], 1).ravel())
    found = []
    for _ in range(_STARTS):
        losses: list[float] = []

        def loss(v: Tensor, losses: list[float] = losses) -> Tensor:
            total = task.found(v.view(size, width)[places], judged).losses.sum()
            losses.append(float(total.detach()))
            return total

        v = _least(loss, rng.normal(0, 0.5, size * width)).reshape(size, width)
        found.append((losses[-1], v))
    best = min(found, key=lambda one: one[0])[1]
    return np.asarray(expit(embedding_logits(best[:, None], best[None], 1.0)))


def _ranked(objective: str, orders: Sequence[Sequence[int]], weights: Array) -> Array:
    task = OracleTask(objective=objective)
    ranks = np.argsort(np.array(orders), axis=1).astype(float)  # each response's place
    judged = _judged(len(orders), _RANKED, ranks=ranks)
    share = torch.from_numpy(weights)
    free = _least(
        lambda r: share @ task.found(r.repeat(len(orders))[:, None], judged).losses, np.zeros(_RANKED)
    )
    return _chances(free)


def _regression(rng: np.random.Generator) -> dict[str, Any]:
    """Ratings of several annotators, some missing: what is trained ends at the mean of those that there are."""
    begun, people, responses = time.monotonic(), 6, 4
    ratings = rng.integers(0, 5, (people, responses, _RATED)).astype(float)
    ratings[rng.random(ratings.shape) < 0.3] = np.nan
    ratings[0] = 2.0  # so that each is rated
    task, rated = OracleTask(objective=REGRESSION), ~np.isnan(ratings)
    judged = _judged(people * responses, 1, ratings=ratings.reshape(-1, 1, _RATED))
    places = torch.arange(responses).repeat(people)

    def loss(y: Tensor) -> Tensor:
        return task.found(y.view(responses, _RATED)[places], judged).losses.sum()

    free = _least(loss, np.zeros(responses * _RATED)).reshape(responses, _RATED)
    # A judgment with fewer ratings counts each of them more: Σ mask (ŷ − y)²/Σ mask.
    counts = rated / np.maximum(rated.sum(-1, keepdims=True), 1)
    exact = (counts * np.nan_to_num(ratings)).sum(0) / counts.sum(0)
    distance = float(np.abs(free - exact).max())
    return {
        "kind": "reward", "objective": REGRESSION, "minimiser": "mean of the ratings", "distance": distance,
        "cyclicity": float("nan"), "agrees": distance < CLOSE, "seconds": time.monotonic() - begun,
    }  # fmt: skip


def _judged(
    count: int,
    size: int,
    *,
    preference: Array | None = None,
    strength: Array | None = None,
    ranks: Array | None = None,
    ratings: Array | None = None,
) -> Judged:
    def tensor(given: Array | None, shape: tuple[int, ...], absent: float) -> Tensor:
        return torch.full(shape, absent, dtype=torch.float64) if given is None else torch.from_numpy(given)

    return Judged(
        present=torch.ones(count, size, dtype=torch.float64),
        ranks=tensor(ranks, (count, size), 0.0),
        preference=tensor(preference, (count,), float("nan")),
        strength=tensor(strength, (count,), 1.0),
        ratings=tensor(ratings, (count, size, 0), float("nan")),
        head=torch.zeros(count, dtype=torch.int64),
    )


def _least(loss: Callable[[Tensor], Tensor], start: Array) -> Array:
    """Minimise over free numbers, as a network's optimizer would with all the time it needs."""
    free = torch.from_numpy(start.copy()).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [free], max_iter=2000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(free)
        value.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]  # nor this
    return free.detach().numpy()
