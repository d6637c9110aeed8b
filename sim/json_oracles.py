"""Oracles written as JSON objects: `{"oracle": KIND, KEY: ..}`.

A new kind is one function here with its `_kind` line: the reader, its errors and `mnpo sim games` find it there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mnpo.choices import suggestion
from mnpo.oracles import DenseTensor, Heterogeneous, Oracle, Pairwise, PlackettLuce, Population
from mnpo.sim.annotators import read_annotators
from mnpo.sim.reading import as_numbers
from mnpo.values import shown

#: The value of an oracle's key, and the number of players where the file says -> the oracle.
Reader = Callable[[Any, int | None], Oracle]


@dataclass(frozen=True)
class OracleKind:
    """A kind of oracle that a JSON object may be.

    Attributes:
        name: what stands under "oracle".
        key: the key that holds its numbers.
        holds: what these are, for people.
        read: makes the oracle of them.
    """

    name: str
    key: str
    holds: str
    read: Reader


#: Players with an oracle each; more would take days.
MOST_ORACLES = 1000

ORACLE_KINDS: dict[str, OracleKind] = {}


def _kind(name: str, key: str, holds: str) -> Callable[[Reader], Reader]:
    def register(read: Reader) -> Reader:
        ORACLE_KINDS[name] = OracleKind(name, key, holds, read)
        return read

    return register


def read_oracle(content: Any, players: int | None, others: frozenset[str] = frozenset()) -> Oracle:
    """Read an oracle by its kind.

    Args:
        content: the JSON object.
        players: the number of players, where the file says.
        others: keys of the object that are not the oracle's.

    Raises:
        ValueError: an unknown kind or key (with the nearest one), a missing key, or numbers that do not fit.
    """
    if not isinstance(content, dict) or "oracle" not in content:
        raise ValueError("an oracle is an object with the key 'oracle'")
    name = content["oracle"]
    if not isinstance(name, str) or name not in ORACLE_KINDS:
        raise ValueError(f"unknown oracle {shown(name)}; {suggestion(str(name)[:60], ORACLE_KINDS)}")
    kind = ORACLE_KINDS[name]
    known = {"oracle", kind.key, *others}
    extra = sorted(set(content) - known)
    if extra:
        raise ValueError(f"unknown key {shown(extra[0])} of oracle {name}; {suggestion(extra[0], known)}")
    if kind.key not in content:
        raise ValueError(f"oracle {name} needs the key {kind.key!r}")
    return kind.read(content[kind.key], players)


@_kind("pairwise", "matrix", "win probabilities, row against column; one matrix, or one a context")
def _pairwise(matrix: Any, players: int | None) -> Pairwise:
    return Pairwise(as_numbers(matrix, "matrix"))


@_kind("plackett-luce", "utilities", "one number a response; one list, or one a context")
def _plackett_luce(values: Any, players: int | None) -> PlackettLuce:
    utilities = as_numbers(values, "utilities")
    if utilities.ndim not in (1, 2):
        raise ValueError(
            f"utilities must be a list of numbers, or one per context; found shape {utilities.shape}"
        )
    return PlackettLuce(utilities)


@_kind(
    "population",
    "annotators",
    "objects with 'ranking' (tie classes, best first) or 'utilities', and 'weight'",
)
def _population(annotators: Any, players: int | None) -> Population:
    return read_annotators(annotators)


@_kind("tensor", "tensor", "a response's win probability against each group, one axis a player")
def _tensor(values: Any, players: int | None) -> DenseTensor:
    return DenseTensor(as_numbers(values, "tensor"), players=players)


@_kind("heterogeneous", "oracles", "one oracle a player, each an object as this one")
def _heterogeneous(oracles: Any, players: int | None) -> Heterogeneous:
    if not isinstance(oracles, list):
        raise ValueError("oracles must be a list, one for each player")
    if len(oracles) > MOST_ORACLES:
        raise ValueError(f"oracles must be at most {MOST_ORACLES}; found {len(oracles)}")
    built = []
    for number, content in enumerate(oracles):
        try:
            if isinstance(content, dict) and content.get("oracle") == "heterogeneous":
                raise ValueError("a player's oracle is not heterogeneous itself")
            built.append(read_oracle(content, len(oracles)))
        except ValueError as error:
            raise ValueError(f"oracle {number}: {error}") from None
    return Heterogeneous(built)
