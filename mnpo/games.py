"""A game: oracle, players, KL strength and reference; payoffs and best responses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mnpo.numerics import (
    ROUNDING,
    Array,
    as_array,
    as_policies,
    as_weights,
    check_memory,
    kl_divergence,
    logsumexp,
    normalise_log,
    safe_log,
)
from mnpo.oracles import Heterogeneous, Oracle, Pairwise
from mnpo.oracles.base import Contexts

#: Contexts are taken in blocks of about this many numbers, pairs of responses or what else the oracle handles at a
#: time: a block should fit in a processor's cache.
BLOCK = 1 << 18
#: Win rates, which are at most 1, keep no digits beside a larger τ.
LARGEST_TAU = 1e12


@dataclass(frozen=True, eq=False)
class Game:
    """An n-player KL-regularised preference game.

    u_i(π) = ⟨π_i, q_i(π_{−i})⟩ − τ_i KL(π_i ‖ π_ref,i), in expectation over contexts (MNPO, 2509.23102;
    docs/concepts.md, (5)).

    Profiles have shape (..., p, X, A) with p = n, or p = 1: a symmetric profile, one policy that all play.

    Args:
        oracle: who wins.
        players: n ≥ 2.
        tau: τ ≥ 0, one number, (n,), or (..., n) for a batch of games.
        reference: π_ref, (A,), (X, A), (n, X, A), or (..., n, X, A) for a batch; uniform unless given.
        context_weights: (X,), the distribution d0 of contexts; uniform unless given.
        responses: (A,), the names of the responses; "0", "1", .. unless given.

    Raises:
        ValueError: says which argument is wrong, what was found and what is accepted.
    """

    oracle: Oracle
    players: int = 2
    tau: npt.ArrayLike = 0.1
    reference: npt.ArrayLike | None = None
    context_weights: npt.ArrayLike | None = None
    responses: tuple[str, ...] = ()
    #: (..., 1, 1, 1) or (..., n, 1, 1): τ of all, or of each player.
    profile_tau: Array = field(init=False, repr=False)
    #: (..., 1, X, A) or (..., n, X, A).
    log_reference: Array = field(init=False, repr=False)
    _weights: Array = field(init=False, repr=False)
    _reference: Array | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        oracle, players = self.oracle, self.players
        if isinstance(players, bool) or not isinstance(players, int | np.integer) or players < 2:
            raise ValueError(f"players must be an integer of at least 2; found {players!r}")
        if oracle.players not in (None, players):
            raise ValueError(f"players must be {oracle.players} for this oracle; found {players}")
        check_memory((16, players, oracle.contexts, oracle.responses), "the profiles of a game")
        tau = as_array(self.tau, "tau")
        check_tau(tau)
        if tau.ndim and tau.shape[-1] not in (1, players):
            raise ValueError(
                f"tau must be one number or {players}, one for each player; found {tau.shape[-1]}"
            )
        reference = self._shaped_reference()
        names = tuple(self.responses) or tuple(str(index) for index in range(oracle.responses))
        if len(names) != oracle.responses or len(set(names)) != len(names):
            raise ValueError(
                f"responses must be {oracle.responses} different names; found {len(names)}, "
                f"{len(set(names))} of them different"
            )
        tau = tau[..., None, None] if tau.ndim else tau.reshape(1, 1, 1)
        reference = _without_repeats(reference)
        object.__setattr__(self, "responses", names)
        object.__setattr__(self, "profile_tau", _without_repeats(tau))
        object.__setattr__(self, "log_reference", np.log(reference))
        object.__setattr__(self, "_reference", None if self.reference is None else reference)
        weights = as_weights(self.context_weights, oracle.contexts, "context_weights")
        object.__setattr__(self, "_weights", weights)

    def _shaped_reference(self) -> Array:
        oracle = self.oracle
        size, contexts = oracle.responses, oracle.contexts
        if self.reference is None:
            return np.full((1, contexts, size), 1.0 / size)
        reference = as_policies(self.reference, "reference", positive=True)
        if reference.shape[-1] != size:
            raise ValueError(
                f"reference must give {size} probabilities, one for each response; found {reference.shape[-1]}"
            )
        reference = self._with_players(reference)
        if reference.shape[-2] not in (1, contexts) or reference.shape[-3] not in (1, self.players):
            raise ValueError(
                f"reference must have shape ({size},), ({contexts}, {size}) or "
                f"({self.players}, {contexts}, {size}); found {np.shape(self.reference)}"
            )
        return np.broadcast_to(reference, (*reference.shape[:-2], contexts, size))

    @property
    def contexts(self) -> int:
        """X."""
        return self.oracle.contexts

    @property
    def actions(self) -> int:
        """A."""
        return self.oracle.responses

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: () for one game."""
        return np.broadcast_shapes(
            self.oracle.batch_shape, self.profile_tau.shape[:-3], self.log_reference.shape[:-3]
        )

    @property
    def symmetric(self) -> bool:
        """Whether all players are identical, so that one policy can stand for all."""
        return (
            self.oracle.exchangeable and self.profile_tau.shape[-3] == 1 and self.log_reference.shape[-3] == 1
        )

    @cached_property
    def player_tau(self) -> Array:
        """τ of every player, (..., n)."""
        taus = self.profile_tau[..., 0, 0]
        return np.broadcast_to(taus, (*taus.shape[:-1], self.players))

    @property
    def slots(self) -> int:
        """p, the policies that a solution needs: 1 if symmetric, else n."""
        return 1 if self.symmetric else self.players

    @property
    def unregularised(self) -> bool:
        """Whether every τ is 0."""
        return not self.profile_tau.any()

    def at(self, contexts: Contexts) -> Game:
        """Return the game of some contexts alone, weighted among themselves as they are here.

        Args:
            contexts: a slice or places on the context axis.
        """
        weights = self._weights[contexts]
        return replace(
            self,
            oracle=self.oracle.at(contexts),
            reference=None if self._reference is None else self._reference[..., contexts, :],
            context_weights=weights if weights.any() else None,
        )

    def blocks(self) -> Iterator[tuple[slice, float, Game]]:
        """Yield the game in blocks of contexts, so that a context costs in a large game what it costs alone.

        Yields:
            The block, its share of the context weights, and the game of its contexts: this one if a block takes
            them all.
        """
        each = max(self.oracle.breadth, (self.slots * self.actions) ** 2)
        size = max(1, BLOCK // (each * int(np.prod(self.batch_shape))))
        if size >= self.contexts:
            yield slice(0, self.contexts), 1.0, self
            return
        for start in range(0, self.contexts, size):
            block = slice(start, min(start + size, self.contexts))
            yield block, float(self._weights[block].sum()), self.at(block)

    def context_mean(self, values: Array) -> Array:
        """Average over contexts: (..., X) -> (...)."""
        return values[..., 0] if self.contexts == 1 else values @ self._weights

    def profile(self, policies: npt.ArrayLike) -> Array:
        """Check policies and give them the profile's axes.

        Args:
            policies: (A,) or (X, A), played by all; or (p, X, A) with p = 1 or n; or (..., p, X, A).

        Returns:
            (..., p, X, A), normalised exactly.

        Raises:
            ValueError: negative entries, sums other than 1, or a shape that does not fit the game.
        """
        array = as_policies(policies, "policies")
        array = self._with_players(array)
        if array.shape[-2:] != (self.contexts, self.actions) or array.shape[-3] not in (1, self.players):
            raise ValueError(
                f"policies must have shape ({self.players}, {self.contexts}, {self.actions}), or one of them "
                f"for all players; found {np.shape(policies)}"
            )
        return array

    def _with_players(self, array: Array) -> Array:
        """Give (A,), (X, A) or, with one context, (n, A) the axes (p, X, A)."""
        if array.ndim == 2 and self.oracle.contexts == 1 and array.shape[0] == self.players:
            return array[:, None, :]
        return array.reshape((1,) * max(0, 3 - array.ndim) + array.shape)

    def everyone(self, profile: Array) -> Array:
        """Write a profile out for all players: (..., p, X, A) -> (..., n, X, A)."""
        return np.broadcast_to(profile, (*profile.shape[:-3], self.players, *profile.shape[-2:]))

    def win_probabilities(self, policies: Array) -> Array:
        """Return q: (..., p, X, A) -> (..., p, X, A), each player's win probabilities against the others."""
        if policies.shape[-3] == 1:
            if not self.oracle.exchangeable:
                return self.oracle.win_probabilities(self.everyone(policies))
            return self.oracle.against(policies, counts=(self.players - 1,))[..., None, :, :]
        return self.oracle.win_probabilities(policies)

    def divergence(self, policies: Array, log_policies: Array | None = None) -> Array:
        """Return KL(π_i ‖ π_ref,i) in nats by context, (..., p, X, A) -> (..., p, X)."""
        log_policies = safe_log(policies) if log_policies is None else log_policies
        return kl_divergence(policies, log_policies, self.log_reference)

    def payoffs(self, policies: Array, wins: Array | None = None) -> Array:
        """Return u_i, (..., p, X, A) -> (..., p).

        Args:
            policies: the profile.
            wins: its win probabilities, if they are at hand.
        """
        wins = self.win_probabilities(policies) if wins is None else wins
        expected = (policies * wins).sum(axis=-1)
        return self.context_mean(expected - self.profile_tau[..., 0] * self.divergence(policies))

    def best_response(self, wins: Array) -> tuple[Array, Array]:
        """Return the best responses to win probabilities and what they are worth.

        BR_i ∝ π_ref,i exp(q_i/τ_i), worth τ_i log Σ π_ref,i exp(q_i/τ_i) (docs/concepts.md, (6)). At τ_i = 0 it is
        uniform over the maximisers, worth max q_i.

        Args:
            wins: q, (..., p, X, A).

        Returns:
            policies (..., p, X, A) and values (..., p).
        """
        tau = np.broadcast_to(
            self.profile_tau, np.broadcast_shapes(self.profile_tau.shape, (*wins.shape[:-2], 1, 1))
        )
        best = (wins == wins.max(axis=-1, keepdims=True)).astype(np.float64)
        best /= best.sum(axis=-1, keepdims=True)
        values = wins.max(axis=-1)
        if not self.unregularised:
            positive = np.where(tau > 0, tau, 1.0)
            logits = self.log_reference + wins / positive
            soft = normalise_log(logits)[1]
            best = np.where(tau > 0, soft, best)
            values = np.where(tau[..., 0] > 0, tau[..., 0] * logsumexp(logits), values)
        return best, self.context_mean(values)

    def pairwise_matrix(self) -> Array | None:
        """Return P of shape (..., X, A, A) if payoffs are pairwise and P + Pᵀ = 1, else None.

        That is so for a pairwise oracle with any number of players, and for any shared oracle with two.
        """
        return self._pairwise

    @cached_property
    def is_pairwise(self) -> bool:
        """Whether `pairwise_matrix` gives one; of many contexts it is not held as a whole to find out."""
        if isinstance(self.oracle, Pairwise) or "_pairwise" in self.__dict__:
            return self._pairwise is not None
        if self.players != 2 or not self.oracle.exchangeable:
            return False
        return all(_antisymmetric(part.oracle.pairwise_matrix()) is not None for _, _, part in self.blocks())

    def by_matrix(self) -> Game:
        """Return the game with a pairwise oracle in the place of one that two players share: payoffs stay."""
        matrix = self._pairwise if self.players == 2 and not isinstance(self.oracle, Pairwise) else None
        return self if matrix is None else replace(self, oracle=Pairwise(np.clip(matrix, 0.0, 1.0)))

    def player_matrices(self) -> Array | None:
        """Return each player's own P of shape (..., 1 or n, X, A, A) if payoffs are pairwise, else None."""
        if isinstance(self.oracle, Heterogeneous):
            oracles = self.oracle.oracles
            if self.players > 2 and not all(isinstance(oracle, Pairwise) for oracle in oracles):
                return None
            return np.stack(np.broadcast_arrays(*(oracle.pairwise_matrix() for oracle in oracles)), axis=-4)
        return None if self._pairwise is None else self._pairwise[..., None, :, :, :]

    @cached_property
    def _pairwise(self) -> Array | None:
        if isinstance(self.oracle, Pairwise):
            return self.oracle.matrix
        if self.players != 2 or not self.oracle.exchangeable:
            return None
        found = []
        for _, _, part in self.blocks():  # small enough for a processor's cache
            matrix = _antisymmetric(part.oracle.pairwise_matrix())
            if matrix is None:
                return None
            found.append(matrix)
        return found[0] if len(found) == 1 else np.concatenate(found, axis=-3)


def check_tau(tau: Array) -> None:
    """Refuse KL strengths that are none.

    Raises:
        ValueError: one below 0 or above `LARGEST_TAU`.
    """
    if tau.min() < 0:
        raise ValueError(f"tau must be at least 0; found {tau.min():g}")
    if tau.max() > LARGEST_TAU:
        raise ValueError(f"tau must be at most {LARGEST_TAU:g}; found {tau.max():g}")


def _antisymmetric(matrix: Array) -> Array | None:
    """Return P with P + Pᵀ = 1 to the last bit, (..., X, A, A); None if it is not so up to rounding."""
    excess = matrix + matrix.swapaxes(-1, -2) - 1
    return matrix - excess / 2 if np.abs(excess).max() <= ROUNDING else None


def _without_repeats(values: Array) -> Array:
    """Keep one of the player axis (third from the right) if all players have the same."""
    first = values[..., :1, :, :]
    return np.array(first if (values == first).all() else values)
