"""Options that commands share, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnpo.values import shown

if TYPE_CHECKING:
    from mnpo.numerics import Array
    from mnpo.sim.spec import GameSpec


def _game_names(incomplete: str) -> list[str]:
    from mnpo.sim.catalogue import CATALOGUE

    return [name for name in CATALOGUE if name.startswith(incomplete)]


def _rule_names(incomplete: str) -> list[str]:
    from mnpo.presets import RULES

    return [name for name in RULES if name.startswith(incomplete)]


GameName = Annotated[
    str,
    typer.Argument(
        metavar="GAME",
        help="A catalogue name with parameters ([cyan]rps:bias=0.2[/cyan], see [cyan]mnpo sim games[/cyan]) or a "
        "file: PrefLib .soc .soi .toc .toi, win matrix .csv .npy .npz, votes .jsonl, game .json.",
        autocompletion=_game_names,
        show_default=False,
    ),
]
RuleName = Annotated[
    str,
    typer.Option("--rule", help="Update rule, see [cyan]mnpo sim rules[/cyan].", autocompletion=_rule_names),
]
#: More updates than anybody waits for, and seeds that generators and files hold.
MOST_STEPS, LARGEST_SEED = 10**9, 2**63 - 1
Players = Annotated[
    int | None,
    typer.Option("--players", "-n", help="Number of players.", show_default="the game's, or 2"),
]
PlayerCounts = Annotated[
    str | None,
    typer.Option("--players", "-n", help="Numbers of players, with commas.", show_default="2,3,4,6"),
]
Tau = Annotated[
    str | None,
    typer.Option(
        "--tau", "-t", help="KL strength; one for each player with commas.", show_default="the game's, or 0.1"
    ),
]
StudyTau = Annotated[
    float | None, typer.Option("--tau", "-t", help="KL strength.", show_default="the game's, or 0.05")
]
Eta = Annotated[float, typer.Option("--eta", "-e", help="Step size: the exponent's factor on win rates.")]
Steps = Annotated[int, typer.Option("--steps", "-s", help="Number of updates.", min=0, max=MOST_STEPS)]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        help="Reference policies, .json .csv .npy .npz: A numbers, contexts × A, or players × contexts × A.",
        show_default="uniform",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of a random game.", min=0, max=LARGEST_SEED, show_default="0"),
]
Tolerance = Annotated[
    float,
    typer.Option("--tol", help="Exploitability allowed to each player by the certificate.", min=0, max=1),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Folder for results, figures and configuration; new or empty.",
        show_default="runs/..; none with --json",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def given(context: typer.Context) -> set[str]:
    """Return the parameters of a command that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def open_game(game: str, players: int | None = None, seed: int | None = None) -> GameSpec:
    """Open the game that a command is about; nothing else in the command is random.

    Raises:
        ValueError: as `load_game`, or a seed for a game that takes none.
        OSError: a file that cannot be read.
    """
    from mnpo.sim.load import load_game, takes_seed

    spec = load_game(game, players=players, seed=seed)
    if seed is not None and not takes_seed(game):
        raise ValueError(f"--seed has no effect: {game} is not random")
    return spec


def parse_numbers(text: str | None, name: str) -> float | list[float] | None:
    """Read one number, or several with commas; None stays None.

    Raises:
        ValueError: something that is not a number.
    """
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be a number, or numbers with commas; found {shown(text)}") from None
    return values[0] if len(values) == 1 else values


def parse_counts(text: str | None, name: str) -> list[int] | None:
    """Read integers with commas; None stays None.

    Raises:
        ValueError: something that is not an integer.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be integers with commas; found {shown(text)}") from None


def parse_list(text: str, name: str) -> list[float]:
    """Read numbers with commas.

    Raises:
        ValueError: something that is not a number.
    """
    values = parse_numbers(text, name)
    return values if isinstance(values, list) else [values] if values is not None else []


def read_reference(path: Path | None) -> Array | None:
    """Read a reference file, if one is named."""
    if path is None:
        return None
    from mnpo.sim.readers import read_policies

    return read_policies(path)
