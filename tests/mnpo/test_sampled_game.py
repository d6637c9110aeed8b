"""Feedback from groups of responses: what many groups tend to, and that implicit steps can be longer."""

import numpy as np
import pytest

from mnpo import Game, Pairwise, PlackettLuce, Rankings, egpo, inpo, prox, run, update
from mnpo.sampled_game import Groups
from tests.helpers.support import random_matrix, random_policies

TAU = 0.05


@pytest.mark.parametrize("opponents", ["pair-left-out", "all", "halves"])
def test_many_large_groups_teach_the_implicit_step(opponents):
    rng = np.random.default_rng(0)
    game, policy = Game(Pairwise(random_matrix(rng, 4)), 2, TAU), random_policies(rng, 4)
    exact = np.exp(update(game, prox(4.0, TAU), [policy]))
    errors = []
    for pool in (6, 24):
        feedback = Groups(36_000 // pool**2, pool, np.random.default_rng(1), opponents=opponents)
        errors.append(
            np.abs(np.exp(update(game, prox(4.0, TAU), [policy], feedback=feedback)) - exact).sum() / 2
        )
    assert errors[1] < 0.03
    assert errors[1] < errors[0]


def test_explicit_rules_learn_from_the_same_groups():
    """INPO's estimate is unbiased; a step ahead is asked about the very same responses."""
    rng = np.random.default_rng(2)
    game, policy = Game(Pairwise(random_matrix(rng, 5)), 2, TAU), random_policies(rng, 5)
    for rule in (inpo(3.0, TAU), egpo(3.0, TAU)):
        exact = np.exp(update(game, rule, [policy]))
        learnt = np.exp(update(game, rule, [policy], feedback=Groups(3_000, 16, np.random.default_rng(0))))
        assert np.abs(learnt - exact).sum() / 2 < 0.015
    feedback = Groups(10, 4, np.random.default_rng(0))
    update(game, egpo(3.0, TAU), [policy], feedback=feedback)
    drawn = np.random.default_rng(0)
    drawn.random((10, 4))
    assert feedback.rng.random() == drawn.random()


def test_labels_are_judgments_with_noise():
    rng = np.random.default_rng(3)
    game, policy = Game(Pairwise(random_matrix(rng, 4)), 2, TAU), random_policies(rng, 4)
    exact = np.exp(update(game, inpo(3.0, TAU), [policy]))
    for groups, allowed in ((40, 0.3), (20_000, 0.02)):
        feedback = Groups(groups, 6, np.random.default_rng(0), labels=True)
        learnt = np.exp(update(game, inpo(3.0, TAU), [policy], feedback=feedback))
        assert np.abs(learnt - exact).sum() / 2 < allowed


def test_longer_steps_pay_with_the_sample_game():
    """Spec of the prototype: A = 20, K = 8, 120 prompts, τ = 0.05, six iterations, each at its best step."""
    etas, last = (3.0, 5.0, 8.0), {"inpo": [], "prox": []}
    for seed in range(3):
        game = Game(Pairwise(random_matrix(np.random.default_rng(seed), 20)), 2, TAU)
        for name, build in (("inpo", inpo), ("prox", prox)):
            feedback = [Groups(120, 8, np.random.default_rng([seed, 8])) for _ in etas]
            last[name].append(
                [
                    run(game, build(eta, TAU), 6, feedback=f).gap[-1]
                    for eta, f in zip(etas, feedback, strict=True)
                ]
            )
    best = {name: np.median(found, axis=0).min() for name, found in last.items()}
    assert best["prox"] < best["inpo"] / 2


def test_four_players_learn_from_groups_too():
    """A population in its group form: both kinds of step tend to the exact one, and labels of pairs are refused."""
    rng = np.random.default_rng(4)
    levels = np.array([rng.permutation(5) for _ in range(7)])
    game, policy = Game(Rankings(levels), 4, TAU), random_policies(rng, 5)
    for rule in (inpo(3.0, TAU), prox(3.0, TAU)):
        exact, errors = np.exp(update(game, rule, [policy])), []
        for groups, pool in ((800, 5), (300, 16)):
            feedback = Groups(groups, pool, np.random.default_rng(1))
            errors.append(np.abs(np.exp(update(game, rule, [policy], feedback=feedback)) - exact).sum() / 2)
        assert errors[1] < errors[0]
        assert errors[1] < 0.03
    with pytest.raises(ValueError, match="labels are of pairs"):
        update(game, inpo(1.0, TAU), [policy], feedback=Groups(2, 3, rng, labels=True))


def test_what_has_no_groups_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="pool at least 3"):
        Groups(1, 2, rng)
    with pytest.raises(ValueError, match="kind of opponents"):
        Groups(1, 4, rng, opponents="none")
    several = Game(PlackettLuce(rng.standard_normal((2, 4))), 3, TAU)
    with pytest.raises(ValueError, match="games of one context"):
        update(several, inpo(1.0, TAU), [np.full((1, 2, 4), 0.25)], feedback=Groups(2, 3, rng))
