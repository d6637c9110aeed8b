"""The gap of a policy of which only samples are known, from above and from below: docs/concepts.md, (16).

For a prompt there are K responses of π and K of π_ref, with log π/π_ref of each, and what an oracle says of all 2K
against the opponents' responses. The gap is V − u with V = τ log E_{y∼π_ref} exp(q(y)/τ), (6) and (7).

* *Plug-in*: q̂, the win rate against all opponents' responses, is put into V. V is convex in q, so noise in q̂
  raises it. The 2K responses are weighed by π_ref/(½π + ½π_ref), and the weights are made to sum to 1: by Jensen's
  inequality that raises V̂ as well, against weights that are left as they are. One error goes the other way: a best
  response that is never among the 2K is missed, and then plug-in is too low.
* *Split*: a distribution p over responses is chosen by one half of the opponents' responses, and is worth what it
  wins against the other half, ⟨p, q̂⟩ − τ KL(p ‖ π_ref). The half that values must not be chosen from: a response
  would be chosen for the weakness of those that it then meets. So p is over the first half and π_ref's responses.
  Their weights are w = π_ref/(απ + (1 − α)π_ref), α the share of the first half, left as they are. Given the
  responses, ⟨p, q̂⟩ then has the mean ⟨p, q⟩, so split's V̂ is at most τ log mean w exp(q/τ) in the mean; and the
  mean of that is at most V, by Jensen's inequality. So split's mean is at most the gap, for all K, τ and policies.

KL(π ‖ π_ref) is estimated without bias, so that it moves neither: the mean over all 2K responses of
(ρ log ρ − ρ + 1)/(½ρ + ½), ρ = π/π_ref, which is never negative, and near 2 log ρ where ρ is large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr
from scipy.stats import t as student

from mnpo.numerics import Array, as_array, logsumexp
from mnpo.oracles.plackett_luce import PlackettLuce

#: Resamples of a bootstrap, and how many numbers of it are in memory at once.
RESAMPLES = 2000
_AT_ONCE = 2**22

_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What one annotator, or all annotators of a kind together, says of X prompts' responses.

    One of `wins` and `utilities` is given.

    Attributes:
        weight: its share of the population; all sum to 1.
        wins: P(response ≻ opponent's response), (X, 2K, M, K) for M opponents with K responses each. Players who
            are alike are each other's opponents: M = 1, and the opponents' responses are the first K.
        utilities: r of Plackett–Luce, (X, 2K).
        opponents: r of the opponents' responses, (X, M, K); None for players who are alike.
    """

    weight: float
    wins: Array | None = None
    utilities: Array | None = None
    opponents: Array | None = None


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates of the gap for each prompt, (X,).

    Attributes:
        plug_in: too high in the mean, as far as the best response is among the responses.
        split: too low in the mean.
        effective: 1/Σ p² of the best response's weights p: on how many of the 2K responses it rests.
    """

    plug_in: Array
    split: Array
    effective: Array


def estimate(
    log_ratios: npt.ArrayLike, verdicts: Sequence[Verdicts], tau: float, *, group: int = 1, alike: bool = True
) -> Estimates:
    """Estimate the gap of a policy for each prompt.

    Args:
        log_ratios: log π(y) − log π_ref(y) in nats, (X, 2K): K responses drawn from π, then K from π_ref.
        verdicts: what the annotators say.
        tau: τ > 0.
        group: how many opponents a response is judged against at once: 1, or n − 1. Only utilities make a
            difference of it; a group is beaten as often as its members are on average where wins are given.
        alike: whether all n = group + 1 players play π. Then the gap is NashConv, n·(V − u), for two players the
            duality gap. Otherwise it is one player's exploitability against the M others.

    Returns:
        What is estimated is in units of win probability. Group win rates are exact means over all groups of
        different responses of an opponent pool without y, hence without bias.

    Raises:
        ValueError: shapes that do not fit, fewer than 2n responses of each (2 where players are not alike), or a
            τ that is not above 0.
    """
    ratios = as_array(log_ratios, "log_ratios")
    if ratios.ndim != 2 or ratios.shape[1] % 2:
        raise ValueError(f"log_ratios must have shape (prompts, 2K); found {ratios.shape}")
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be a number above 0; found {tau}")
    count = ratios.shape[1] // 2
    least = 2 * (group + 1) if alike else 2
    if count < least:
        raise ValueError(
            f"responses must be at least {least} of each for groups of {group + 1}; found {count}"
        )
    judge = _Judge(verdicts, count, group, alike)
    # Players who are alike share what there is to win.
    wins = judge.shared() if alike else judge.rates(np.arange(count), np.arange(count)).mean(-1)
    players = group + 1 if alike else 1
    payoff = wins - tau * _divergence(ratios)
    everything = np.arange(2 * count)
    weights = _log_weights(ratios, 0.5)
    weights = weights - logsumexp(weights)[:, None]
    tilted = weights + judge.rates(everything, np.arange(count)) / tau
    value = logsumexp(tilted)
    effective = np.exp(-logsumexp(2 * (tilted - value[:, None])))
    halves = np.array_split(np.arange(count), 2)
    valued = [_valued(judge, ratios, tau, choose, by, alike) for choose, by in (halves, halves[::-1])]
    return Estimates(
        plug_in=players * (tau * value - payoff),
        split=players * (np.mean(valued, axis=0) - payoff),
        effective=effective,
    )


def bootstrap(values: npt.ArrayLike, rng: np.random.Generator, level: float = 0.95) -> tuple[Array, Array]:
    """Return confidence intervals of means over prompts.

    Prompts are drawn with replacement, the same ones for all rows. Percentiles are those of the expanded percentile
    interval (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3): further out for few
    prompts, where percentiles alone are too narrow by what Student's t is wider than the normal distribution.

    Args:
        values: (..., X), at least two prompts.
        rng: draws prompts.
        level: of confidence.

    Returns:
        low and high, (...) each.

    Raises:
        ValueError: fewer than two prompts.
    """
    known = as_array(values, "values")
    prompts = known.shape[-1]
    if prompts < 2:
        raise ValueError(f"values must be of at least 2 prompts; found {prompts}")
    means = []
    size = max(1, _AT_ONCE // prompts)
    for start in range(0, RESAMPLES, size):
        counts = rng.multinomial(prompts, np.full(prompts, 1 / prompts), min(size, RESAMPLES - start))
        means.append(known @ counts.T / prompts)
    outside = ndtr(math.sqrt(prompts / (prompts - 1)) * student.ppf((1 - level) / 2, prompts - 1))
    low, high = np.quantile(np.concatenate(means, axis=-1), [outside, 1 - outside], axis=-1)
    return low, high


def _divergence(log_ratios: Array) -> Array:
    """KL(π ‖ π_ref) without bias, (X, 2K) -> (X,): the mean of (ρ log ρ − ρ + 1)/(½ρ + ½)."""
    above = 2 * expit(log_ratios)  # π/(½π + ½π_ref)
    return np.asarray((above * log_ratios - above + (2 - above)).mean(-1))


def _log_weights(log_ratios: Array, share: float) -> Array:
    """log π_ref/(απ + (1 − α)π_ref)/N of N responses, of which the share α was drawn from π."""
    return -np.logaddexp(math.log(share) + log_ratios, math.log1p(-share)) - math.log(log_ratios.shape[-1])


def _valued(judge: _Judge, ratios: Array, tau: float, choose: _Places, by: _Places, alike: bool) -> Array:
    """Choose weights by some of the opponents' responses and value them by others, (X,)."""
    count = ratios.shape[1] // 2
    own = choose if alike else np.arange(count)  # others' responses are never one's own choice
    candidates = np.concatenate([own, np.arange(count, 2 * count)])
    weights = _log_weights(ratios[:, candidates], len(own) / len(candidates))
    chosen = weights + judge.rates(candidates, choose) / tau
    chosen = chosen - logsumexp(chosen)[:, None]
    gain = judge.rates(candidates, by) - tau * (chosen - weights)
    return np.asarray((np.exp(chosen) * gain).sum(-1))


class _Judge:
    """Win rates of responses against opponents' responses, under all annotators."""

    def __init__(self, verdicts: Sequence[Verdicts], count: int, group: int, alike: bool) -> None:
        self._count, self._group, self._alike = count, group, alike
        self._pairs: list[tuple[float, Array]] = []
        grouped: list[tuple[float, Array]] = []
        for said in verdicts:
            if said.wins is not None:
                self._pairs.append((said.weight, said.wins))
                continue
            utilities = as_array(said.utilities if said.utilities is not None else [], "utilities")
            others = utilities[:, None, :count] if said.opponents is None else said.opponents
            if group == 1:
                self._pairs.append((said.weight, expit(utilities[:, :, None, None] - others[:, None])))
            elif alike:
                grouped.append((said.weight, utilities))
            else:
                flat = others.reshape(len(others), -1)
                grouped.append((said.weight, np.concatenate([utilities, flat], axis=1)))
        self._grouped_weight = sum(weight for weight, _ in grouped)
        self._tables: tuple[Array, Array] | None = None
        if grouped:
            self._weights = np.array([weight for weight, _ in grouped])
            self._tables = PlackettLuce(np.stack([u for _, u in grouped])).tables_for(group + 1)

    def shared(self) -> float:
        """What each of n players who are alike wins: 1/n of a group, ½ of a pair."""
        pairs = sum(weight for weight, _ in self._pairs)
        return 0.5 * pairs + self._grouped_weight / (self._group + 1)

    def rates(self, responses: _Places, opponents: _Places) -> Array:
        """Return win rates of some responses against some of each opponent's, (X, R).

        Where players are alike a response is left out of its own opponents.
        """
        found: Array | float = 0.0
        for weight, wins in self._pairs:
            meets = np.ones((len(responses), len(opponents)))
            if self._alike:
                meets[responses[:, None] == opponents[None, :]] = 0
            met = wins[:, responses[:, None], :, opponents[None, :]]  # (R, O, X, M)
            found = (
                found
                + weight
                * np.einsum("roxm,ro->xr", met, meets / meets.sum(1, keepdims=True))
                / (met.shape[-1])
            )
        if self._tables is not None:
            found = found + self._in_groups(self._tables, responses, opponents)
        return np.asarray(found)

    def _in_groups(self, tables: tuple[Array, Array], responses: _Places, opponents: _Places) -> Array:
        """As `rates`, against whole groups, by the quadrature of `PlackettLuce`."""
        survives, called = tables  # (V, X, A, N)
        called = called[:, :, responses]
        if not self._alike:
            start, members = 2 * self._count, []
            while start < survives.shape[2]:
                members.append(survives[:, :, start + opponents].mean(2))
                start += self._count
            return np.einsum("v,vxn,vxrn->xr", self._weights, np.prod(members, axis=0), called)
        pool, size = survives[:, :, opponents], self._group
        whole = _symmetric(pool, size)
        won = np.einsum("vxn,vxrn->vxr", whole[size] / math.comb(len(opponents), size), called)
        where = {int(place): at for at, place in enumerate(opponents)}
        for at, place in enumerate(responses.tolist()):
            if place in where:
                mine, without = pool[:, :, where[place]], whole[0]
                for k in range(1, size + 1):
                    without = whole[k] - mine * without
                share = without / math.comb(len(opponents) - 1, size)
                won[:, :, at] = (share * called[:, :, at]).sum(-1)
        return np.einsum("v,vxr->xr", self._weights, won)


def _symmetric(factors: Array, degree: int) -> list[Array]:
    """Return the sums of products of k different factors for k = 0 .. degree, (V, X, O, N) -> (V, X, N) each.

    Divided by the number of choices they are the mean over all groups of k different opponents.
    """
    sums = [np.ones_like(factors[:, :, 0]), *(np.zeros_like(factors[:, :, 0]) for _ in range(degree))]
    for place in range(factors.shape[2]):
        for k in range(degree, 0, -1):
            sums[k] = sums[k] + factors[:, :, place] * sums[k - 1]
    return sums
