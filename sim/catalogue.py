"""Synthetic games by name, with parameters: `rps:bias=0.2`, `random:responses=20,seed=3`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from mnpo.choices import choose, suggestion
from mnpo.numerics import Array, check_memory
from mnpo.options import Option, options_of
from mnpo.oracles import DenseTensor, Heterogeneous, Oracle, Pairwise, PlackettLuce, Population
from mnpo.sim.spec import GameSpec
from mnpo.values import shown

Parameters = dict[str, int | float]

#: Counts and seeds become sizes of arrays and seeds of generators.
_Count = Annotated[int, Option(least=1, most=10**9)]
_Seed = Annotated[int, Option(least=0, most=2**63 - 1)]
_Players = Annotated[int, Option(least=2, most=1000)]
_TensorPlayers = Annotated[int, Option(least=2, most=23)]
#: What utilities are multiplied by; e to a larger one is 0 or infinite.
_Scale = Annotated[float, Option(least=1e-6, most=1e6)]
_Part = Annotated[float, Option(least=0, most=1e6)]


@dataclass(frozen=True)
class CatalogueGame:
    """A game of the catalogue: what it is, and how it is built from its parameters."""

    name: str
    summary: str
    build: Callable[..., Oracle | tuple[Oracle, tuple[str, ...]]]

    @cached_property
    def options(self) -> Mapping[str, Option]:
        """Kinds, defaults and ranges of the parameters by name."""
        return options_of(self.build)

    @property
    def parameters(self) -> Parameters:
        """Names and default values."""
        return {name: option.default for name, option in self.options.items()}

    def label(self, parameter: str) -> str:
        """What a parameter is called in errors."""
        return f"{parameter} of game {self.name!r}"


CATALOGUE: dict[str, CatalogueGame] = {}


def _game(name: str, summary: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        CATALOGUE[name] = CatalogueGame(name, summary, build)
        return build

    return register


def make_game(text: str, *, players: int | None = None, seed: int | None = None) -> GameSpec:
    """Build a game from `name` or `name:key=value,key=value`.

    Args:
        text: the name and parameters.
        players: passed to games that are made for a number of players, unless the text says.
        seed: passed to random games, unless the text says.

    Raises:
        ValueError: an unknown game or parameter (with the nearest name), or a bad value.
    """
    name, _, rest = text.partition(":")
    known = choose(name, CATALOGUE, "game")
    values = _parse(known, rest)
    for key, value in (("players", players), ("seed", seed)):
        if value is None or key not in known.options:
            continue
        if values.setdefault(key, value) != value:
            raise ValueError(f"{key} of game {name!r} is given twice: {values[key]} and {value}")
        known.options[key].check(value, known.label(key))
    _check_sizes(known, {key: int(value) for key, value in {**known.parameters, **values}.items()})
    with np.errstate(all="ignore"):  # what overflows is refused by the oracle
        built = known.build(**values)
    oracle, responses = built if isinstance(built, tuple) else (built, ())
    return GameSpec(name=text, oracle=oracle, responses=responses)


def _check_sizes(known: CatalogueGame, given: Mapping[str, int]) -> None:
    """Refuse a game that would not fit in memory, before it is made."""
    responses, annotators, rank = (given.get(key, 1) for key in ("responses", "annotators", "rank"))
    check_memory(
        (8, given.get("contexts", 1), given.get("players", 1), responses, responses), "the win matrices"
    )
    if given.get("groups", 1) > annotators:
        raise ValueError(
            f"{known.label('groups')} must be at most its annotators, {annotators}; found {given['groups']}"
        )
    check_memory((16, annotators, responses), "the annotators")
    check_memory((2, rank + responses, rank), "the rotation")


def _parse(known: CatalogueGame, text: str) -> Parameters:
    values: Parameters = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"game parameters are written key=value; found {shown(part)}")
        if key in values:
            raise ValueError(f"parameter {key!r} of game {known.name!r} is given twice")
        if key not in known.options:
            raise ValueError(
                f"game {known.name!r} has no parameter {shown(key)}; {suggestion(key[:60], known.options)}"
                if known.options
                else f"game {known.name!r} has no parameters; found {shown(key)}"
            )
        values[key] = known.options[key].read(value, known.label(key))
    return values


@_game(
    "rps",
    "rock-paper-scissors; rock beats scissors by `bias` more than the other wins; in each further context the "
    "roles move on by one and the bias is smaller",
)
def _rps(bias: float = 0.2, strength: float = 0.25, contexts: _Count = 1) -> tuple[Oracle, tuple[str, ...]]:
    matrix = np.full((contexts, 3, 3), 0.5)
    for x in range(contexts):
        biased = strength + bias * (1 - x / contexts)
        for winner, loser, margin in ((1, 0, strength), (2, 1, strength), (0, 2, biased)):
            one, other = (winner + x) % 3, (loser + x) % 3
            matrix[x, one, other], matrix[x, other, one] = 0.5 + margin, 0.5 - margin
    if min(strength, strength + bias) <= 0 or max(strength, strength + bias) > 0.5:
        raise ValueError(
            f"strength and strength + bias of game 'rps' must lie in (0, 0.5]; found {strength:g} and "
            f"{strength + bias:g}"
        )
    return Pairwise(matrix), ("rock", "paper", "scissors")


@_game("cycle", "an odd cycle: each response beats the (k-1)/2 that follow it")
def _cycle(responses: _Count = 5, strength: float = 0.3) -> Oracle:
    if responses < 3 or responses % 2 == 0:
        raise ValueError(f"responses of game 'cycle' must be odd and at least 3; found {responses}")
    if not 0 < strength <= 0.5:
        raise ValueError(f"strength of game 'cycle' must lie in (0, 0.5]; found {strength:g}")
    ahead = (np.arange(responses) - np.arange(responses)[:, None]) % responses
    sign = np.where(ahead == 0, 0.0, np.where(ahead <= responses // 2, 1.0, -1.0))
    return Pairwise(0.5 + strength * sign)


@_game("transitive", "Bradley-Terry with evenly spaced utilities: no cycles")
def _transitive(responses: _Count = 5, spread: _Part = 3.0) -> Oracle:
    utility = np.linspace(spread, 0.0, responses)
    return Pairwise(_sigmoid(utility[:, None] - utility))


@_game("transitive-cyclic", "sigmoid(r_i - r_j + cyclic * C_ij): a transitive and a random cyclic part")
def _transitive_cyclic(
    responses: _Count = 6, cyclic: _Part = 2.0, contexts: _Count = 1, seed: _Seed = 0
) -> Oracle:
    rng = np.random.default_rng(seed)
    utility = rng.standard_normal((contexts, responses))
    noise = rng.standard_normal((contexts, responses, responses))
    skew = (noise - noise.swapaxes(-1, -2)) / np.sqrt(2)
    return Pairwise(_sigmoid(utility[..., :, None] - utility[..., None, :] + cyclic * skew))


@_game("random", "every pair's win probability drawn uniformly from [0, 1]")
def _random(responses: _Count = 10, contexts: _Count = 1, seed: _Seed = 0) -> Oracle:
    return Pairwise(_random_matrix(np.random.default_rng(seed), (contexts,), responses))


@_game("embedding", "sigmoid(v_i' R v_j) with skew-symmetric R of the given rank (general preference model)")
def _embedding(responses: _Count = 8, rank: _Count = 1, scale: _Scale = 2.0, seed: _Seed = 0) -> Oracle:
    vectors = np.random.default_rng(seed).standard_normal((responses, 2 * rank))
    rotation = np.kron(np.eye(rank), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    return Pairwise(_sigmoid(scale * vectors @ rotation @ vectors.T))


@_game("condorcet", "a response that beats every other by `margin`, above a cycle")
def _condorcet(responses: _Count = 4, margin: float = 0.1, strength: float = 0.3) -> Oracle:
    if responses < 4 or responses % 2:
        raise ValueError(f"responses of game 'condorcet' must be even and at least 4; found {responses}")
    if not 0 < margin <= 0.5:
        raise ValueError(f"margin of game 'condorcet' must lie in (0, 0.5]; found {margin:g}")
    matrix = np.full((responses, responses), 0.5)
    cycle = _cycle(responses - 1, strength)
    assert isinstance(cycle, Pairwise)
    matrix[1:, 1:] = cycle.matrix[0]
    matrix[0, 1:], matrix[1:, 0] = 0.5 + margin, 0.5 - margin
    return Pairwise(matrix)


@_game("plackett-luce", "one annotator with normal utilities; the group's winner by Plackett-Luce")
def _plackett_luce(
    responses: _Count = 6, scale: _Scale = 1.0, contexts: _Count = 1, seed: _Seed = 0
) -> Oracle:
    return PlackettLuce(scale * np.random.default_rng(seed).standard_normal((contexts, responses)))


@_game("annotators", "a population: Mallows rankings around centres that are rotations of each other")
def _annotators(
    responses: _Count = 6, annotators: _Count = 300, groups: _Count = 3, phi: float = 0.3, seed: _Seed = 0
) -> tuple[Oracle, tuple[str, ...]]:
    if not 0 <= phi <= 1:
        raise ValueError(f"phi of game 'annotators' must lie in [0, 1]; found {phi:g}")
    from prefsampling.ordinal import mallows

    # Rotated centres (Condorcet's paradox) make majority cycles; groups of unlike size make them uneven.
    shares = np.linspace(1.1, 0.9, groups) if groups > 1 else np.ones(1)
    sizes = np.maximum(1, np.round(annotators * shares / shares.sum())).astype(int)
    rankings: list[list[int]] = []
    for group, size in enumerate(sizes):
        centre = np.roll(np.arange(responses), -group * responses // groups)
        # The sampler draws nothing for one response, and there is nothing to draw.
        drawn = (
            mallows(int(size), responses, phi, central_vote=centre, seed=seed * groups + group)
            if responses > 1
            else [[0]] * int(size)
        )
        rankings += [list(map(int, vote)) for vote in drawn]
    levels = np.argsort(np.asarray(rankings), axis=-1)
    unique, counts = np.unique(levels, axis=0, return_counts=True)
    return Population(levels=unique, level_weights=counts), _letters(responses)


@_game("pl-annotators", "a population of annotators with Plackett-Luce utilities around rotated centres")
def _pl_annotators(
    responses: _Count = 6,
    annotators: _Count = 30,
    groups: _Count = 3,
    spread: _Part = 4.0,
    noise: _Part = 0.5,
    seed: _Seed = 0,
) -> Oracle:
    rng = np.random.default_rng(seed)
    base = np.linspace(spread, 0.0, responses)
    centres = [np.roll(base, group * responses // groups) for group in range(groups)]
    utilities = np.stack([centres[v % groups] for v in range(annotators)])
    return Population(utilities=utilities + noise * rng.standard_normal(utilities.shape))


@_game("minority", "two groups with opposite favourites: two players ignore the smaller one, many do not")
def _minority(share: float = 0.3, responses: _Count = 4) -> Oracle:
    if not 0 < share < 1:
        raise ValueError(f"share of game 'minority' must lie in (0, 1); found {share:g}")
    order = np.arange(responses)
    return Population(levels=np.stack([order, order[::-1]]), level_weights=[1 - share, share])


@_game("committee", "players with conflicting oracles: each has a transitive taste of its own plus noise")
def _committee(
    players: _Players = 3, responses: _Count = 6, conflict: _Part = 1.0, contexts: _Count = 1, seed: _Seed = 0
) -> Oracle:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((contexts, responses))
    oracles = []
    for _ in range(players):
        utility = common + conflict * rng.standard_normal((contexts, responses))
        noise = rng.standard_normal((contexts, responses, responses))
        skew = (noise - noise.swapaxes(-1, -2)) / np.sqrt(2)
        oracles.append(Pairwise(_sigmoid(utility[..., :, None] - utility[..., None, :] + skew)))
    return Heterogeneous(oracles)


@_game("tensor", "a dense random table of group win probabilities, the same for all players")
def _tensor(players: _TensorPlayers = 3, responses: _Count = 4, seed: _Seed = 0) -> Oracle:
    check_memory((2 + players + responses, *(responses,) * players), "a tensor with its tables")
    shape = (responses,) * players
    rng = np.random.default_rng(seed)
    index = np.stack(np.unravel_index(np.arange(responses**players), shape))
    # Every multiset of responses has a random weight for each response, whatever the order of the group; a
    # response wins with its share of the group's weights, so that the players' win probabilities sum to 1.
    multiset = np.ravel_multi_index(tuple(np.sort(index, axis=0)), shape)
    weights = rng.exponential(size=(responses**players, responses))[multiset]
    members = np.take_along_axis(weights, index.T, axis=1)
    return DenseTensor((members[:, 0] / members.sum(axis=1)).reshape(shape), players=players)


def _letters(count: int) -> tuple[str, ...]:
    """A, B, .., Z, and numbers where there are more."""
    return tuple(chr(ord("A") + index) for index in range(count)) if count <= 26 else ()


def _sigmoid(values: Array) -> Array:
    result: Array = 0.5 * (1.0 + np.tanh(0.5 * values))
    return result


def _random_matrix(rng: np.random.Generator, batch: tuple[int, ...], responses: int) -> Array:
    upper = np.triu(rng.random((*batch, responses, responses)), 1)
    lower = np.tril(1.0 - upper.swapaxes(-1, -2), -1)
    return upper + lower + 0.5 * np.eye(responses)
