"""Runs over many contexts: each goes as if it were alone, in blocks of any size."""

import numpy as np
import pytest

from mnpo import (
    Game,
    Heterogeneous,
    Pairwise,
    PlackettLuce,
    Population,
    eo_mnpo,
    ht_mnpo,
    inpo,
    mpo,
    mwu,
    nash_md,
    regret_matching_plus,
    run,
    td_mnpo,
)
from mnpo.feedback import Sampled
from support import random_matrix, random_policies

CONTEXTS, SIZE, TAU = 5, 4, 0.05


def oracle_data(kind, rng):
    """Data with contexts on the last axis but one, or for matrices but two, and the oracle of some contexts."""
    if kind == "plackett-luce":
        data = 2 * rng.standard_normal((2, CONTEXTS, SIZE))
        return lambda part: PlackettLuce(data[:, part])
    if kind == "population":
        levels, utilities = (
            rng.integers(0, SIZE, (5, CONTEXTS, SIZE)),
            rng.standard_normal((2, CONTEXTS, SIZE)),
        )
        return lambda part: Population(levels[:, part], None, utilities[:, part])
    matrices = random_matrix(rng, SIZE, 3, CONTEXTS)
    if kind == "heterogeneous":
        return lambda part: Heterogeneous([Pairwise(matrix[part]) for matrix in matrices])
    return lambda part: Pairwise(matrices[0, part])


@pytest.mark.parametrize(
    ("kind", "players", "rule"),
    [
        ("pairwise", 2, nash_md(0.4, TAU)),
        ("pairwise", 3, regret_matching_plus()),
        ("plackett-luce", 2, mpo(0.5, TAU, 3)),
        ("plackett-luce", 4, td_mnpo(0.5, TAU, 4, "population")),
        ("population", 2, inpo(0.5, TAU)),
        ("population", 3, eo_mnpo(0.5, 0.03, [0.02])),
        ("heterogeneous", 3, ht_mnpo(0.5, TAU)),
    ],
)
@pytest.mark.parametrize("at_once", [1, 2])
def test_contexts_run_as_if_each_were_alone(kind, players, rule, at_once, monkeypatch):
    rng = np.random.default_rng(5)
    make, reference, weights = (
        oracle_data(kind, rng),
        random_policies(rng, CONTEXTS, SIZE),
        rng.random(CONTEXTS),
    )
    start, outside = random_policies(rng, CONTEXTS, SIZE), random_policies(rng, CONTEXTS, SIZE)
    external = [outside] if rule.externals else []
    game = Game(make(slice(None)), players, TAU, reference, weights)
    each = max(game.oracle.breadth, (game.slots * SIZE) ** 2)
    monkeypatch.setattr("mnpo.games.BLOCK", at_once * each)
    options = {"every": 4, "average": True, "keep_policies": True}
    told = []
    found = run(game, rule, 10, start=start, externals=external, progress=told.append, **options)
    alone = [
        run(
            Game(make(slice(x, x + 1)), players, TAU, reference[x]), rule, 10,
            start=start[x], externals=[each[x] for each in external], **options,
        )
        for x in range(CONTEXTS)
    ]  # fmt: skip
    assert found.steps.tolist() == [0, 4, 8, 10]
    for name in ("log_policies", "average", "recorded_policies", "recorded_averages"):
        joined = np.concatenate([getattr(each, name) for each in alone], axis=-2)
        np.testing.assert_allclose(getattr(found, name), joined, rtol=0, atol=1e-12)
    for name in ("exploitability", "average_exploitability"):
        joined = np.stack([getattr(each, name) for each in alone], axis=-1)
        np.testing.assert_allclose(getattr(found, name), game.context_mean(joined), rtol=0, atol=1e-14)
    assert told == sorted(told)
    assert told[-1] == 10


def test_one_context_that_blows_up_is_reported(monkeypatch):
    """In whichever block it is; contexts that come to rest do not hide it."""
    cycle = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    game = Game(Pairwise(np.array([np.full((3, 3), 0.5), cycle, np.full((3, 3), 0.5)])), 2, 0.0)
    start = np.tile([0.4, 0.3, 0.3], (3, 1))
    monkeypatch.setattr("mnpo.games.BLOCK", 9)
    found = run(game, mwu(2.0), 50, start=start)
    assert found.diverged
    assert not run(game.at([0, 2]), mwu(2.0), 50, start=start[:2]).diverged


def test_contexts_without_weight_do_not_count(monkeypatch):
    rng = np.random.default_rng(7)
    matrices, weights = random_matrix(rng, SIZE, CONTEXTS), [0, 0, 0.25, 0.75, 0]
    game = Game(Pairwise(matrices), 2, TAU, random_policies(rng, CONTEXTS, SIZE), weights)
    monkeypatch.setattr("mnpo.games.BLOCK", 2 * SIZE**2)  # the second block has all the weight
    found, alone = (run(each, inpo(0.3, TAU), 6) for each in (game, game.at([2, 3])))
    np.testing.assert_allclose(found.gap, alone.gap, rtol=0, atol=1e-15)


def test_sampled_feedback_draws_in_all_contexts_at_once(monkeypatch):
    """So that a seed means the same whatever fits a block."""
    rng = np.random.default_rng(6)
    game = Game(Pairwise(random_matrix(rng, SIZE, CONTEXTS)), 2, TAU)
    whole = run(game, inpo(0.3, TAU), 5, feedback=Sampled(20, np.random.default_rng(1)))
    monkeypatch.setattr("mnpo.games.BLOCK", 1)
    blocks = run(game, inpo(0.3, TAU), 5, feedback=Sampled(20, np.random.default_rng(1)))
    np.testing.assert_array_equal(blocks.log_policies, whole.log_policies)
