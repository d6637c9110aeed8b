"""Folders of models: where they lie, what they hold and what they are by content; without torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mnpo.common.digests import data_digest, file_digests, stamp
from mnpo.common.seals import SEAL, damage

WEIGHTS = (".safetensors", ".bin", ".gguf")
#: What PEFT calls the weights of an adapter.
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
#: What a trainer leaves beside a model under the names of weights.
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin")
#: What is fetched of a model that a hub holds.
_FETCHED = ["*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja", "*.py", "*.gguf"]
#: Architectures that write no text, whatever the family: LlamaForSequenceClassification and its like.
_NO_POLICY = re.compile(
    r"For(\w*Classification|\w*Reward\w*|QuestionAnswering|MultipleChoice|MaskedLM)$|RewardModel"
)


def find(name: str) -> Path:
    """Return the folder of a model: a local one, or the local copy of a hub's.

    Raises:
        ValueError: no such folder, or a hub that does not have or give it.
    """
    folder = Path(name).expanduser()
    if folder.exists():
        if not folder.is_dir():
            raise ValueError(f"model {name} is not a folder")
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ValueError(f"model {name}: no such folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_FETCHED))
    except Exception as error:  # whatever a network can do
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"model {name}: no such folder, and the hub does not give it ({reason})") from None


def check_weights(folder: Path) -> None:
    """Refuse a folder that holds neither a model's weights nor an adapter's, and one that was damaged since.

    Raises:
        ValueError: names the folder, and the files that are accepted or the one that is not what was written.
    """
    wrong = damage(folder) if (folder / SEAL).exists() else None
    if wrong is not None:
        raise ValueError(
            f"model {folder} is damaged: {wrong}; make it again, or remove {SEAL} if this is on purpose"
        )
    if is_adapter(folder):
        if not any((folder / name).is_file() for name in ADAPTER_WEIGHTS):
            raise ValueError(f"adapter folder {folder} holds no weights ({' or '.join(ADAPTER_WEIGHTS)})")
    elif not _weights(folder):
        raise ValueError(f"model folder {folder} holds no weights ({', '.join('*' + s for s in WEIGHTS)})")


def check_policy(folder: Path) -> None:
    """Refuse a folder without weights, and one whose configuration names a model that writes no text.

    Raises:
        ValueError: names the folder and the architecture.
    """
    check_weights(folder)
    for name in _architectures(folder):
        if _NO_POLICY.search(name):
            raise ValueError(
                f"model {folder} is a {name}, which writes no text; a policy is a causal language model"
            )


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds a PEFT adapter."""
    return (folder / "adapter_config.json").is_file()


def base_of(adapter: Path) -> Path:
    """Return the folder of the model that an adapter belongs to.

    Raises:
        ValueError: a configuration that does not name one, or names one that is not there.
    """
    name = _object(adapter / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ValueError(f"adapter {adapter}: its adapter_config.json names no base_model_name_or_path")
    try:
        return find(name)
    except ValueError as error:
        raise ValueError(f"adapter {adapter}: its base {error}") from None


def gguf_file(folder: Path, asked: str | None) -> str | None:
    """Return which GGUF file of a folder is read, if any: the one asked for, or the only weights there are."""
    if asked is None and not (folder / "config.json").is_file():
        found = [file.name for file in folder.iterdir() if file.suffix == ".gguf"]
        asked = found[0] if len(found) == 1 else None
    return None if asked is None or not (folder / asked).is_file() else asked


def fingerprint(folder: Path) -> str:
    """Return a digest of a model's configuration and weights, by content; of an adapter, with its base model."""
    names = {"config.json", "adapter_config.json"}
    files = sorted(f for f in folder.iterdir() if f.name in names or f.suffix in (*WEIGHTS, ".py"))
    # Weights are read once, but a folder that was written anew is another model.
    digests = file_digests(tuple(map(stamp, files)))
    parts = [[file.name, digest] for file, digest in zip(files, digests, strict=True)]
    if is_adapter(folder):
        parts.append(["base", fingerprint(base_of(folder))])
    return data_digest(*parts)


def _weights(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.suffix in WEIGHTS and file.name not in _NO_WEIGHTS]


def _architectures(folder: Path) -> list[str]:
    if is_adapter(folder) or not (folder / "config.json").is_file():
        return []
    return [str(name) for name in _object(folder / "config.json").get("architectures") or []]


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {file}: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise ValueError(f"cannot read {file}: it holds no JSON object")
    return found
