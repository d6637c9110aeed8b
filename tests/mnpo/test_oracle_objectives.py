"""Objectives of reward and preference models against formulas written apart, and where they end on a table."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mnpo.llm.training.losses import TorchOps
from mnpo.oracle_minimisers import NumpyRankingOps, Pools, embedding_of
from mnpo.oracle_objectives import (
    COMPARISONS,
    centring,
    comparison_losses,
    embedding_logits,
    full_ranking,
    regression,
    top_one,
)
from tests.helpers.support import random_matrix

OPS, TORCH = NumpyRankingOps(), TorchOps()


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


#: What each says of one pair, by hand.
BY_HAND = {
    "bradley-terry": lambda r, s, m: -math.log(sigmoid(r - s)),
    "margin": lambda r, s, m: -math.log(sigmoid(r - s - m)),
    "scaled": lambda r, s, m: -m * math.log(sigmoid(r - s)),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_losses_and_gradients_of_pairs(name):
    """Values against the formulas, on both libraries; gradients against differences of the formulas."""
    rng = np.random.default_rng(0)
    r, s = rng.normal(0, 2, (2, 9))
    m, p = rng.integers(0, 4, 9).astype(float), rng.random(9)

    def by_hand(r, s):
        one = BY_HAND[name]
        return np.array(
            [q * one(a, b, m_) + (1 - q) * one(b, a, m_) for a, b, m_, q in zip(r, s, m, p, strict=True)]
        )

    ours = comparison_losses(name, OPS, r - s, strength=m, preference=p)
    assert np.abs(ours - by_hand(r, s)).max() < 1e-12
    tensors = [torch.tensor(x, requires_grad=True) for x in (r, s)]
    found = comparison_losses(
        name,
        TORCH,
        tensors[0] - tensors[1],
        strength=torch.from_numpy(m),
        preference=torch.from_numpy(p),
    )
    assert np.abs(found.detach().numpy() - by_hand(r, s)).max() < 1e-12
    # d/dr of f log(1 + e^{o − d}) is −f σ(o − d), for each label.
    f, o = m if name == "scaled" else 1.0, m if name == "margin" else 0.0
    d = r - s
    slope = f * (-p / (1 + np.exp(d - o)) + (1 - p) / (1 + np.exp(-d - o)))
    for gradient, sign in zip(torch.autograd.grad(found.sum(), tensors), (1, -1), strict=True):
        assert np.abs(gradient.numpy() - sign * slope).max() < 1e-12
    certain = comparison_losses(name, OPS, r - s, strength=m)
    assert np.abs(certain - [BY_HAND[name](*each) for each in zip(r, s, m, strict=True)]).max() < 1e-12


def test_centring_leaves_the_gradient_on_differences():
    r, s = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    grads = torch.autograd.grad(centring(r, s).sum(), (r, s))
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], 2 * (r + s))


def test_regression_counts_rated_attributes_alone():
    predicted = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    rated = torch.tensor([[0.0, 2.0, 9.0], [1.0, 0.0, 3.0], [5.0, 5.0, 5.0]], dtype=torch.float64)
    mask = torch.tensor([[1.0, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.float64)
    assert regression(predicted, rated, mask).tolist() == [0.5, 6.0, 0.0]
    assert np.array_equal(regression(*(x.numpy() for x in (predicted, rated, mask))), [0.5, 6.0, 0.0])


def test_rankings_are_choices_one_after_the_other():
    rng = np.random.default_rng(1)
    sizes = (4, 2, 3)
    scores = rng.normal(0, 2, (3, 4))
    present = np.array([[1.0] * size + [0.0] * (4 - size) for size in sizes])
    places = np.tile(np.arange(4.0), (3, 1))
    for ops, lay in ((OPS, np.asarray), (TORCH, torch.from_numpy)):
        found = full_ranking(ops, lay(scores), lay(places), lay(present))
        for row, size in enumerate(sizes):
            e = np.exp(scores[row, :size])
            chance = math.prod(e[k] / e[k:].sum() for k in range(size))
            assert float(found[row]) == pytest.approx(-math.log(chance), abs=1e-12)
        winners = np.array([[1.0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 0]])
        tops = top_one(ops, lay(scores), lay(winners), lay(present))
        for row, size in enumerate(sizes):
            logs = scores[row, :size] - np.log(np.exp(scores[row, :size]).sum())
            wins = np.flatnonzero(winners[row])
            assert float(tops[row]) == pytest.approx(-logs[wins].mean(), abs=1e-12)
        # A pool of two is a pair.
        pair = comparison_losses("bradley-terry", ops, lay(scores[:, 0] - scores[:, 1]))
        two = np.repeat([[1.0, 1, 0, 0]], 3, axis=0)
        assert abs(full_ranking(ops, lay(scores), lay(places), lay(two)) - pair).max() < 1e-12
        tie = comparison_losses(
            "bradley-terry", ops, lay(scores[:, 0] - scores[:, 1]), preference=lay(np.full(3, 0.5))
        )
        assert abs(full_ranking(ops, lay(scores), lay(0 * places), lay(two)) - tie).max() < 1e-12
        # 2 and 3 share the last place but one of four: whichever is chosen, both are gone.
        shared = full_ranking(ops, lay(scores[:1]), lay(np.array([[0.0, 1, 1, 2]])), lay(np.ones((1, 4))))
        e = np.exp(scores[0])
        chance = e[0] / e.sum() * math.sqrt(e[1] * e[2]) / e[1:].sum()
        assert float(shared[0]) == pytest.approx(-math.log(chance), abs=1e-12)


def least(loss, size):
    """Minimise by torch's LBFGS over free scores: the executor of a network."""
    free = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [free], max_iter=500, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss(free)
        value.backward()
        return value

    optimizer.step(closure)
    return free.detach()


@pytest.mark.parametrize("name", COMPARISONS)
def test_free_scores_end_at_the_minimiser(name):
    """Trained by the objective, on all pairs of a random game, compared unequally often and strongly."""
    rng = np.random.default_rng(2)
    size = 6
    wins, shares = random_matrix(rng, size), rng.random((size, size))
    strengths = np.triu(rng.integers(1, 4, (size, size)), 1).astype(float)
    shares, strengths = shares + shares.T, strengths + strengths.T
    first, second = np.triu_indices(size, 1)
    m, p, weight = (torch.from_numpy(table[first, second]) for table in (strengths, wins, shares))

    def loss(r):
        each = comparison_losses(name, TORCH, r[first] - r[second], strength=m, preference=p)
        return (weight * each).sum()

    exact = Pools.of_pairs(name, wins, shares, strengths).minimiser()
    trained = least(loss, size).numpy()
    assert np.abs(trained - trained.mean() - exact).max() < 1e-6
    # And the exact one is flat, which the loss's own derivative says.
    r = torch.from_numpy(exact).requires_grad_()
    assert torch.autograd.grad(loss(r), r)[0].abs().max() < 1e-12


def test_bradley_terry_projects_a_cyclic_game():
    """What is left fits the win rates, Σ_j σ(r_i − r_j) = Σ_j P_ij: a pure cycle ends at even rewards."""
    wins = random_matrix(np.random.default_rng(3), 7)
    r = Pools.of_pairs("bradley-terry", wins).minimiser()
    fitted = 1 / (1 + np.exp(r[None] - r[:, None]))
    assert np.abs(fitted.sum(1) - wins.sum(1)).max() < 1e-12
    cycle = np.array([[0.5, 0.8, 0.2], [0.2, 0.5, 0.8], [0.8, 0.2, 0.5]])
    assert np.abs(Pools.of_pairs("bradley-terry", cycle).minimiser()).max() < 1e-12
    known = np.array([0.3, -1.0, 0.7])
    exact = 1 / (1 + np.exp(known[None] - known[:, None]))
    assert np.abs(Pools.of_pairs("bradley-terry", exact).minimiser() - known).max() < 1e-12


def test_the_embedding_model_ends_at_the_game():
    """Antisymmetric to the bit; free embeddings trained on all pairs have the game's win probabilities."""
    rng = np.random.default_rng(4)
    for size in (2, 3, 6, 7):
        wins = random_matrix(rng, size)
        v, weights = embedding_of(wins)
        logits = embedding_logits(v[:, None], v[None], weights)
        assert np.array_equal(logits, -logits.T)
        assert np.abs(1 / (1 + np.exp(-logits)) - wins).max() < 1e-12
    size = 5
    wins = np.clip(random_matrix(rng, size), 0.1, 0.9)
    first, second = np.triu_indices(size, 1)
    p = torch.from_numpy(wins[first, second])
    start = torch.from_numpy(rng.normal(0, 0.5, (size, 4)))

    def loss(free):
        v = start + free.view(size, 4)
        logits = embedding_logits(v[first], v[second], 1.0)
        return comparison_losses("bradley-terry", TORCH, logits, preference=p).sum()

    v = start + least(loss, size * 4).view(size, 4)
    trained = embedding_logits(v[:, None], v[None], 1.0).sigmoid().numpy()
    assert np.abs(trained - wins).max() < 1e-5
    with pytest.raises(ValueError, match="certain win"):
        embedding_of([[0.5, 1], [0, 0.5]])


def test_rankings_end_at_their_plackett_luce_model():
    """All rankings of four, weighted by a model's probabilities, give the model back; so does their top."""
    known = np.array([0.5, -0.4, 1.2, -1.3])
    rankings = list(itertools.permutations(range(4)))
    e = np.exp(known)
    chances = [math.prod(e[r[k]] / sum(e[i] for i in r[k:]) for k in range(4)) for r in rankings]
    for top in (False, True):
        assert np.abs(Pools.of_rankings(rankings, chances, top=top).minimiser() - known).max() < 1e-12


def test_real_rankings_against_a_general_optimiser():
    rng = np.random.default_rng(5)
    rankings = [rng.permutation(5)[: rng.integers(2, 6)].tolist() for _ in range(40)]
    weights = rng.random(40)

    def loss(r):
        total = 0.0
        for ranking, weight in zip(rankings, weights, strict=True):
            for k in range(len(ranking) - 1):
                left = r[ranking[k:]]
                total += weight * (np.log(np.exp(left).sum()) - left[0])
        return total

    other = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    assert np.abs(Pools.of_rankings(rankings, weights).minimiser() - (other - other.mean())).max() < 1e-5


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000), st.floats(0.1, 10))
def test_what_minimisers_do_not_depend_on(size, seed, factor):
    """The number of comparisons, the names of responses; and turned win rates turn the rewards."""
    rng = np.random.default_rng(seed)
    wins, order = np.clip(random_matrix(rng, size), 0.02, 0.98), rng.permutation(size)
    shares = rng.random((size, size)) + 0.1
    shares = shares + shares.T
    r = Pools.of_pairs("bradley-terry", wins, shares).minimiser()
    assert np.abs(Pools.of_pairs("bradley-terry", wins, factor * shares).minimiser() - r).max() < 1e-8
    assert np.abs(Pools.of_pairs("bradley-terry", wins.T, shares).minimiser() + r).max() < 1e-8
    named = Pools.of_pairs("bradley-terry", wins[order][:, order], shares[order][:, order]).minimiser()
    assert np.abs(named - r[order]).max() < 1e-8


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Pools.of_pairs("bradley-terry", [[0.5, 1], [0, 0.5]]).minimiser(), "no finite reward"),
        (lambda: Pools.of_pairs("margins", np.full((2, 2), 0.5)), "margin"),
        (lambda: Pools.of_pairs("margin", np.full((2, 2), 0.5), strengths=[[0, -1], [-1, 0]]), "strengths"),
        (lambda: Pools.of_pairs("margin", np.full((2, 2), 0.5), shares=np.zeros((2, 2))), "no pair"),
        (lambda: Pools.of_rankings([[0, 1], [2, 3], [1, 0], [3, 2]]).minimiser(), "never meet"),
        (lambda: Pools.of_rankings([[0]]), "at least 2"),
        (lambda: Pools.of_rankings([]), "empty"),
        (lambda: Pools.of_rankings([[0, 1], []]), "empty"),
        (lambda: Pools.of_rankings([[0, 0]]), "different"),
    ],
)
def test_what_has_no_minimiser_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
