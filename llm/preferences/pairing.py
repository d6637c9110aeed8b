"""From the oracles' answers on one prompt's responses to preference pairs and their targets: docs/concepts.md (12).

A prompt has K responses of the policy, places 0..K−1, and those of its opponents after them. Nothing here knows of
texts or files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mnpo.llm.oracles.judged import Judged
from mnpo.numerics import Array

#: Groups of opponents that a group win rate is averaged over, at most; a random choice of them if there are more.
MOST_GROUPS = 512


@dataclass(frozen=True)
class AdvantagePart:
    """A part of the advantage: a coefficient and whom the win rate is against.

    Attributes:
        weight: the coefficient.
        places: for each opponent, the places of its responses; the policy itself: None.
    """

    weight: float
    places: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class Recipe:
    """How pairs are made.

    Attributes:
        pairing, labels: keys of `mnpo.llm.config.judging.PAIRINGS` and `LABELS`.
        own: K.
        parts: whom the win rates are against.
        wanted: whether win rates are asked for, or labels alone.
        group_size: how many opponents a response is judged against at once.
        strength: of an implicit step, η times its coefficient: win rates are against the equilibrium of the sample
            game (`mnpo.llm.preferences.implicit`); None for all other rules.
    """

    pairing: str
    labels: str
    own: int
    parts: tuple[AdvantagePart, ...] = field(default=(AdvantagePart(1.0),))
    wanted: bool = False
    group_size: int = 1
    strength: float | None = None


@dataclass(frozen=True)
class Pair:
    """Places of two responses and what is known of them: numbers of `mnpo.llm.data.formats.NUMBERS`."""

    chosen: int
    rejected: int
    numbers: Mapping[str, float]


def comparisons(recipe: Recipe) -> set[tuple[int, int]]:
    """Return which pairs of places, the smaller first, an oracle of pairs must be asked about."""
    asked: set[tuple[int, int]] = set()
    if recipe.pairing == "third":
        for y, other, third in _triples(recipe):
            asked |= {_ordered(y, third), _ordered(other, third)}
        return asked
    if (
        recipe.pairing == "best-worst"
        or recipe.strength is not None
        or (recipe.wanted and any(part.places is None for part in recipe.parts))
    ):
        asked |= set(itertools.combinations(range(recipe.own), 2))
    else:
        asked |= set(candidates(recipe))
    if recipe.wanted:
        for part in recipe.parts:
            for places in part.places or ():
                asked |= set(itertools.product(range(recipe.own), places))
    return asked


def make_pairs(
    recipe: Recipe, judged: Sequence[Judged], rng: np.random.Generator, credits: Array | None = None
) -> list[Pair]:
    """Return the pairs of one prompt.

    Args:
        recipe: how.
        judged: what each oracle says, their weights summing to 1.
        rng: for labels that are drawn, and groups that are too many.
        credits: of an implicit step, the advantage of each response in a pair with each other one, (K, K).

    Returns:
        Pairs with preference (where labels are soft) or an order that is the label; win_chosen and win_rejected,
        the estimated advantages, if they are wanted; reward_chosen and reward_rejected, the weighted mean rewards,
        if all oracles give them. A tie where a label or a choice is needed makes no pair.
    """
    wins = sum(judge.weight * judge.matrix(recipe.own) for judge in judged)
    assert isinstance(wins, np.ndarray)
    rewards = None
    if all(judge.rewards is not None for judge in judged):
        rewards = np.sum([judge.weight * np.asarray(judge.rewards) for judge in judged], axis=0)
    if recipe.pairing == "third":
        return _third(recipe, wins, rewards, rng)
    pairs = []
    singly = None if credits is None else credits.tolist()
    if singly is None and recipe.wanted and recipe.group_size == 1:
        singly = _single_advantages(recipe, wins)
    for y, other in candidates(recipe, wins, rewards):
        chance = float(wins[y, other])
        if recipe.labels == "sampled":
            first = rng.random() < chance
        else:
            first = chance > 0.5
            if chance == 0.5 and recipe.labels == "hard":
                continue
        chosen, rejected = (y, other) if first else (other, y)
        numbers = {"preference": max(chance, 1 - chance)} if recipe.labels == "soft" else {}
        if singly is not None:
            numbers |= {"win_chosen": singly[chosen][rejected], "win_rejected": singly[rejected][chosen]}
        elif recipe.wanted:
            for name, place in (("win_chosen", chosen), ("win_rejected", rejected)):
                numbers[name] = _advantage(recipe, judged, place, (chosen, rejected), rng)
        pairs.append(Pair(chosen, rejected, numbers | _rewards(rewards, chosen, rejected)))
    return pairs


def candidates(
    recipe: Recipe, wins: Array | None = None, rewards: Array | None = None
) -> list[tuple[int, int]]:
    """Return the places of responses that are paired; without answers, of all that may be."""
    own = range(recipe.own)
    if recipe.pairing == "iid":
        return [(i, i + 1) for i in range(0, recipe.own - 1, 2)]
    if recipe.pairing == "all" or wins is None:
        return list(itertools.combinations(own, 2))
    # Best and worst by the mean reward, or by the win rate against all the others.
    others = ~np.eye(recipe.own, dtype=bool)
    score = rewards[: recipe.own] if rewards is not None else (wins[:, : recipe.own] * others).sum(1)
    best, worst = int(score.argmax()), int(score.argmin())
    return [] if score[best] == score[worst] else [(best, worst)]


def _single_advantages(recipe: Recipe, wins: Array) -> list[list[float]]:
    """Return the advantage of each response in a pair with each other one, against opponents one by one, (K, K).

    See `_advantage`; the diagonal means nothing.
    """
    own = recipe.own
    total = np.zeros((own, own))
    for part in recipe.parts:
        if part.places is None:
            if own < 3:
                raise _too_few(recipe)
            against = wins[np.arange(own)[:, None, None], _others(own)]
        else:
            against = wins[:, None, [place for places in part.places for place in places]]
        # In one order in memory, so that the sums round as they do one by one.
        rates = np.ascontiguousarray(against).mean(-1)
        total += part.weight * rates
    found: list[list[float]] = total.tolist()
    return found


@lru_cache(1)
def _others(own: int) -> npt.NDArray[np.int64]:
    """Return for each pair of responses the places of all others, (K, K, K − 2); any on the diagonal."""
    return np.array(
        [[[z for z in range(own) if z not in (y, x)][: own - 2] for x in range(own)] for y in range(own)]
    )


def _too_few(recipe: Recipe) -> ValueError:
    return ValueError(
        f"num_generations must be at least {recipe.group_size + 2} for win rates against the policy "
        f"itself in groups of {recipe.group_size}; found {recipe.own}"
    )


def _advantage(
    recipe: Recipe, judged: Sequence[Judged], y: int, pair: tuple[int, int], rng: np.random.Generator
) -> float:
    """Σ_c coefficient · mean P(y ≻ O) over groups of opponents' responses.

    Against the policy itself the groups are of its other responses. Both of the pair are left out: were they
    compared with each other too, the gap's expectation would be K/(K − 1) of what it should be.
    """
    total = 0.0
    for part in recipe.parts:
        groups = _groups(recipe, part, pair, rng)
        if not groups:
            raise _too_few(recipe)
        total += part.weight * float(
            np.mean([sum(j.weight * j.against(y, group, recipe.own) for j in judged) for group in groups])
        )
    return total


def _groups(
    recipe: Recipe, part: AdvantagePart, pair: tuple[int, int], rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Return all groups of opponents' responses, or `MOST_GROUPS` draws of them."""
    size = recipe.group_size
    pools: tuple[list[int], ...]
    if part.places is None:
        pools = ([place for place in range(recipe.own) if place not in pair],)
    else:
        pools = tuple(list(places) for places in part.places)
    alone = len(pools) == 1
    count = math.comb(len(pools[0]), size) if alone else math.prod(map(len, pools))
    if count <= MOST_GROUPS:
        return list(itertools.combinations(pools[0], size) if alone else itertools.product(*pools))
    if alone:
        return [tuple(rng.choice(pools[0], size, replace=False).tolist()) for _ in range(MOST_GROUPS)]
    return [tuple(int(rng.choice(pool)) for pool in pools) for _ in range(MOST_GROUPS)]


def _triples(recipe: Recipe) -> list[tuple[int, int, int]]:
    """Pairs of the policy's responses, each with one of an opponent's: (y, y', z)."""
    part = recipe.parts[0]
    if part.places is None:
        return [(i, i + 1, i + 2) for i in range(0, recipe.own - 2, 3)]
    thirds = [place for ranked in zip(*part.places, strict=False) for place in ranked]
    pairs = [(i, i + 1) for i in range(0, recipe.own - 1, 2)]
    return [(*pair, third) for pair, third in zip(pairs, thirds, strict=False)]


def _third(recipe: Recipe, wins: Array, rewards: Array | None, rng: np.random.Generator) -> list[Pair]:
    pairs = []
    for y, other, third in _triples(recipe):
        chances = [float(wins[place, third]) for place in (y, other)]
        if recipe.labels != "soft":
            drawn = recipe.labels == "sampled"
            chances = [
                float(rng.random() < p) if drawn else float(p > 0.5) + 0.5 * (p == 0.5) for p in chances
            ]
        order = (y, other) if chances[0] >= chances[1] else (other, y)
        numbers = {"win_chosen": max(chances), "win_rejected": min(chances)}
        pairs.append(Pair(*order, numbers | _rewards(rewards, *order)))
    return pairs


def _rewards(rewards: Array | None, chosen: int, rejected: int) -> dict[str, float]:
    if rewards is None:
        return {}
    return {"reward_chosen": float(rewards[chosen]), "reward_rejected": float(rewards[rejected])}


def _ordered(first: int, second: int) -> tuple[int, int]:
    return (first, second) if first < second else (second, first)
