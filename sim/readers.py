"""Games, policies and references from files. What is wrong in a file is said with its line where it has one."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnpo.choices import suggestion
from mnpo.numerics import Array, as_array, check_memory
from mnpo.oracles import (
    DenseTensor,
    Heterogeneous,
    Oracle,
    Pairwise,
    PlackettLuce,
    Population,
    levels_of,
)
from mnpo.sim.spec import GameSpec


def read_game(path: Path) -> GameSpec:
    """Read a game from a file, by its ending.

    PrefLib `.soc .soi .toc .toi`; a pairwise matrix `.csv .npy .npz`; votes `.jsonl`; a JSON game `.json`.

    Raises:
        ValueError: an unknown ending, or content that is no game (with the line number in text formats).
        OSError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"{path}: unknown kind of game file {suffix!r}; accepted are {' '.join(READERS)}")
    _check_file(path)
    try:
        spec = READERS[suffix](path)
        if spec.oracle.batch_shape:
            raise ValueError("a matrix has at most three axes, contexts × responses × responses")
        return spec
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(path)) else f"{path}: {message}") from error


@dataclass(frozen=True, eq=False)
class Claim:
    """Policies from a file, with the players, τ and reference that the file names, if it does."""

    policies: Array
    players: int | None = None
    tau: float | list[float] | None = None
    reference: Array | None = None


def read_claim(path: Path) -> Claim:
    """Read policies from `.csv .npy .npz`, from JSON, or from what `mnpo sim solve --out` wrote.

    Raises:
        ValueError: content that is no array of numbers.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() in (".csv", ".npy", ".npz"):
        return Claim(read_policies(path))
    _check_file(path)
    content = _json(path)
    if not isinstance(content, dict):
        return Claim(as_array(content, f"{path}: policies"))
    if "policies" not in content:
        raise ValueError(f"{path}: has no key 'policies'; found {', '.join(sorted(content)) or 'nothing'}")
    reference = content.get("reference")
    return Claim(
        as_array(content["policies"], f"{path}: policies"),
        content.get("players"),
        content.get("tau"),
        None if reference is None else as_array(reference, f"{path}: reference"),
    )


def read_policies(path: Path) -> Array:
    """Read an array of policies, or a reference, from `.json .csv .npy .npz`.

    Raises:
        ValueError: content that is no array of numbers.
        OSError: the file cannot be read.
    """
    _check_file(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return as_array(_csv(path)[0], str(path))
    if suffix in (".npy", ".npz"):
        return as_array(_numpy(path), str(path))
    if suffix == ".json":
        return read_claim(path).policies
    raise ValueError(f"{path}: unknown kind of policy file {suffix!r}; accepted are .json .csv .npy .npz")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    if not path.exists():
        raise ValueError(f"no such file: {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")


# --- PrefLib -------------------------------------------------------------------------------------------------

_ORDER = re.compile(r"\d+:((\d+|\{\d+(,\d+)*\})(,(\d+|\{\d+(,\d+)*\}))*)?,?")


def _preflib(path: Path) -> GameSpec:
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


# --- matrices ------------------------------------------------------------------------------------------------


def _matrix_csv(path: Path) -> GameSpec:
    values, names, rows = _csv(path)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}, line 1: response {twice!r} is named twice")
    if rows and rows != names:
        raise ValueError(
            f"{path}: rows must have the columns' names in the same order; found {', '.join(rows)}"
        )
    return GameSpec(name=str(path), oracle=Pairwise(values), responses=names)


def _csv(path: Path) -> tuple[list[list[float]], tuple[str, ...], tuple[str, ...]]:
    """Read rows of numbers, and the names that a first row (and then a first column) may hold."""
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [
            (number, [cell.strip() for cell in row])
            for number, row in enumerate(csv.reader(file), 1)
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")
        ]
    if not rows:
        raise ValueError(f"{path}: has no rows of numbers")
    names: list[str] = []
    labelled = False
    if not any(_is_number(cell) for cell in rows[0][1]):
        _, names = rows.pop(0)
        labelled = bool(rows) and len(rows[0][1]) == len(names) and not _is_number(rows[0][1][0])
        names = names[1:] if labelled or (names and not names[0]) else names
        labelled = labelled or (bool(rows) and len(rows[0][1]) == len(names) + 1)
    values: list[list[float]] = []
    labels: list[str] = []
    for number, row in rows:
        cells = row[1:] if labelled else row
        labels += row[:1] if labelled else []
        if values and len(cells) != len(values[0]):
            raise ValueError(f"{path}, line {number}: expected {len(values[0])} numbers; found {len(cells)}")
        for cell in cells:
            if not _is_number(cell):
                raise ValueError(f"{path}, line {number}: not a number: {cell!r}")
        values.append([float(cell) for cell in cells])
    if not values:
        hint = "; numbers are separated by commas" if names and any(";" in name for name in names) else ""
        raise ValueError(f"{path}: has no rows of numbers{hint}")
    if names and len(names) != len(values[0]):
        raise ValueError(f"{path}: {len(names)} names for {len(values[0])} columns")
    return values, tuple(names), tuple(labels)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _matrix_numpy(path: Path) -> GameSpec:
    return GameSpec(name=str(path), oracle=Pairwise(_numpy(path)))


def _numpy(path: Path) -> Any:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            names = content.files
            if len(names) != 1:
                raise ValueError(f"{path}: must hold one array; found {len(names)}: {', '.join(names)}")
            return content[names[0]]
    except (EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        if getattr(error, "errno", None) is not None or str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: not a NumPy file of numbers") from None


# --- votes ---------------------------------------------------------------------------------------------------


def _votes(path: Path) -> GameSpec:
    wins: dict[tuple[str, str], float] = {}
    names: dict[str, None] = {}
    votes = 0
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            vote = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error.msg})") from None
        if not isinstance(vote, dict):
            raise ValueError(f"{where}: expected an object with model_a, model_b, winner")
        missing = [key for key in ("model_a", "model_b", "winner") if key not in vote]
        if missing:
            raise ValueError(f"{where}: has no {', '.join(missing)}")
        first, second, winner, weight = (
            vote["model_a"],
            vote["model_b"],
            vote["winner"],
            vote.get("weight", 1),
        )
        if not isinstance(first, str) or not isinstance(second, str) or first == second:
            raise ValueError(f"{where}: model_a and model_b must be two different names")
        if winner not in ("model_a", "model_b", "tie"):
            raise ValueError(f"{where}: winner must be model_a, model_b or tie; found {winner!r}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e15:
            raise ValueError(f"{where}: weight must be a number above 0 and at most 1e15; found {weight!r}")
        names.update({first: None, second: None})
        share = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}[winner]
        wins[first, second] = wins.get((first, second), 0.0) + weight * share
        wins[second, first] = wins.get((second, first), 0.0) + weight * (1 - share)
        votes += 1
    if not votes:
        raise ValueError(f"{path}: has no votes")
    order = sorted(names)
    index = {name: place for place, name in enumerate(order)}
    counts = np.zeros((len(order), len(order)))
    for (winner_name, loser_name), weight in wins.items():
        counts[index[winner_name], index[loser_name]] = weight
    total = counts + counts.T
    matrix = np.where(total > 0, counts / np.where(total > 0, total, 1.0), 0.5)
    unseen = int((total == 0).sum() - len(order)) // 2
    notes = [f"{votes} votes on {len(order)} models"]
    if unseen:
        notes.append(
            f"{unseen} of {len(order) * (len(order) - 1) // 2} pairs have no votes; they are taken as even"
        )
    return GameSpec(name=str(path), oracle=Pairwise(matrix), responses=tuple(order), notes=tuple(notes))


# --- JSON games ----------------------------------------------------------------------------------------------

_COMMON = {"responses", "reference", "players", "tau"}


def _json(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: malformed JSON, {error.msg} (column {error.colno})"
        ) from None
    except RecursionError:
        raise ValueError(f"{path}: malformed JSON, nested too deeply") from None


def _json_game(path: Path) -> GameSpec:
    content = _json(path)
    if not isinstance(content, dict):
        raise ValueError("a game file holds one JSON object with the key 'oracle'")
    players = content.get("players")
    if players is not None and (isinstance(players, bool) or not isinstance(players, int)):
        raise ValueError(f"players must be an integer of at least 2; found {players!r}")
    oracle = _oracle(content, players, frozenset(_COMMON))
    tau = content.get("tau")
    if tau is not None:
        strengths = as_array(tau, "tau")
        if strengths.ndim > 1:
            raise ValueError(f"tau must be one number or one for each player; found {tau}")
        tau = float(strengths) if strengths.ndim == 0 else tuple(float(value) for value in strengths.ravel())
    names = content.get("responses", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("responses must be a list of names")
    reference = content.get("reference")
    spec = GameSpec(
        name=str(path),
        oracle=oracle,
        responses=tuple(names),
        players=players,
        tau=tau,
        reference=None if reference is None else as_array(reference, "reference"),
    )
    spec.game()  # refuses a reference, names or players that do not fit
    return spec


def _oracle(content: Any, players: int | None, common: frozenset[str] = frozenset()) -> Oracle:
    if not isinstance(content, dict) or "oracle" not in content:
        raise ValueError("an oracle is an object with the key 'oracle'")
    kind = content["oracle"]
    if not isinstance(kind, str) or kind not in _ORACLES:
        raise ValueError(f"unknown oracle {kind!r}; {suggestion(str(kind), _ORACLES)}")
    own, build = _ORACLES[kind]
    known = {"oracle", own, *common}
    extra = set(content) - known
    if extra:
        name = sorted(extra)[0]
        raise ValueError(f"unknown key {name!r} of oracle {kind}; {suggestion(name, known)}")
    if own not in content:
        raise ValueError(f"oracle {kind} needs the key {own!r}")
    return build(content[own], players)


def _population(annotators: Any, players: int | None) -> Oracle:
    if not isinstance(annotators, list) or not annotators:
        raise ValueError("annotators must be a list of objects with 'ranking' or 'utilities'")
    rankings: list[tuple[Any, float]] = []
    utilities: list[tuple[Any, float]] = []
    for number, annotator in enumerate(annotators):
        where = f"annotator {number}"
        if not isinstance(annotator, dict) or ("ranking" in annotator) == ("utilities" in annotator):
            raise ValueError(f"{where}: must have either 'ranking' or 'utilities'")
        unknown = set(annotator) - {"ranking", "utilities", "weight"}
        if unknown:
            raise ValueError(f"{where}: unknown key {sorted(unknown)[0]!r}")
        weight = annotator.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"{where}: weight must be a number of at least 0; found {weight!r}")
        (rankings if "ranking" in annotator else utilities).append(
            (annotator.get("ranking", annotator.get("utilities")), float(weight))
        )
    contexts, size = _population_shape([ranking for ranking, _ in rankings], [u for u, _ in utilities])
    levels = [
        np.stack([levels_of(order, size) for order in _orders(ranking, contexts)]) for ranking, _ in rankings
    ]
    values = []
    for given, _ in utilities:
        array = as_array(given, "utilities")
        if array.ndim == 2 and array.shape[0] not in (1, contexts):
            raise ValueError(
                f"utilities of one annotator have {array.shape[0]} contexts; others have {contexts}"
            )
        values.append(np.broadcast_to(array, (contexts, size)))
    return Population(
        levels=np.stack(levels) if levels else None,
        level_weights=[weight for _, weight in rankings] if rankings else None,
        utilities=np.stack(values) if values else None,
        utility_weights=[weight for _, weight in utilities] if utilities else None,
    )


def _population_shape(rankings: list[Any], utilities: list[Any]) -> tuple[int, int]:
    """Return X and A: from the utilities if there are any, else one more than the highest response named."""
    contexts, sizes = 1, set()
    for values in utilities:
        shape = as_array(values, "utilities").shape
        if len(shape) not in (1, 2):
            raise ValueError(
                f"utilities must be a list of numbers, or one list per context; found shape {shape}"
            )
        sizes.add(shape[-1])
        contexts = max(contexts, shape[0] if len(shape) == 2 else 1)
    if len(sizes) > 1:
        raise ValueError(f"all annotators must value the same responses; found {sorted(sizes)} utilities")
    highest = -1
    for ranking in rankings:
        orders = _orders(ranking, None)
        contexts = max(contexts, len(orders))
        for order in orders:
            for tied in order:
                highest = max(highest, *(index for index in tied if isinstance(index, int)), -1)
    size = sizes.pop() if sizes else highest + 1
    if size < 1:
        raise ValueError("the rankings name no responses; they are numbers from 0")
    check_memory((8, len(rankings) + len(utilities), contexts, size), "the annotators")
    return contexts, size


def _orders(ranking: Any, contexts: int | None) -> list[list[list[int]]]:
    """Return one weak order per context; `[2, 0, 1]`, `[[2], [0, 1]]` and a list of the latter are accepted."""
    if not isinstance(ranking, list) or not ranking:
        raise ValueError(f"ranking must be a list of tie classes, best first; found {ranking!r}")
    classes = [tied if isinstance(tied, list) else [tied] for tied in ranking]
    nested = [any(isinstance(member, list) for member in tied) for tied in classes]
    if not any(nested):
        return [classes] * (contexts or 1)
    if not all(nested):
        raise ValueError("ranking mixes tie classes and contexts")
    orders = [[tied if isinstance(tied, list) else [tied] for tied in order] for order in ranking]
    if contexts is not None and len(orders) not in (1, contexts):
        raise ValueError(f"ranking has {len(orders)} contexts; others have {contexts}")
    return orders * (contexts or 1) if len(orders) == 1 else orders


def _heterogeneous(oracles: Any, players: int | None) -> Oracle:
    if not isinstance(oracles, list):
        raise ValueError("oracles must be a list, one for each player")
    built = []
    for number, content in enumerate(oracles):
        try:
            built.append(_oracle(content, len(oracles)))
        except ValueError as error:
            raise ValueError(f"oracle {number}: {error}") from None
    return Heterogeneous(built)


_ORACLES: dict[str, tuple[str, Callable[[Any, int | None], Oracle]]] = {
    "pairwise": ("matrix", lambda values, players: Pairwise(values)),
    "plackett-luce": ("utilities", lambda values, players: _plackett_luce(values)),
    "population": ("annotators", _population),
    "tensor": ("tensor", lambda values, players: DenseTensor(values, players=players)),
    "heterogeneous": ("oracles", _heterogeneous),
}


def _plackett_luce(values: Any) -> Oracle:
    utilities = as_array(values, "utilities")
    if utilities.ndim not in (1, 2):
        raise ValueError(
            f"utilities must be a list of numbers, or one per context; found shape {utilities.shape}"
        )
    return PlackettLuce(utilities)


READERS: dict[str, Callable[[Path], GameSpec]] = {
    ".soc": _preflib,
    ".soi": _preflib,
    ".toc": _preflib,
    ".toi": _preflib,
    ".csv": _matrix_csv,
    ".npy": _matrix_numpy,
    ".npz": _matrix_numpy,
    ".jsonl": _votes,
    ".json": _json_game,
}
