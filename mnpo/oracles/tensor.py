"""An oracle given as a table over all the responses."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from mnpo.numerics import ROUNDING, Array, as_array, check_memory
from mnpo.oracles.base import Contexts, Oracle, copies

_TENSOR_LETTERS = "abcdefghijklmnopqrstuvw"


class DenseTensor(Oracle):
    """P(y ≻ {y_2, .., y_n}) = T[y, y_2, .., y_n] as given: small games and cross-checks, at O(A^n) a call.

    The opponents are put in the order of their player numbers. Where the tensor depends on that order the
    players are not exchangeable.

    Args:
        tensor: (A, .., A), or (X, A, .., A) with a leading context axis.
        players: n. Needed only to tell a context axis of length A from a player's; unless given, an array
            whose axes are all equal has no context axis.

    Raises:
        ValueError: axes of different lengths, fewer than two players, or an entry outside [0, 1].
    """

    def __init__(self, tensor: npt.ArrayLike, players: int | None = None) -> None:
        table = as_array(tensor, "tensor")
        if table.ndim > len(_TENSOR_LETTERS) + 1:
            raise ValueError(
                f"tensor must have at most {len(_TENSOR_LETTERS)} players; found {table.ndim} axes"
            )
        has_contexts = table.ndim == players + 1 if players is not None else len(set(table.shape)) > 1
        if not has_contexts:
            table = table[None]
        shape = table.shape[1:]
        if len(shape) < 2 or len(set(shape)) != 1 or (players is not None and len(shape) != players):
            wanted = "two or more" if players is None else str(players)
            raise ValueError(
                f"tensor must have {wanted} equal axes of responses, one for each player, after an optional "
                f"context axis; found shape {np.asarray(tensor).shape}"
            )
        if table.min() < 0 or table.max() > 1:
            where = tuple(int(i) for i in np.argwhere((table < 0) | (table > 1))[0])
            raise ValueError(f"tensor must lie in [0, 1]; found {table[where]:g} at index {list(where)}")
        if len(shape) > len(_TENSOR_LETTERS):
            raise ValueError(f"tensor must have at most {len(_TENSOR_LETTERS)} players; found {len(shape)}")
        self.tensor: Array = table
        self.players = len(shape)
        self.contexts, self.responses = table.shape[0], shape[0]
        self.exchangeable = _indifferent_to_order(table)

    @classmethod
    def from_oracle(cls, oracle: Oracle, players: int) -> DenseTensor:
        """Tabulate any oracle that serves all players alike.

        Raises:
            ValueError: the oracle does not, or A^n numbers do not fit in memory (says how much they need).
        """
        if not oracle.exchangeable or oracle.players not in (None, players) or oracle.batch_shape:
            raise ValueError(
                f"{type(oracle).__name__} cannot be tabulated for {players} exchangeable players"
            )
        size = oracle.responses
        check_memory((oracle.contexts, *(size,) * players), "a tensor")
        table = np.empty((oracle.contexts, *(size,) * players))
        pure = np.broadcast_to(np.eye(size)[:, None, :], (size, oracle.contexts, size))
        for group in np.ndindex(*(size,) * (players - 1)):
            table[(slice(None), slice(None), *group)] = oracle.against(pure[list(group)])
        return cls(table, players=players)

    def against(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.against`."""
        return self._contract(self._group(opponents, counts), keep=None)

    def gradient(self, opponents: Array, *, counts: Sequence[int] | None = None, player: int = 0) -> Array:
        """See `Oracle.gradient`."""
        numbers = copies(opponents, counts)
        group = self._group(opponents, counts)
        out = np.zeros((len(numbers), self.contexts, self.responses, self.responses))
        place = 0
        for j, count in enumerate(numbers):
            for _ in range(count):
                out[j] += self._contract(group, keep=place)
                place += 1
        return out

    def at(self, contexts: Contexts) -> DenseTensor:
        """See `Oracle.at`."""
        part = copy(self)
        part.tensor = self.tensor[contexts]
        part.contexts = part.tensor.shape[0]
        part.exchangeable = self.exchangeable or _indifferent_to_order(part.tensor)
        return part

    def _group(self, opponents: Array, counts: Sequence[int] | None) -> list[Array]:
        group = [
            opponents[..., j, :, :] for j, count in enumerate(copies(opponents, counts)) for _ in range(count)
        ]
        if self.players is None or len(group) != self.players - 1:
            raise ValueError(f"the tensor is made for {self.players} players; found {len(group) + 1}")
        return group

    def _contract(self, group: list[Array], keep: int | None) -> Array:
        """Average the tensor over every opponent but `keep`, the last one first."""
        names = _TENSOR_LETTERS[: len(group) + 1]
        table: Array = self.tensor
        axes = f"x{names}"
        for place in range(len(group) - 1, -1, -1):
            if place == keep:
                continue
            letter = names[place + 1]
            reduced = axes.replace(letter, "")
            table = np.einsum(f"...{axes},...x{letter}->...{reduced}", table, group[place])
            axes = reduced
        return table


def _indifferent_to_order(table: Array) -> bool:
    """Whether (X, A, .., A) stays the same when opponents, which are all axes but the first two, are exchanged."""
    return all(
        np.allclose(table, table.swapaxes(2, axis), rtol=0, atol=ROUNDING) for axis in range(3, table.ndim)
    )
