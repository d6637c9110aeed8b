"""Folders of models: where they lie, what they hold and what they are by content; without torch."""

from __future__ import annotations

import re
from pathlib import Path

from mnpo.common.digests import data_digest, file_digests, stamp
from mnpo.common.given import read_json_object, user_path
from mnpo.common.seals import SEAL, damage
from mnpo.values import shown

#: Where a fit leaves its model, in its output folder.
MODEL = "model"
WEIGHTS = (".safetensors", ".bin", ".gguf")
#: How the index of weights in several parts is called.
_INDEX = (".safetensors.index.json", ".bin.index.json")
#: Files of settings that libraries read, and bytes of one.
_SETTINGS = ("config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json",
             "special_tokens_map.json", "added_tokens.json")  # fmt: skip
_LARGEST = 2**25
#: Numbers of which a list is made as they are read, the largest that they may be, and layers where nothing says.
_COUNTED, _MOST, _LAYERS = ("num_labels",), 10**5, 10_000
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
    folder = user_path(name)
    try:
        there = folder.exists()
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise ValueError(f"model {shown(name)}: {error.strerror}") from None
    if there:
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
    for index in _indices(folder):
        _check_index(index)


def check_settings(folder: Path) -> None:
    """Refuse files of settings that are no JSON objects, or that ask for more than a machine has.

    Raises:
        ValueError: names the file, and what is wrong with it.
    """
    for name in _SETTINGS:
        if (folder / name).exists():
            found = read_json_object(folder / name, _LARGEST)
            for key in _COUNTED:
                if isinstance(found.get(key), int) and abs(found[key]) > _MOST:
                    raise ValueError(
                        f"{folder / name}: {key} must be at most {_MOST}; found {shown(found[key])}"
                    )


def weights_on_disk(folder: Path) -> tuple[int, int]:
    """Return how many tensors there are in a folder's weights, at most, and how many bytes."""
    count, size = 0, 0
    for file in _weights(folder):
        size += file.stat().st_size
        if file.suffix == ".safetensors":
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                header = stream.read(min(length, _LARGEST))
            count += header.count(b'"data_offsets"')
        else:
            count += _LAYERS
    return count, size


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
    seen, base = [adapter.resolve()], _base_of(adapter)
    following = base
    while is_adapter(following):
        if following.resolve() in seen:
            raise ValueError(f"adapter {adapter}: its base {base} leads back to {following}")
        seen.append(following.resolve())
        following = _base_of(following)
    return base


def root_of(folder: Path) -> Path:
    """Return the folder of the model below all adapters; a model's own.

    Raises:
        ValueError: as `base_of`.
    """
    while is_adapter(folder):
        folder = base_of(folder)
    return folder


def _base_of(adapter: Path) -> Path:
    name = read_json_object(adapter / "adapter_config.json", _LARGEST).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ValueError(f"adapter {adapter}: its adapter_config.json names no base_model_name_or_path")
    try:
        return find(name)
    except ValueError as error:
        raise ValueError(f"adapter {adapter}: its base {' '.join(str(error).split())}") from None


def gguf_file(folder: Path, asked: str | None) -> str | None:
    """Return which GGUF file of a folder is read, if any: the one asked for, or the only weights there are."""
    if asked is None and not (folder / "config.json").is_file():
        found = [file.name for file in folder.iterdir() if file.suffix == ".gguf"]
        asked = found[0] if len(found) == 1 else None
    return None if asked is None or not (folder / asked).is_file() else asked


def fingerprint(folder: Path) -> str:
    """Return a digest of a model's configuration and weights, by content; of an adapter, with its base model."""
    names = {"config.json", "adapter_config.json", *(file.name for file in _indices(folder))}
    files = sorted(f for f in folder.iterdir() if f.name in names or f.suffix in (*WEIGHTS, ".py"))
    # Weights are read once, but a folder that was written anew is another model.
    digests = file_digests(tuple(map(stamp, files)))
    parts = [[file.name, digest] for file, digest in zip(files, digests, strict=True)]
    if is_adapter(folder):
        parts.append(["base", fingerprint(base_of(folder))])
    return data_digest(*parts)


def _weights(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.suffix in WEIGHTS and file.name not in _NO_WEIGHTS]


def _indices(folder: Path) -> list[Path]:
    """Return the files that say which weights stand where, of a model in several parts."""
    return sorted(file for file in folder.iterdir() if file.name.endswith(_INDEX))


def _check_index(index: Path) -> None:
    """Refuse an index that names other files than weights beside it.

    Raises:
        ValueError: names the index and the file.
    """
    named = read_json_object(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ValueError(f"{index}: weight_map must give a file for each weight; found {shown(named)}")
    for file in dict.fromkeys(map(str, named.values())):
        if file != Path(file).name or "\\" in file or Path(file).suffix not in WEIGHTS:
            raise ValueError(
                f"{index} leads out of the folder: {shown(file)} is no file of weights beside it"
            )
        if not (index.parent / file).is_file():
            raise ValueError(f"{index} names {shown(file)}, which is not there")


def _architectures(folder: Path) -> list[str]:
    if is_adapter(folder) or not (folder / "config.json").is_file():
        return []
    found = read_json_object(folder / "config.json", _LARGEST).get("architectures") or []
    if not isinstance(found, list):
        raise ValueError(f"{folder / 'config.json'}: architectures must be a list; found {shown(found)}")
    return [str(name) for name in found]
