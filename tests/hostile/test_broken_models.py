"""Models with a tensor that is not what it was, and broken files of models: refused by whatever reads them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import refused
from mutations import JSON_WORDS, fuzz, mutated, reshaped, seconds_to_fuzz
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from small_models import classifier, language_model
from torch import Tensor

from mnpo.llm.models import tiny
from mnpo.llm.models.loading import load_model, load_tokenizer

Weights = dict[str, Tensor]
TENSOR = "model.layers.0.mlp.up_proj.weight"
ROWS = [json.dumps({"prompt": "p", "chosen": "a", "rejected": f"b {k}"}) for k in range(4)]


def renamed(weights: Weights) -> None:
    weights["model.layers.0.mlp.down_prog.weight"] = weights.pop(TENSOR)


def transposed(weights: Weights) -> None:
    weights[TENSOR] = weights[TENSOR].T.contiguous()


def spoilt(weights: Weights) -> None:
    weights[TENSOR][1, 2] = torch.nan


#: What is done to one tensor, and the word that says so.
CHANGES: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "missing": (lambda weights: weights.pop(TENSOR), "lacks weights"),
    "renamed": (renamed, "lacks weights"),
    "transposed": (transposed, "other shapes"),
    "nan": (spoilt, "not finite"),
    "foreign": (lambda weights: weights.update({"model.other.weight": torch.ones(2)}), "has no place"),
}
POLICY = (
    "tiny",
    "model_name_or_path=m",
    "dataset_name=d.jsonl",
    "objective=dpo",
    "eval_size=0",
    "output_dir=out",
)
DRAWING = ("prompt_dataset_name=tiny:prompts:4", "eval_prompts=2", "num_generations=2", "max_new_tokens=4")
#: Who reads a model: the kind of model, and the command.
READERS: dict[str, tuple[str, list[str]]] = {
    "score": ("causal", ["llm", "score", *POLICY]),
    "fit": ("causal", ["llm", "fit", *POLICY]),
    "sample": ("causal", ["llm", "sample", *POLICY, *DRAWING]),
    "reference": (
        "causal",
        ["llm", "score", *POLICY, "model_name_or_path=whole", "reference_model_name_or_path=m"],
    ),
    "reward": ("classifier", ["llm", "test-oracle", "{kind: reward, model: m}", "d.jsonl", "output_dir=out"]),
    "preference": (
        "causal",
        ["llm", "test-oracle", "{kind: pairwise, model: m}", "d.jsonl", "output_dir=out"],
    ),
}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that are what they say: a policy, a reward model."""
    home, words = tmp_path_factory.mktemp("whole"), tiny.tokenizer()
    language_model(home / "causal", words)
    classifier(home / "classifier", words, num_labels=1)
    return {kind: home / kind for kind in ("causal", "classifier")}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reader", READERS)
def test_a_model_with_one_tensor_changed_is_refused_by_whoever_reads_it(
    reader: str, change: str, whole: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    kind, command = READERS[reader]
    shutil.copytree(whole[kind], tmp_path / "m")
    (tmp_path / "whole").symlink_to(whole["causal"])
    weights = load_file(tmp_path / "m" / "model.safetensors")
    CHANGES[change][0](weights)
    save_file(weights, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    case = {"command": command, "files": {"d.jsonl": {"lines": ROWS}}, "says": CHANGES[change][1]}
    refused(case, tmp_path, monkeypatch, capsys)


def adapt(folder: Path, base: Path) -> None:
    model = get_peft_model(
        load_model(base), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    )
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    "reader", [name for name, (kind, _) in READERS.items() if kind == "causal" and name != "preference"]
)
def test_an_adapter_with_foreign_tensors_is_refused_by_whoever_reads_it(
    reader: str, whole: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    adapt(tmp_path / "m", whole["causal"])
    (tmp_path / "whole").symlink_to(whole["causal"])
    file = tmp_path / "m" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file(
        weights | {"base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight": torch.ones(2, 32)}, file
    )
    command = [*READERS[reader][1], "tokenizer_name_or_path=whole"]
    refused(
        {"command": command, "files": {"d.jsonl": {"lines": ROWS}}, "says": "has no place"},
        tmp_path,
        monkeypatch,
        capsys,
    )


@pytest.mark.parametrize("kind", ["reward", "pairwise"])
def test_an_adapter_is_no_oracle(
    kind: str, whole: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    adapt(tmp_path / "m", whole["causal"])
    command = ["llm", "test-oracle", f"{{kind: {kind}, model: m}}", "d.jsonl", "output_dir=out"]
    refused(
        {"command": command, "files": {"d.jsonl": {"lines": ROWS}}, "says": "m"},
        tmp_path,
        monkeypatch,
        capsys,
    )


# --- whatever libraries raise --------------------------------------------------------------------------------


def reader_of(name: str, whole: dict[str, Path], folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    """Return the file of a model that is mutated, and what reads the model; errors name its folder."""
    model = folder / "model-of-this-test"
    if name.startswith("adapter"):
        adapt(model, whole["causal"])
    else:
        shutil.copytree(whole["causal"], model)
    read: Callable[[Path], Any] = load_tokenizer if name.startswith(("tokenizer", "special")) else load_model

    def named(path: Path) -> Any:
        try:
            return read(model)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}" if model.name in str(error) else str(error)) from None

    return model / name, named


def check_read(found: Any) -> None:
    if isinstance(found, torch.nn.Module):
        assert all(bool(torch.isfinite(weights).all()) for weights in found.parameters())
    else:
        assert found("hello")["input_ids"] is not None


FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "adapter_config.json",
         "adapter_model.safetensors")  # fmt: skip


def mutations_of(file: Path) -> Any:
    content = file.read_bytes()
    if file.suffix != ".json":  # most of it are numbers; what is read first says where they are
        size = 8 + int.from_bytes(content[:8], "little")
        return mutated([content[:size]], JSON_WORDS).map(lambda header: header + content[size:]) | mutated(
            [content]
        )
    return mutated([content], JSON_WORDS) | reshaped([json.loads(content)], ("vocab_size", "auto_map", "r"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_whatever_a_library_raises_is_one_line(name: str, whole: Any, tmp_path: Path) -> None:
    file, read = reader_of(name, whole, tmp_path)
    if name == "generation_config.json":
        file.write_text('{"eos_token_id": [1, 5], "pad_token_id": 0, "max_length": 20, "temperature": 0.5}')
    tried, _ = fuzz(mutations_of(file), file, read, check_read, examples=25)
    assert tried >= 15


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_for_as_long_as_one_likes(name: str, whole: Any, tmp_path: Path, capsys: Any) -> None:
    file, read = reader_of(name, whole, tmp_path)
    if name == "generation_config.json":
        file.write_text('{"eos_token_id": [1, 5], "pad_token_id": 0, "max_length": 20, "temperature": 0.5}')
    tried, taken = fuzz(mutations_of(file), file, read, check_read, seconds=seconds_to_fuzz(len(FILES)))
    with capsys.disabled():
        print(f"\n{name}: {tried} files, {taken} of them read", file=sys.stderr)
