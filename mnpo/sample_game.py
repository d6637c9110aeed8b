"""The sample game: an implicit step's advantages from K responses of each prompt (docs/concepts.md, (15)).

Nobody can list the responses of a language model. K of them, drawn from π, are a game of their own: its reference
is the importance weights w_i = ν(y_i)/π(y_i), which turn draws of π into ν, and its oracle is what the judges say
of the K. Its equilibrium is to the implicit step's as a sample mean is to a mean.

For a pair (i, j) of responses both are left out and the game of the other K − 2 is solved: a response is never its
own opponent. The win rates of y_i and y_j against that equilibrium are their advantages.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from mnpo.games import Game
from mnpo.implicit import equilibrium_around
from mnpo.newton import Flags, Places
from mnpo.numerics import LOG_ZERO, Array, logsumexp, normalise_log
from mnpo.oracles import Oracle, Pairwise
from mnpo.pairwise_newton import pairwise_equilibria

#: Prompts are taken in blocks of about this many numbers, those of all their pairs' games.
BLOCK = 1 << 19
#: Weights that count for fewer responses than this have collapsed: their game is hardly one.
FEWEST_EFFECTIVE = 2.0


class Credits(NamedTuple):
    """What responses are credited with.

    Attributes:
        advantages: (X, M, 2), of both responses of each pair.
        effective: (X,), how many equally weighted responses the weights are worth, (Σ w)²/Σ w², from 1 to K.
    """

    advantages: Array
    effective: Array

    @property
    def collapsed(self) -> Flags:
        """(X,), whether the weights of a prompt have collapsed on fewer than two responses' worth."""
        return np.asarray(self.effective < FEWEST_EFFECTIVE)


def sample_game(
    oracle: Oracle, log_weights: Array, pairs: Sequence[tuple[int, int]], *, strength: float, players: int = 2
) -> Credits:
    """Return the advantages of pairs of responses against the equilibrium of the others.

    Args:
        oracle: who wins among the K responses, one context for each of X prompts.
        log_weights: log ν(y_k) − log π(y_k) up to a constant by prompt, (X, K).
        pairs: M pairs of places.
        strength: the factor on win rates in the exponent, η of `prox`.
        players: n; the win rate is against n − 1 draws of the equilibrium.

    Raises:
        ValueError: fewer than three responses, weights that do not fit or are not finite.
        ConvergenceError: an oracle whose equilibrium was not found.
    """
    prompts, count = oracle.contexts, oracle.responses
    if log_weights.shape != (prompts, count) or not np.isfinite(log_weights).all():
        raise ValueError(f"log_weights must be {prompts} × {count} finite numbers; found {log_weights.shape}")
    if count < 3:
        raise ValueError(f"a sample game needs at least 3 responses, a pair and another one; found {count}")
    places = np.asarray(pairs, dtype=np.intp).reshape(-1, 2)
    advantages = np.empty((prompts, len(places), 2))
    at_once = max(1, BLOCK // max(1, len(places) * max(oracle.breadth, count * count)))

    def fill(start: int) -> None:
        block = slice(start, min(start + at_once, prompts))
        advantages[block] = _advantages(oracle.at(block), log_weights[block], places, strength, players)

    # Linear algebra on small matrices leaves the interpreter to other threads.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fill, range(0, prompts, at_once)))
    logs = log_weights - log_weights.max(axis=-1, keepdims=True)
    return Credits(advantages, np.exp(2 * logsumexp(logs) - logsumexp(2 * logs)))


def _advantages(oracle: Oracle, log_weights: Array, places: Places, strength: float, players: int) -> Array:
    tau = np.array([1 / strength])
    whole = Game(oracle, players).by_matrix()
    together = equilibrium_around(whole, normalise_log(log_weights)[0][None], tau).log_policies[0]
    matrix = whole.pairwise_matrix()
    if matrix is not None:
        return _pairwise_advantages(matrix, log_weights, together, places, strength)
    prompts, count = log_weights.shape
    left_out = np.zeros((len(places), count), dtype=bool)
    left_out[np.arange(len(places))[:, None], places] = True
    # One game for each prompt and pair, which begins at the prompt's equilibrium.
    games = whole.at(np.repeat(np.arange(prompts), len(places)))
    around, start = (
        normalise_log(np.where(left_out, LOG_ZERO, logs[:, None]).reshape(1, -1, count))[0]
        for logs in (log_weights, together)
    )
    found = equilibrium_around(games, around, tau, start)
    wins = games.win_probabilities(np.exp(found.log_policies)).reshape(prompts, len(places), count)
    return np.take_along_axis(wins, np.broadcast_to(places, (prompts, *places.shape)), axis=-1)


def _pairwise_advantages(
    matrix: Array, log_weights: Array, together: Array, places: Places, strength: float
) -> Array:
    """The same where payoffs are pairwise, (X, K, K), whatever n: prompts along the last axis."""
    count, pairs = log_weights.shape[1], len(places)
    wins = np.ascontiguousarray(np.moveaxis(matrix, 0, -1))
    others = np.array([[k for k in range(count) if k not in pair] for pair in places.tolist()]).T
    shape = (count - 2, pairs * len(matrix))
    skew = (strength * (wins[others[:, None], others[None]] - 0.5)).reshape(count - 2, *shape)
    around, start = (np.ascontiguousarray(logs.T)[others].reshape(shape) for logs in (log_weights, together))
    policies, found = pairwise_equilibria(skew, around, start)
    if not found.all():
        left = Game(Pairwise(np.moveaxis(0.5 + skew[..., ~found] / strength, -1, 0)))
        references = normalise_log(around[:, ~found].T)[0][None]
        tau = np.array([1 / strength])
        policies[:, ~found] = np.exp(equilibrium_around(left, references, tau).log_policies[0]).T
    policies = policies.reshape(count - 2, pairs, -1)
    sides = [(wins[places[:, side], others] * policies).sum(axis=0) for side in (0, 1)]
    return np.stack(sides, axis=-1).swapaxes(0, 1)
