"""Who a player is, from a word of the command line or a value of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnpo.common.given import user_path
from mnpo.llm.config.parsing import NotYaml, parse
from mnpo.llm.data.made import PREFIX
from mnpo.llm.endpoints.addresses import check_no_secret
from mnpo.llm.models.folders import MODEL, is_adapter
from mnpo.llm.players.base import Player
from mnpo.llm.players.models import ModelPlayer
from mnpo.llm.players.others import EndpointPlayer, FilePlayer

_FILE = re.compile(r"\.(jsonl?|parquet)(\.gz)?$")
_ITERATION = re.compile(r"iteration-(\d+)")
#: What names a player itself.
_KEYS = ("name", "model", "file")


def named(words: Sequence[str]) -> dict[str, Any]:
    """Return players by name.

    Args:
        words: of each player a model's folder or its name on the Hub, a run (all its iterations), a file of
            responses, or keys and values in braces: {name: .., model: ..}, {name: .., file: ..} or
            {name: .., base_url: .., model: ..}.

    Raises:
        ValueError: a word that is no player, or two of the same name.
    """
    runs = [word for word in words if iterations(word)]
    found: list[tuple[str, Any]] = []
    for word in words:
        if word.startswith("{"):
            found.append(_braces(word))
        elif word in runs:
            start = f"{Path(word).resolve().name}/" if len(runs) > 1 else ""
            found += [(start + name, str(folder)) for name, folder in iterations(word).items()]
        elif word.startswith(PREFIX) or not user_path(word).exists():
            found.append((word, word))
        else:
            path = user_path(word)
            own = path.resolve().name if path.is_dir() else _FILE.sub("", path.name)
            found.append((own, str(path)))
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two players are called {twice!r}; name them: {{name: .., model: ..}}")
    return dict(found)


def iterations(word: str) -> dict[str, Path]:
    """Return the policies that a run left, by iteration (and player); empty for what is no run."""
    home = user_path(word)
    if word.startswith("{") or not (home / "config.yaml").is_file():
        return {}
    numbered = sorted(
        (int(match[1]), folder)
        for folder in home.iterdir()
        if (match := _ITERATION.fullmatch(folder.name)) and folder.is_dir()
    )
    found = {}
    for number, folder in numbered:
        for model in sorted([folder / MODEL, *folder.glob(f"*/{MODEL}")]):
            if _is_model(model):
                player = "" if model.parent == folder else f"-{model.parent.name}"
                found[f"iteration-{number}{player}"] = model
    return found


def player_of(name: str, spec: Any) -> Player:
    """Return a player.

    Args:
        name: what it is called.
        spec: a model's folder or name, a file, or keys and values.

    Raises:
        ValueError: what is no player.
    """
    check_no_secret(spec, f"player {name}")
    if isinstance(spec, Mapping):
        given = {key: value for key, value in spec.items() if key != "name"}
        if "file" in given and len(given) == 1:
            return _file(name, str(given["file"]))
        if "base_url" in given and "model" in given:
            return EndpointPlayer(name, given)
        if given.keys() == {"model"}:
            return ModelPlayer(name, str(given["model"]))
        raise ValueError(
            f"player {name} must be a model, a file of responses, or an endpoint {{base_url: .., model: ..}}; "
            f"found the keys {', '.join(map(str, given)) or 'none'}"
        )
    if not isinstance(spec, str) or not spec:
        raise ValueError(f"player {name} must be a model, a file of responses or an endpoint; found {spec!r}")
    if spec.startswith(("http://", "https://")):
        raise ValueError(
            f"player {name}: an endpoint needs its model: {{name: .., base_url: {spec}, model: ..}}"
        )
    return _file(name, spec) if _FILE.search(spec) else ModelPlayer(name, spec)


def _file(name: str, file: str) -> FilePlayer:
    if not user_path(file).is_file():
        raise ValueError(f"player {name}: {file}: no such file")
    return FilePlayer(name, str(user_path(file)))


def _braces(word: str) -> tuple[str, Any]:
    try:
        spec = parse(word)
    except NotYaml:
        spec = None
    if not isinstance(spec, dict) or not any(spec.get(key) for key in _KEYS):
        raise ValueError(f"cannot read the player {word}; expected {{name: .., model: ..}}")
    name = str(spec.get("name") or spec.get("model") or spec.get("file"))
    return name, spec


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or is_adapter(folder)
