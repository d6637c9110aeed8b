"""The sample game of judged responses: by hand for every kind of panel, and what it asks for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import expit, logsumexp

from mnpo.llm.oracles.judged import Judged
from mnpo.llm.preferences.implicit import credited
from mnpo.llm.preferences.pairing import Recipe, comparisons, make_pairs
from mnpo.numerics import Array

K, ETA = 5, 3.0
RNG = np.random.default_rng(0)
REWARDS = RNG.standard_normal((2, K))
_UPPER = np.triu(RNG.random((K, K)), 1)
WINS = _UPPER + np.tril(1 - _UPPER.T, -1) + 0.5 * np.eye(K)
WEIGHTS = RNG.standard_normal(K)

PANELS = {
    "pairs": [Judged(1.0, wins=WINS)],
    "reward": [Judged(1.0, rewards=REWARDS[0])],
    "rewards": [Judged(0.3, rewards=REWARDS[0]), Judged(0.7, rewards=REWARDS[1])],
    "both": [Judged(0.4, wins=WINS), Judged(0.6, rewards=REWARDS[0])],
}


def wins_against(judged: list[Judged], policy: Array, players: int) -> Array:
    """q by going through all groups of n − 1 draws from the policy."""
    found = np.zeros(K)
    for group in itertools.product(range(K), repeat=players - 1):
        chance = float(np.prod(policy[list(group)]))
        for one in judged:
            if one.wins is not None:
                won = one.wins[:, list(group)].mean(axis=1)
            elif one.rewards is not None and players == 2:
                won = expit(one.rewards - one.rewards[group[0]])
            else:
                assert one.rewards is not None
                others = logsumexp(one.rewards[list(group)])
                won = np.exp(one.rewards - np.logaddexp(one.rewards, others))
            found += one.weight * chance * won
    return found


def by_hand(judged: list[Judged], pair: tuple[int, int], players: int) -> Array:
    """Small steps towards the best response, with the pair's weights at 0."""
    left = np.array([k not in pair for k in range(K)])
    logs = np.where(left, WEIGHTS, -np.inf)
    for _ in range(250):
        policy = np.exp(logs - logsumexp(logs))
        logs = np.where(
            left, 0.8 * logs + 0.2 * (WEIGHTS + ETA * wins_against(judged, policy, players)), -np.inf
        )
    return wins_against(judged, np.exp(logs - logsumexp(logs)), players)[list(pair)]


@pytest.mark.parametrize("players", [2, 3])
@pytest.mark.parametrize("panel", list(PANELS))
def test_credits_by_hand(panel: str, players: int) -> None:
    recipe = Recipe("all", "soft", K, wanted=True, group_size=players - 1, strength=ETA)
    found = credited(recipe, [PANELS[panel]], WEIGHTS[None])
    for i, j in ((0, 1), (2, 4)):
        wanted = by_hand(PANELS[panel], (i, j), players)
        assert [found.advantages[0, i, j], found.advantages[0, j, i]] == pytest.approx(
            wanted.tolist(), abs=1e-12
        )
    pairs = make_pairs(recipe, PANELS[panel], np.random.default_rng(0), found.advantages[0])
    assert len(pairs) == K * (K - 1) // 2
    for pair in pairs:
        assert pair.numbers["win_chosen"] == found.advantages[0, pair.chosen, pair.rejected]
        assert pair.numbers["win_rejected"] == found.advantages[0, pair.rejected, pair.chosen]


@pytest.mark.parametrize("pairing", ["all", "iid", "best-worst"])
def test_all_pairs_are_asked_about_once(pairing: str) -> None:
    """Also where few of them are trained on: the others are the game."""
    recipe = Recipe(pairing, "soft", K, wanted=True, strength=ETA)
    assert comparisons(recipe) == set(itertools.combinations(range(K), 2))
    found = credited(recipe, [PANELS["pairs"]], WEIGHTS[None])
    for pair in make_pairs(recipe, PANELS["pairs"], np.random.default_rng(0), found.advantages[0]):
        assert np.isfinite([pair.numbers["win_chosen"], pair.numbers["win_rejected"]]).all()


def test_a_matrix_with_holes_is_refused() -> None:
    holes = np.where(np.arange(K) == 3, np.nan, WINS)
    recipe = Recipe("all", "soft", K, wanted=True, strength=ETA)
    with pytest.raises(ValueError, match=r"matrix must be finite; found nan at index \[0, 0, 3\]"):
        credited(recipe, [[Judged(1.0, wins=holes)]], WEIGHTS[None])
