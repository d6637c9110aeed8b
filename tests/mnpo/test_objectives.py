"""Objectives on a table: closed-form minimisers, the target's constant, the bias of binary labels."""

import numpy as np
import pytest

from mnpo.minimisers import NumpyOps, iterate, labelled_pairs, minimiser
from mnpo.objectives import OBJECTIVES, Pairs
from support import random_matrix, random_policies


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return random_matrix(rng, 4), random_policies(rng, 4), random_policies(rng, 4), random_policies(rng, 4)


def tilted(policy, exponent):
    weights = policy * np.exp(exponent)
    return weights / weights.sum()


def test_the_target_of_binary_labels_is_half_the_step(table):
    """MNPO Proposition 1, corrected, docs/concepts.md (11): E(h − c)² has (U) for its minimiser if and only if c = η/2."""
    matrix, sampler, reference, other = table
    eta = 0.7
    anchor = 0.3 * np.log(reference) + 0.7 * np.log(other)
    expected = tilted(np.exp(anchor), eta * matrix @ sampler)
    found = minimiser("mnpo", matrix, sampler, anchor=anchor, target=eta / 2).policy
    np.testing.assert_allclose(found, expected, atol=1e-14)
    for wrong in (eta, 1 / (2 * eta), eta / 4):
        missed = minimiser("mnpo", matrix, sampler, anchor=anchor, target=wrong).policy
        assert np.abs(missed - expected).max() > 1e-2


def test_binary_labels_learn_against_the_sampler(table):
    """The advantage learnt is against ρ, the pairs' own distribution, whatever the anchors are (docs/concepts.md, (11))."""
    matrix, sampler, _, opponent = table
    eta = 0.7
    found = minimiser("mnpo", matrix, sampler, anchor=np.log(opponent), target=eta / 2).policy
    np.testing.assert_allclose(found, tilted(opponent, eta * matrix @ sampler), atol=1e-14)
    assert np.abs(found - tilted(opponent, eta * matrix @ opponent)).max() > 1e-3
    # Comparing both with a third response of the opponent's gives the advantage against the opponent:
    # the expected target is η (a(y) − a(y')), a the win rate against the opponent.
    beats = matrix @ opponent
    third = minimiser(
        "mnpo", np.full((4, 4), 0.5), sampler, anchor=np.log(opponent), target=eta * (beats[:, None] - beats)
    ).policy
    np.testing.assert_allclose(third, tilted(opponent, eta * beats), atol=1e-14)


@pytest.mark.parametrize("name", ["mnpo", "mnpo-bwd", "mnpo-fwd"])
def test_every_distance_has_the_same_minimiser_for_win_rates(table, name):
    """MNPO Lemma 1, docs/concepts.md (L): with targets η(a(y) − a(y')) the loss can be 0, so any distance leads to (U)."""
    matrix, sampler, _, anchor = table
    beats = matrix @ sampler
    found = minimiser(name, matrix, sampler, anchor=np.log(anchor), target=0.7 * (beats[:, None] - beats))
    np.testing.assert_allclose(found.policy, tilted(anchor, 0.7 * beats), atol=1e-7)
    assert abs(found.loss) < 1e-14


def test_minimisers_with_closed_forms_are_found(table):
    matrix, sampler, reference, _ = table
    beats = matrix @ sampler
    eta, tau = 0.5, 0.2
    given = {"reference": reference, "current": sampler}
    blend = reference ** (eta * tau) * sampler ** (1 - eta * tau)
    found = {
        "inpo": minimiser("inpo", matrix, sampler, **given, eta=eta, tau=tau),
        "onpo": minimiser("onpo", matrix, sampler, **given, eta=eta),
        "ipo": minimiser("ipo", matrix, sampler, **given, tau=tau),
        "distill-dpo": minimiser("distill-dpo", matrix, sampler, **given, rewards=beats),
        "rpo": minimiser("rpo", matrix, sampler, **given, rewards=beats, beta=0.5, eta=1.0),
    }
    np.testing.assert_allclose(found["inpo"].policy, tilted(blend, eta * beats), atol=1e-14)
    np.testing.assert_allclose(found["onpo"].policy, tilted(sampler, eta * beats), atol=1e-14)
    np.testing.assert_allclose(found["ipo"].policy, tilted(reference, beats / tau), atol=1e-13)
    np.testing.assert_allclose(found["distill-dpo"].policy, tilted(reference, beats), atol=1e-14)
    np.testing.assert_allclose(found["rpo"].policy, tilted(reference, 2 * beats), atol=1e-8)


def test_bradley_terry_objectives_recover_bradley_terry_rewards():
    rng = np.random.default_rng(1)
    reward, sampler, reference = rng.standard_normal(4), *random_policies(rng, 2, 4)
    matrix = 1 / (1 + np.exp(reward - reward[:, None]))
    dpo = minimiser("dpo", matrix, sampler, reference=reference, beta=0.5).policy
    np.testing.assert_allclose(dpo, tilted(reference, reward / 0.5), atol=1e-9)
    spin = minimiser("spin", matrix, sampler, beta=1.0).policy
    np.testing.assert_allclose(spin, tilted(sampler, reward), atol=1e-9)
    simpo = minimiser("simpo", matrix, sampler, beta=2.0, gamma=0.0).policy
    np.testing.assert_allclose(simpo, tilted(np.ones(4), reward / 2), atol=1e-9)
    kl = minimiser("f-dpo-forward-kl", matrix, sampler, reference=reference, beta=0.5).policy
    inverse = -reference / kl  # f'(u) = −1/u differs from r/β by a constant
    np.testing.assert_allclose(np.ptp(inverse - reward / 0.5), 0.0, atol=1e-7)


# KTO's loss moves with its own KL estimate, so that it has no one function to minimise.
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "kto"])
def test_minimisers_are_minima(table, name):
    """No policy near the minimiser, and none of a thousand anywhere, has a lower expected loss."""
    matrix, sampler, reference, _ = table
    chosen = OBJECTIVES[name]
    found = minimiser(name, matrix, sampler, reference=reference)
    beats = matrix @ sampler
    seen = labelled_pairs(matrix, sampler)

    def loss(policy):
        log = np.log(policy)
        pairs = Pairs(
            policy_w=log[:, None], policy_l=log, reference_w=np.log(reference)[:, None],
            reference_l=np.log(reference), current_w=np.log(sampler)[:, None], current_l=np.log(sampler),
            anchor=np.log(sampler)[:, None] - np.log(sampler), win_w=beats[:, None], win_l=beats,
            reward_w=beats[:, None], reward_l=beats,
        )  # fmt: skip
        return float((seen * chosen.loss(NumpyOps(), pairs, **chosen.parameters)).sum())

    assert loss(found.policy) == pytest.approx(found.loss, rel=1e-10, abs=1e-14)
    rng = np.random.default_rng(2)
    for scale in (1e-3, 0.1, 3.0):
        for _ in range(300):
            near = tilted(found.policy, scale * rng.standard_normal(4))
            assert loss(near) >= found.loss - (1e-12 if chosen.smooth else 1e-7)


def test_iterated_objectives_are_the_rules(table):
    """INPO's loss repeated is INPO's rule, and ONPO's two regressions are optimistic mirror descent."""
    from mnpo import Game, Pairwise, inpo, omwu, run

    matrix, _, reference, _ = table
    found = iterate("inpo", matrix, reference, 8, eta=0.6, tau=0.2)
    rule = run(Game(Pairwise(matrix), 2, 0.2, reference), inpo(0.6, 0.2), 8).policies[0, 0]
    np.testing.assert_allclose(found[-1], rule, atol=1e-12)
    found = iterate("onpo", matrix, reference, 8, eta=0.6)
    # ONPO predicts with the latest win rate from the start on; the rule's history is the start itself.
    secondary, played = np.log(reference), reference
    for _ in range(8):
        wins = matrix @ played
        secondary = secondary + 0.6 * wins
        played = tilted(np.exp(secondary - secondary.max()), 0.6 * wins)
    np.testing.assert_allclose(found[-1], played, atol=1e-12)
    rps = matrix[:3, :3]
    ends = run(Game(Pairwise(rps), 2, 0.0), omwu(0.6), 4000, every=4000).gap[-1]
    assert ends < 1e-9


def test_unknown_objectives_and_parameters_are_refused():
    with pytest.raises(ValueError, match="did you mean 'dpo'"):
        minimiser("dop", np.full((2, 2), 0.5), [0.5, 0.5])
    with pytest.raises(ValueError, match="no parameter 'beat'"):
        minimiser("dpo", np.full((2, 2), 0.5), [0.5, 0.5], beat=1.0)
