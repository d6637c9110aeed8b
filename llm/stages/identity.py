"""What work is made of, by content: the keys that it depends on, and the models and data that they name."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnpo.common.digests import data_digest, file_digest
from mnpo.llm.config import Config
from mnpo.llm.config.whole import Place, key_at
from mnpo.llm.models.folders import fingerprint


def settings_of(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same for work to go on: section.key -> value, as it reads when written as JSON.

    Models are told by their content: where one lies, and how that is spelt, does not matter.

    Args:
        sections: name -> section, of those that the work depends on.
    """
    kept: dict[str, Any] = {}
    for section, content in sections.items():
        for name, value in content.as_dict().items():
            if section == "compute":
                kept[f"{section}.{name}"] = value
                continue
            known = key_at(Place(section, name))
            if not known.free:
                kept[f"{section}.{name}"] = _by_content(value) if known.names_models else value
    found: dict[str, Any] = json.loads(json.dumps(kept, default=_told))
    return {**found, "num-processes": int(os.environ.get("WORLD_SIZE", 1))}


def data_digests(config: Config) -> dict[str, str]:
    """Return section.key -> digest, for the files of prompts and pairs that a configuration names."""
    found = {}
    for section, content in config.as_dict().items():
        for name, value in content.items():
            if section == "training" or not key_at(Place(section, name)).names_data or value is None:
                continue
            file = Path(value).expanduser()
            if file.is_file():
                found[f"{section}.{name}"] = file_digest(file)
    return found


def _told(value: Any) -> str:
    """What stands for an object in a manifest: of a function or a class its name and a digest of its source."""
    described = value if callable(value) else type(value)
    try:
        source = inspect.getsource(described)
    except (OSError, TypeError):
        source = ""
    return f"{getattr(described, '__qualname__', described)} {data_digest(source)}"


def _by_content(value: Any) -> Any:
    """Replace folders by what they hold."""
    if isinstance(value, dict):
        return {name: _by_content(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_by_content(one) for one in value]
    folder = None if value is None else Path(value).expanduser()
    return (
        f"a model with the digest {fingerprint(folder)}" if folder is not None and folder.is_dir() else value
    )
