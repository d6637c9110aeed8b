"""Games, policies and references from files. What is wrong in a file is said with its line where it has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mnpo.common.given import check_file
from mnpo.numerics import Array, as_array
from mnpo.sim.json_games import read_json_game, read_players, read_tau
from mnpo.sim.preflib import read_preflib
from mnpo.sim.reading import as_numbers, load_json
from mnpo.sim.spec import GameSpec
from mnpo.sim.tables import read_csv, read_matrix_csv, read_matrix_numpy, read_numpy, read_votes


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
    check_file(path, empty=False)
    try:
        spec = READERS[suffix](path)
        if spec.oracle.batch_shape:
            raise ValueError("a matrix has at most three axes, contexts × responses × responses")
        return spec
    except ValueError as error:
        raise _named(path, error) from error


@dataclass(frozen=True, eq=False)
class Claim:
    """Policies from a file, with the players, τ and reference that the file names, if it does."""

    policies: Array
    players: int | None = None
    tau: float | tuple[float, ...] | None = None
    reference: Array | None = None


def read_claim(path: Path) -> Claim:
    """Read policies from `.csv .npy .npz`, from JSON, or from what `mnpo sim solve --out` wrote.

    Raises:
        ValueError: content that is no array of numbers.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() in (".csv", ".npy", ".npz"):
        return Claim(read_policies(path))
    content = load_json(path)
    try:
        if not isinstance(content, dict):
            return Claim(as_numbers(content, "policies"))
        if "policies" not in content:
            raise ValueError(f"has no key 'policies'; found {', '.join(sorted(content)) or 'nothing'}")
        reference = content.get("reference")
        return Claim(
            as_numbers(content["policies"], "policies"),
            read_players(content),
            read_tau(content),
            None if reference is None else as_numbers(reference, "reference"),
        )
    except ValueError as error:
        raise _named(path, error) from error


def read_policies(path: Path) -> Array:
    """Read an array of policies, or a reference, from `.json .csv .npy .npz`.

    Raises:
        ValueError: content that is no array of numbers.
        OSError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return as_array(read_csv(path)[0], f"{path}: policies")
    if suffix in (".npy", ".npz"):
        return as_array(read_numpy(path), f"{path}: policies")
    if suffix == ".json":
        return read_claim(path).policies
    check_file(path, empty=False)
    raise ValueError(f"{path}: unknown kind of policy file {suffix!r}; accepted are .json .csv .npy .npz")


def _named(path: Path, error: ValueError) -> ValueError:
    """Return an error that names the file first, once, in one line whatever stands in names and keys."""
    message = " ".join(str(error).split())
    return ValueError(message if message.startswith(str(path)) else f"{path}: {message}")


READERS: dict[str, Callable[[Path], GameSpec]] = {
    ".soc": read_preflib,
    ".soi": read_preflib,
    ".toc": read_preflib,
    ".toi": read_preflib,
    ".csv": read_matrix_csv,
    ".npy": read_matrix_numpy,
    ".npz": read_matrix_numpy,
    ".jsonl": read_votes,
    ".json": read_json_game,
}
