"""What is learnt from samples: unbiased where the theory says so, biased where it says so."""

import numpy as np
import pytest

from mnpo import Game, Pairwise, PlackettLuce, inpo, run, solve
from mnpo.feedback import Sampled
from support import random_matrix, random_policies


def centred(values, policy):
    return values - (policy * values).sum(-1, keepdims=True)


@pytest.fixture
def duel():
    rng = np.random.default_rng(0)
    game = Game(Pairwise(random_matrix(rng, 4)), 2, 0.1)
    return game, random_policies(rng, 1, 1, 4), random_policies(rng, 1, 1, 4)


def learnt(game, behaviour, opponents, samples, repeats, **options):
    """(repeats, A): independent estimates, centred under the behaviour."""
    feedback = Sampled(samples, np.random.default_rng(1), **options)
    spread = [np.broadcast_to(p, (repeats, *p.shape)) for p in (behaviour, opponents)]
    return centred(feedback(game, *spread), behaviour)[:, 0, 0]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("pairs", ["iid", "third"])
def test_unbiased_estimators_err_by_one_over_root_m(duel, pairs, soft):
    game, behaviour, opponents = duel
    against = behaviour if pairs == "iid" else opponents
    exact = centred(game.win_probabilities(against), behaviour)[0, 0]
    counts, errors = np.array([100, 400, 1600, 6400]), []
    for samples in counts:
        found = learnt(game, behaviour, opponents, int(samples), 100, pairs=pairs, soft=soft)
        errors.append(np.sqrt(((found - exact) ** 2).sum(-1).mean()))
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.06)
    bias = np.abs(found.mean(axis=0) - exact).max()
    assert bias < 5 * found.std(axis=0).max() / np.sqrt(len(found))


def test_iid_pairs_learn_against_the_sampler_not_the_opponents(duel):
    """docs/concepts.md, (11): labels teach the win rate against the sampler, however many there are."""
    game, behaviour, opponents = duel
    found = learnt(game, behaviour, opponents, 20_000, 20, pairs="iid").mean(axis=0)
    own, other = (centred(game.win_probabilities(p), behaviour)[0, 0] for p in (behaviour, opponents))
    assert np.abs(found - own).max() < 0.01
    assert np.abs(found - other).max() > 0.03


def test_best_against_worst_is_biased(duel):
    game, behaviour, _ = duel
    exact = centred(game.win_probabilities(behaviour), behaviour)[0, 0]
    found = learnt(game, behaviour, behaviour, 20_000, 20, pairs="best-worst").mean(axis=0)
    assert np.abs(found - exact).max() > 0.03


def test_a_rule_learns_the_equilibrium_from_samples():
    rng = np.random.default_rng(2)
    game = Game(Pairwise(random_matrix(rng, 3)), 2, 0.2)
    exact = solve(game).policies[0, 0]
    rule = inpo(0.2, 0.2)
    ends = {
        samples: run(game, rule, 400, feedback=Sampled(samples, np.random.default_rng(3)), every=400).policies
        for samples in (20, 2000)
    }
    errors = {samples: np.abs(policies[0, 0] - exact).sum() / 2 for samples, policies in ends.items()}
    assert errors[2000] < 0.02
    assert errors[2000] < errors[20]
    again = run(game, rule, 400, feedback=Sampled(20, np.random.default_rng(3)), every=400).policies
    np.testing.assert_array_equal(again, ends[20])


def test_bad_feedback_is_refused():
    with pytest.raises(ValueError, match="did you mean 'third'"):
        Sampled(10, np.random.default_rng(0), pairs="thrid")
    with pytest.raises(ValueError, match="at least 1"):
        Sampled(0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="pairwise payoffs"):
        run(
            Game(PlackettLuce([0.0, 1.0]), 3, 0.1),
            inpo(0.1, 0.1),
            2,
            feedback=Sampled(5, np.random.default_rng(0)),
        )
