"""The sample game of a prompt's responses: what an implicit step credits them with (docs/concepts.md, (15))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnpo.llm.oracles.judged import Judged
from mnpo.llm.preferences.pairing import Recipe, candidates
from mnpo.numerics import Array
from mnpo.oracles import Oracle, Pairwise, PlackettLuce, panel
from mnpo.sample_game import sample_game


class Credited(NamedTuple):
    """What responses to some prompts are credited with.

    Attributes:
        advantages: (X, K, K), of the row's response in a pair with the column's; NaN where they make no pair.
        effective: (X,), how many equal responses the importance weights are worth.
        collapsed: (X,), whether that is fewer than the sample game needs to be one.
    """

    advantages: Array
    effective: Array
    collapsed: np.ndarray


def credited(recipe: Recipe, judged: Sequence[Sequence[Judged]], log_weights: Array) -> Credited:
    """Solve the sample games of some prompts, all pairs of responses left out in turn.

    Args:
        recipe: how pairs are made; with a strength.
        judged: of each prompt, what each oracle says.
        log_weights: log ν − log π of the responses, (X, K).

    Raises:
        ValueError: fewer than three responses, or win probabilities that are none.
    """
    assert recipe.strength is not None
    pairs = candidates(recipe)
    players = recipe.group_size + 1
    found = sample_game(
        oracle_of(judged, recipe.own, players), log_weights, pairs, strength=recipe.strength, players=players
    )
    first, second = np.array(pairs).T
    advantages = np.full((len(judged), recipe.own, recipe.own), np.nan)
    advantages[:, first, second] = found.advantages[..., 0]
    advantages[:, second, first] = found.advantages[..., 1]
    return Credited(advantages, found.effective, found.collapsed)


def oracle_of(judged: Sequence[Sequence[Judged]], own: int, players: int) -> Oracle:
    """Return what a panel says of the first K responses to each prompt, as the oracle of a game.

    Rewards are Plackett–Luce utilities, of two players Bradley–Terry's; several members are a population.

    Args:
        judged: of each prompt, by member.
        own: K.
        players: n.
    """
    by_member = list(zip(*judged, strict=True))
    weights = [said[0].weight for said in by_member]
    if players == 2:
        matrices = [np.stack([one.matrix(own)[:, :own] for one in said]) for said in by_member]
        return Pairwise(np.tensordot(weights, matrices, axes=1))
    members: list[Oracle] = []
    for said in by_member:
        rewards = [one.rewards[:own] for one in said if one.rewards is not None]
        members.append(
            PlackettLuce(np.stack(rewards)[None])
            if rewards
            else Pairwise(np.stack([one.matrix(own)[:, :own] for one in said]))
        )
    return panel(members, weights)
