"""What pairs teach: the regression over all draws, weighted by their probability, against the advantage itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnpo.llm.oracles.judged import Judged
from mnpo.llm.preferences.pairing import AdvantagePart, Recipe, comparisons, make_pairs
from mnpo.numerics import Array
from mnpo.oracles import Pairwise, PlackettLuce

POLICY, PAST = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
WINS = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])
UTILITIES = np.array([0.3, -1.1, 1.4])
ETA = 1.7


def draws(policies: list[Array]) -> Iterator[tuple[float, tuple[int, ...]]]:
    """All ways to draw one response from each policy, with their probabilities."""
    for places in itertools.product(range(3), repeat=len(policies)):
        yield float(np.prod([p[y] for p, y in zip(policies, places, strict=True)])), places


def judged(
    places: tuple[int, ...], own: int, utilities: Array | None, asked: set[tuple[int, int]]
) -> list[Judged]:
    """Half the weight on a matrix and half on rewards; a matrix knows only what was asked."""
    drawn = np.array(places)
    wins = WINS[drawn[:own, None], drawn[None, :]]
    known = np.eye(own, len(places), dtype=bool)
    for first, second in asked:
        known[first, second] = True
        if second < own:
            known[second, first] = True
    pairwise = Judged(1.0 if utilities is None else 0.5, wins=np.where(known, wins, np.nan))
    return [pairwise] if utilities is None else [pairwise, Judged(0.5, rewards=utilities[drawn])]


def learnt(recipe: Recipe, policies: list[Array], utilities: Array | None = None) -> Array:
    """What least squares on infinitely many prompts' pairs tends to, up to a constant."""
    normal, right = np.zeros((3, 3)), np.zeros(3)
    asked = comparisons(recipe)
    for chance, places in draws(policies):
        answers = judged(places, recipe.own, utilities, asked)
        for pair in make_pairs(recipe, answers, np.random.default_rng(0)):
            gap = np.eye(3)[places[pair.chosen]] - np.eye(3)[places[pair.rejected]]
            if recipe.wanted or recipe.pairing == "third":
                target = ETA * (pair.numbers["win_chosen"] - pair.numbers["win_rejected"])
            else:
                target = ETA * (pair.numbers["preference"] - 0.5)
            normal += chance * np.outer(gap, gap)
            right += chance * target * gap
    found = np.linalg.pinv(normal) @ right
    return np.asarray(found - found.mean())


def expected(*parts: tuple[float, Array, int], utilities: Array | None = None) -> Array:
    """η Σ_c coefficient · P(y ≻ O), by the oracles of the table."""
    total = np.zeros(3)
    for weight, opponents, size in parts:
        oracles = (
            [(Pairwise(WINS), 1.0)]
            if utilities is None
            else [(Pairwise(WINS), 0.5), (PlackettLuce(utilities), 0.5)]
        )
        group = np.broadcast_to(opponents, (1, 1, 3))
        total += weight * sum(w * oracle.against(group, counts=[size])[0] for oracle, w in oracles)
    return np.asarray(ETA * (total - total.mean()))


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(
    ("recipe", "policies", "parts"),
    [
        (Recipe("iid", "soft", 4), [POLICY] * 4, [(1.0, POLICY, 1)]),
        (Recipe("all", "soft", 3), [POLICY] * 3, [(1.0, POLICY, 1)]),
        (Recipe("all", "soft", 4, wanted=True), [POLICY] * 4, [(1.0, POLICY, 1)]),
        (Recipe("third", "soft", 3), [POLICY] * 3, [(1.0, POLICY, 1)]),
        (Recipe("third", "soft", 2, (AdvantagePart(1.0, ((2,),)),)), [POLICY, POLICY, PAST], [(1.0, PAST, 1)]),
        (Recipe("iid", "soft", 2, (AdvantagePart(1.0, ((2, 3),)),), True), [POLICY] * 2 + [PAST] * 2, [(1.0, PAST, 1)]),
        (
            Recipe("all", "soft", 3, (AdvantagePart(2.0), AdvantagePart(-1.0, ((3,),))), True),
            [POLICY] * 3 + [PAST],
            [(2.0, POLICY, 1), (-1.0, PAST, 1)],
        ),
        (Recipe("iid", "soft", 5, wanted=True, group_size=2), [POLICY] * 5, [(1.0, POLICY, 2)]),
        (
            Recipe("iid", "soft", 2, (AdvantagePart(1.0, ((2, 3, 4),)),), True, 2),
            [POLICY] * 2 + [PAST] * 3,
            [(1.0, PAST, 2)],
        ),
    ],
    ids=["iid-label", "all-label", "win-rate", "third", "third-opponent", "opponent", "optimistic", "group", "group-opponent"],
)  # fmt: skip
def test_pairs_teach_the_advantage(
    recipe: Recipe, policies: list[Array], parts: list[tuple[float, Array, int]], mixed: bool
) -> None:
    """Exactly, with as few as two responses: the estimators are unbiased, not only consistent."""
    utilities = UTILITIES if mixed else None
    found = learnt(recipe, policies, utilities)
    np.testing.assert_allclose(found, expected(*parts, utilities=utilities), atol=1e-12)


def test_two_opponents_in_one_group() -> None:
    """One response of each: P(y ≻ {z, z'}) under z from one policy and z' from another."""
    recipe = Recipe("iid", "soft", 2, (AdvantagePart(1.0, ((2,), (3,))),), True, 2)
    found = learnt(recipe, [POLICY, POLICY, POLICY, PAST], UTILITIES)
    opponents = np.stack([POLICY, PAST])[:, None, :]
    value = 0.5 * sum(oracle.against(opponents)[0] for oracle in (Pairwise(WINS), PlackettLuce(UTILITIES)))
    np.testing.assert_allclose(found, ETA * (value - value.mean()), atol=1e-12)


def test_best_against_worst_is_biased() -> None:
    found = learnt(Recipe("best-worst", "soft", 3), [POLICY] * 3)
    assert np.abs(found - expected((1.0, POLICY, 1))).max() > 0.05


def test_counting_the_pair_itself_would_be_biased() -> None:
    """Why both responses of a pair are left out of each other's win rate: the gap would be K/(K − 1) too large."""
    normal, right = np.zeros((3, 3)), np.zeros(3)
    for chance, places in draws([POLICY] * 3):
        drawn = np.array(places)
        wins = WINS[drawn[:, None], drawn[None, :]]
        rates = (wins.sum(1) - 0.5) / 2
        for y, other in itertools.combinations(range(3), 2):
            gap = np.eye(3)[drawn[y]] - np.eye(3)[drawn[other]]
            normal += chance * np.outer(gap, gap)
            right += chance * ETA * (rates[y] - rates[other]) * gap
    found = np.linalg.pinv(normal) @ right
    np.testing.assert_allclose(found - found.mean(), 1.5 * expected((1.0, POLICY, 1)), atol=1e-12)


def test_labels_are_drawn_with_their_probability() -> None:
    recipe = Recipe("iid", "sampled", 2)
    answers = [Judged(1.0, wins=np.array([[0.5, 0.8], [0.2, 0.5]]))]
    rng = np.random.default_rng(0)
    found = [make_pairs(recipe, answers, rng)[0] for _ in range(4000)]
    assert all(not pair.numbers for pair in found)
    assert np.mean([pair.chosen == 0 for pair in found]) == pytest.approx(0.8, abs=0.02)
    third = Recipe("third", "sampled", 3)
    wins = np.array([[0.5, np.nan, 0.7], [np.nan, 0.5, 0.4], [0.3, 0.6, 0.5]])
    gaps = []
    for _ in range(4000):
        (pair,) = make_pairs(third, [Judged(1.0, wins=wins)], rng)
        gap = pair.numbers["win_chosen"] - pair.numbers["win_rejected"]
        assert gap in (0, 1)
        gaps.append(gap if pair.chosen == 0 else -gap)
    assert np.mean(gaps) == pytest.approx(0.3, abs=0.04)


@given(st.integers(2, 6), st.integers(0, 10**6), st.sampled_from(["iid", "all", "best-worst"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_only_what_is_asked_is_used(own: int, seed: int, pairing: str, wanted: bool) -> None:
    """Answers outside of `comparisons` are NaN and never reach a pair; swapping the matrix swaps the labels."""
    wanted = wanted and own > 2
    rng = np.random.default_rng(seed)
    skew = rng.normal(size=(own, own))
    wins = 1 / (1 + np.exp(skew.T - skew))
    recipe = Recipe(pairing, "hard", own, wanted=wanted)
    known = np.full((own, own), np.nan)
    for first, second in comparisons(recipe):
        known[first, second], known[second, first] = wins[first, second], wins[second, first]
    known[range(own), range(own)] = 0.5
    pairs = make_pairs(recipe, [Judged(1.0, wins=known)], rng)
    assert {"iid": own // 2, "all": own * (own - 1) // 2, "best-worst": 1}[pairing] == len(pairs)
    for pair in pairs:
        assert wins[pair.chosen, pair.rejected] > 0.5 or pairing == "best-worst"
        assert all(np.isfinite(value) for value in pair.numbers.values())


def test_ties_make_no_pair_where_a_choice_is_needed() -> None:
    even = [Judged(1.0, wins=np.full((3, 3), 0.5))]
    rng = np.random.default_rng(0)
    assert make_pairs(Recipe("best-worst", "soft", 3), even, rng) == []
    assert make_pairs(Recipe("iid", "hard", 2), even, rng) == []
    assert len(make_pairs(Recipe("iid", "soft", 2), even, rng)) == 1


def test_win_rates_against_single_opponents_are_means_one_by_one() -> None:
    """All at once, with the bits of one at a time."""
    rng = np.random.default_rng(0)
    for own, others in ((3, 1), (8, 17), (11, 9)):
        wins = rng.random((own, own + others))
        places = tuple(range(own, own + others))
        parts = (AdvantagePart(2.0), AdvantagePart(-0.7, (places,)))
        for pair in make_pairs(Recipe("all", "soft", own, parts, True), [Judged(1.0, wins=wins)], rng):
            for name, y in (("win_chosen", pair.chosen), ("win_rejected", pair.rejected)):
                rest = [z for z in range(own) if z not in (pair.chosen, pair.rejected)]
                value = 0.0 + 2.0 * float(wins[y, rest].mean())
                assert pair.numbers[name] == value + -0.7 * float(wins[y, list(places)].mean())
