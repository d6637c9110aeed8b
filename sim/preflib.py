"""Rankings in PrefLib's format: every line checked, then read by preflibtools."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mnpo.numerics import check_memory
from mnpo.oracles import (
    Population,
    levels_of,
)
from mnpo.sim.spec import GameSpec

_ORDER = re.compile(r"\d+:((\d+|\{\d+(,\d+)*\})(,(\d+|\{\d+(,\d+)*\}))*)?,?")


def read_preflib(path: Path) -> GameSpec:
    """Read `.soc .soi .toc .toi`: a population of rankings, each order with its count.

    Raises:
        ValueError: says what is wrong, with the line.
    """
    from preflibtools.instances import OrdinalInstance

    lines = path.read_text(encoding="utf-8-sig").split("\n")
    instance = OrdinalInstance()
    # The library reads what it recognises and passes over the rest, so every line is checked first.
    header = 0
    while header < len(lines) and (lines[header].startswith("#") or not lines[header].strip()):
        try:
            instance.parse([lines[header]], header_only=True)
        except ValueError:
            found = lines[header].strip()[:60]
            raise ValueError(f"{path}, line {header + 1}: expected a whole number; found {found!r}") from None
        header += 1
    size = int(instance.num_alternatives or 0)
    if size < 1:
        raise ValueError(f"{path}: the header needs a line '# NUMBER ALTERNATIVES: ..' of at least 1")
    check_memory((4, len(lines) - header, size), "the rankings")
    for number, line in enumerate(lines[header:], header + 1):
        _check_order("".join(line.split()), size, path, number)
    if not any(line.strip() for line in lines[header:]):
        raise ValueError(f"{path}: has no preferences")
    instance = OrdinalInstance()
    instance.parse([line for line in lines if line.strip()], autocorrect=True)
    levels = [levels_of([[a - 1 for a in tied] for tied in order], size) for order in instance.orders]
    weights = [float(instance.multiplicity[order]) for order in instance.orders]
    names = tuple(str(instance.alternatives_name.get(index + 1, index + 1)).strip() for index in range(size))
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
        responses=names if len(set(names)) == size else (),
        notes=tuple(notes),
    )


def _check_order(line: str, size: int, path: Path, number: int) -> None:
    if not line:
        return
    where = f"{path}, line {number}"
    if not _ORDER.fullmatch(line):
        raise ValueError(f"{where}: expected 'count: 1,2,{{3,4}}'; found {line[:60]!r}")
    count, _, order = line.partition(":")
    named = [int(name) for name in re.findall(r"\d+", order)]
    if int(count) < 1:
        raise ValueError(f"{where}: the count must be at least 1; found {count}")
    if not named:
        raise ValueError(f"{where}: the order is empty")
    outside = [name for name in named if not 1 <= name <= size]
    if outside:
        raise ValueError(f"{where}: alternatives are 1 to {size}; found {outside[0]}")
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise ValueError(f"{where}: alternative {twice} is named twice")
    kind = path.suffix.lower()[1:]
    if kind.startswith("so") and "{" in order:
        raise ValueError(f"{where}: a .{kind} file has strict orders; found a tie")
    if kind.endswith("c") and len(named) < size:
        raise ValueError(f"{where}: a .{kind} file has complete orders of {size}; found {len(named)}")
