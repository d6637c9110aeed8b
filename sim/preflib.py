"""Rankings in PrefLib's format: every line checked, then read by preflibtools."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from mnpo.numerics import check_memory
from mnpo.oracles import (
    Population,
    levels_of,
)
from mnpo.sim.reading import lines_in
from mnpo.sim.spec import GameSpec
from mnpo.values import shown

# Without going back, which on a long line takes the cube of its length.
_CLASS = r"([0-9]++|\{\s*+[0-9]++(\s*+,\s*+[0-9]++)*+\s*+\})"
_ORDER = re.compile(rf"\s*+[0-9]++\s*+:\s*+({_CLASS}(\s*+,\s*+{_CLASS})*+)?\s*+(,\s*+)?")
_COUNT = re.compile(r"# (NUMBER (?:ALTERNATIVES|VOTERS|UNIQUE ORDERS)):?(.*)", re.IGNORECASE)
_NAME = re.compile(r"# ALTERNATIVE NAME([^:]*):(.*)", re.IGNORECASE)
#: Orders are counted in floats, which hold whole numbers up to here.
LARGEST_COUNT = 2**53


def read_preflib(path: Path) -> GameSpec:
    """Read `.soc .soi .toc .toi`: a population of rankings, each order with its count.

    Raises:
        ValueError: says what is wrong, with the line.
    """
    from preflibtools.instances import OrdinalInstance

    # The library reads what it recognises and passes over the rest, so every line is checked first.
    header: list[tuple[str, str]] = []
    orders: list[tuple[str, str]] = []
    for where, line in lines_in(path):
        if line.strip():
            (orders if orders or not line.startswith("#") else header).append((where, line))
    counts, names = _counts(header), _names(header)
    size = counts.get("NUMBER ALTERNATIVES", 0)
    if size < 1:
        raise ValueError(f"{path}: the header needs a line '# NUMBER ALTERNATIVES: ..' of at least 1")
    _check_names(names, size, path)
    check_memory((4, len(orders), size), "the rankings")
    kind = path.suffix.lower()[1:]
    voters = sum(_check_order(line, size, kind, where) for where, line in orders)
    if not orders:
        raise ValueError(f"{path}: has no preferences")
    if voters > LARGEST_COUNT:
        raise ValueError(f"{path}: the counts must sum to at most 2^53; found {shown(voters)}")
    instance = OrdinalInstance()
    title = [line for _, line in header if line.startswith("# TITLE")]
    instance.parse([*title, *(line for _, line in orders)], autocorrect=True)
    _check_counts(counts, {"NUMBER VOTERS": voters, "NUMBER UNIQUE ORDERS": len(instance.orders)}, path)
    levels = [levels_of([[a - 1 for a in tied] for tied in order], size) for order in instance.orders]
    weights = [float(instance.multiplicity[order]) for order in instance.orders]
    incomplete = sum(
        weight for order, weight in zip(instance.orders, weights, strict=True) if sum(map(len, order)) < size
    )
    notes = [
        f"{instance.title or path.name}: {sum(weights):g} rankings of {size}, {len(levels)} of them different"
    ]
    if incomplete:
        notes.append(
            f"{incomplete:g} rankings leave responses out; those count as one class below the ranked"
        )
    return GameSpec(
        name=str(path),
        oracle=Population(levels=np.stack(levels), level_weights=weights),
        responses=tuple(names.get(place, str(place)) for place in range(1, size + 1)),
        notes=tuple(notes),
    )


def _counts(header: list[tuple[str, str]]) -> dict[str, int]:
    """Return the numbers of the header by what they count.

    Raises:
        ValueError: something else than a number, or a second one, with the line.
    """
    found: dict[str, int] = {}
    for where, line in header:
        if match := _COUNT.fullmatch(line.rstrip()):
            what, text = match[1].upper(), match[2].strip()
            if not re.fullmatch(r"[0-9]{1,18}", text):
                raise ValueError(f"{where}: expected a whole number; found {shown(line.strip())}")
            if what in found:
                raise ValueError(f"{where}: {what} stands twice in the header")
            found[what] = int(text)
    return found


def _names(header: list[tuple[str, str]]) -> dict[int, str]:
    """Return the alternatives' names of the header by their numbers.

    Raises:
        ValueError: no number, or one that is named twice, with the line.
    """
    found: dict[int, str] = {}
    for where, line in header:
        if match := _NAME.fullmatch(line.rstrip()):
            if not re.fullmatch(r"[0-9]{1,18}", match[1].strip()):
                raise ValueError(f"{where}: expected '# ALTERNATIVE NAME 1: ..'; found {shown(line.strip())}")
            number = int(match[1])
            if number in found:
                raise ValueError(f"{where}: alternative {number} has two names")
            found[number] = match[2].strip() or str(number)
    return found


def _check_names(names: dict[int, str], size: int, path: Path) -> None:
    for number in names:
        if not 1 <= number <= size:
            raise ValueError(f"{path}: the header names alternative {number}; alternatives are 1 to {size}")
    check_memory((4, size), "the alternatives")
    every = Counter(names.get(place, str(place)) for place in range(1, size + 1))
    name, times = every.most_common(1)[0]
    if times > 1:
        raise ValueError(f"{path}: {times} alternatives have the name {shown(name)}")


def _check_counts(said: dict[str, int], found: dict[str, int], path: Path) -> None:
    for what, number in found.items():
        if said.get(what, number) != number:
            raise ValueError(f"{path}: the header says {what}: {said[what]}; the orders have {number}")


def _check_order(line: str, size: int, kind: str, where: str) -> int:
    """Return the count of an order.

    Raises:
        ValueError: says what is wrong with the line.
    """
    if not _ORDER.fullmatch(line):
        raise ValueError(f"{where}: expected 'count: 1,2,{{3,4}}'; found {shown(line.strip())}")
    count, _, order = line.partition(":")
    named = [int(name) if len(name) < 19 else size + 1 for name in re.findall(r"[0-9]+", order)]
    if len(count.strip()) > 16 or int(count) < 1:
        raise ValueError(f"{where}: the count must be from 1 to 2^53; found {shown(count.strip())}")
    if not named:
        raise ValueError(f"{where}: the order is empty")
    outside = [name for name in named if not 1 <= name <= size]
    if outside:
        raise ValueError(f"{where}: alternatives are 1 to {size}; found {outside[0]}")
    if len(set(named)) < len(named):
        twice = Counter(named).most_common(1)[0][0]
        raise ValueError(f"{where}: alternative {twice} is named twice")
    if kind.startswith("so") and "{" in order:
        raise ValueError(f"{where}: a .{kind} file has strict orders; found a tie")
    if kind.endswith("c") and len(named) < size:
        raise ValueError(f"{where}: a .{kind} file has complete orders of {size}; found {len(named)}")
    return int(count)
