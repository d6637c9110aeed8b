"""Gaps from samples: against a plain computation, and on both sides of the exact gap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import expit

from mnpo import Game, Heterogeneous, Pairwise, PlackettLuce, Population, dual_gap, exploitability, nash_conv
from mnpo.gap_estimates import Estimates, Verdicts, bootstrap, estimate
from mnpo.numerics import Array


def _drawn(
    rng: np.random.Generator, policy: Array, reference: Array, prompts: int, count: int
) -> tuple[Array, Array]:
    """Responses (prompts, 2K) and their log-ratios."""
    found = [rng.choice(len(policy), p=p, size=(prompts, count)) for p in (policy, reference)]
    responses = np.concatenate(found, axis=1)
    return responses, np.log(policy / reference)[responses]


def _tables(seed: int, size: int) -> tuple[np.random.Generator, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    wins = rng.random((size, size))
    return rng, (wins + 1 - wins.T) / 2, rng.dirichlet(np.ones(size)), rng.dirichlet(np.full(size, 2.0))


def _brackets(found: Estimates, exact: float) -> tuple[float, float]:
    """Check that intervals' inner ends are not beyond the exact gap; return how far each side is from it."""
    low, high = bootstrap([found.plug_in, found.split], np.random.default_rng(1))
    assert high[0] >= exact >= low[1]
    return float(found.plug_in.mean()) - exact, exact - float(found.split.mean())


@pytest.mark.parametrize(
    ("count", "tau", "wins_by"), [(4, 0.05, "pairs"), (5, 0.3, "pairs"), (6, 0.2, "both")]
)
def test_a_plain_computation_agrees(count: int, tau: float, wins_by: str) -> None:
    """Group win rates by listing all groups, weights and values as the definitions have them, prompt by prompt."""
    rng = np.random.default_rng(0)
    ratios, wins = rng.normal(size=(3, 2 * count)), rng.random((3, 2 * count, count))
    utilities = rng.normal(size=(3, 2 * count)) * 2
    shares = {"pairs": 1.0, "utilities": 0.0} if wins_by == "pairs" else {"pairs": 0.4, "utilities": 0.6}
    group = 1 if wins_by == "pairs" else 2
    parts = [Verdicts(shares["pairs"], wins=wins[:, :, None])]
    if group > 1:
        parts.append(Verdicts(shares["utilities"], utilities=utilities))
    found = estimate(ratios, parts, tau, group=group)

    def q(x: int, y: int, opponents: list[int]) -> float:
        others = [o for o in opponents if o != y]
        strength = np.exp(utilities[x])
        won = [
            strength[y] / (strength[y] + sum(strength[[*g]])) for g in itertools.combinations(others, group)
        ]
        return shares["pairs"] * wins[x, y, others].mean() + shares["utilities"] * float(np.mean(won))

    for x in range(3):
        rho = np.exp(ratios[x])
        kl = np.mean([(r * np.log(r) - r + 1) / (r / 2 + 0.5) for r in rho])
        payoff = shares["pairs"] / 2 + shares["utilities"] / (group + 1) - tau * kl
        weights = 1 / (rho / 2 + 0.5)
        weights /= weights.sum()
        rates = np.array([q(x, y, [*range(count)]) for y in range(2 * count)])
        tilted = weights * np.exp(rates / tau)
        plug_in = tau * np.log(tilted.sum()) - payoff
        split = []
        front = [*range((count + 1) // 2)]
        back = [*range((count + 1) // 2, count)]
        for choose, by in ((front, back), (back, front)):
            pool = [*choose, *range(count, 2 * count)]
            share = len(choose) / len(pool)
            w = 1 / (share * rho[pool] + 1 - share) / len(pool)
            p = w * np.exp(np.array([q(x, y, choose) for y in pool]) / tau)
            p /= p.sum()
            split.append(p @ [q(x, y, by) for y in pool] - tau * (p @ np.log(p / w)) - payoff)
        assert found.plug_in[x] == pytest.approx((group + 1) * plug_in)
        assert found.split[x] == pytest.approx((group + 1) * np.mean(split))
        assert found.effective[x] == pytest.approx(tilted.sum() ** 2 / (tilted**2).sum())


def test_both_sides_close_in_on_the_duality_gap() -> None:
    """The Fact on the bracket: 20 responses, τ = 0.05; K = 8, 32 and 128."""
    rng, wins, reference, policy = _tables(3, 20)
    exact = float(dual_gap(Game(Pairwise(wins), 2, 0.05, reference), policy))
    above, below = [], []
    for count in (8, 32, 128):
        y, ratios = _drawn(rng, policy, reference, 120, count)
        part = Verdicts(1.0, wins=wins[y[:, :, None], y[:, None, :count]][:, :, None])
        over, under = _brackets(estimate(ratios, [part], 0.05), exact)
        above.append(over)
        below.append(under)
    assert above[0] > 2 * above[1] > 4 * above[2] > 0
    assert below[0] > 2 * below[1] > 4 * below[2] > 0


def test_split_is_too_low_where_responses_differ_in_quality_alone() -> None:
    """A transitive game: were the half that values chosen from as well, split would be too high."""
    rng = np.random.default_rng(0)
    worth, tau, count = 2 * rng.normal(size=20), 0.05, 8
    reference = rng.dirichlet(np.ones(20))
    wins = expit(worth[:, None] - worth)
    policy = reference * np.exp(1.5 * worth)
    policy /= policy.sum()
    exact = float(dual_gap(Game(Pairwise(wins), 2, tau, reference), policy))
    y, ratios = _drawn(rng, policy, reference, 20000, count)
    found = estimate(ratios, [Verdicts(1.0, utilities=worth[y])], tau)
    error = found.split.std() / np.sqrt(found.split.size)
    assert found.split.mean() < exact + 2 * error
    assert found.plug_in.mean() > exact


@pytest.mark.parametrize("kind", ["plackett-luce", "population"])
def test_groups_of_three(kind: str) -> None:
    """NashConv of three players who are alike, with one annotator and with two who disagree."""
    rng, _, reference, policy = _tables(1, 8)
    worth = rng.normal(size=(2, 8)) * 2
    shares = [1.0] if kind == "plackett-luce" else [0.7, 0.3]
    utilities = worth[: len(shares)]
    oracle = PlackettLuce(worth[0]) if len(shares) == 1 else Population(None, None, utilities, shares)
    exact = float(nash_conv(Game(oracle, 3, 0.05, reference), [policy] * 3))
    last = np.inf
    for count in (8, 32):
        y, ratios = _drawn(rng, policy, reference, 300, count)
        parts = [Verdicts(share, utilities=u[y]) for share, u in zip(shares, utilities, strict=True)]
        over, under = _brackets(estimate(ratios, parts, 0.05, group=2), exact)
        assert over + under < 0.6 * last
        last = over + under


@pytest.mark.parametrize("group", [1, 2])
def test_one_player_against_others(group: int) -> None:
    """Exploitability of a player whose opponents play otherwise: one by one, and both at once."""
    rng, _, reference, policy = _tables(2, 8)
    worth, others = rng.normal(size=8) * 2, rng.dirichlet(np.ones(8), size=2)
    wins = expit(worth[:, None] - worth)
    oracle = Pairwise(wins) if group == 1 else PlackettLuce(worth)
    game = Game(Heterogeneous([oracle] * 3), 3, 0.05, reference)
    exact = float(exploitability(game, [policy, *others])[0])
    y, ratios = _drawn(rng, policy, reference, 400, 32)
    met = np.stack([rng.choice(8, p=p, size=(400, 32)) for p in others], axis=1)
    said = Verdicts(1.0, utilities=worth[y], opponents=worth[met])
    found = estimate(ratios, [said], 0.05, group=group, alike=False)
    over, under = _brackets(found, exact)
    assert max(abs(over), abs(under)) < 0.03


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """Few prompts, where percentiles alone hold it in 90 of 100 cases."""
    rng = np.random.default_rng(0)
    low, high = bootstrap(rng.random((2000, 8)), rng)
    assert np.mean((low <= 0.5) & (high >= 0.5)) == pytest.approx(0.95, abs=0.015)


def test_what_cannot_be_estimated_is_refused() -> None:
    part = [Verdicts(1.0, wins=np.full((2, 6, 1, 3), 0.5))]
    with pytest.raises(ValueError, match="responses must be at least 4 of each for groups of 2; found 3"):
        estimate(np.zeros((2, 6)), part, 0.1)
    with pytest.raises(ValueError, match="tau must be a number above 0; found 0"):
        estimate(np.zeros((2, 8)), part, 0)
    with pytest.raises(ValueError, match="at least 2 prompts; found 1"):
        bootstrap([0.0], np.random.default_rng(0))
