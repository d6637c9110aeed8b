"""Folders of models, without torch: what they hold, what is missing, and what they are by content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from imported import said_and_imported

from mnpo.llm.models import folders

Made = Callable[[str], Path]


def test_nobody_waits_for_torch_to_hear_that_a_folder_is_not_there() -> None:
    code = (
        "from mnpo.llm.models.folders import find\n"
        "try: find('./nowhere')\nexcept ValueError as error: print(error)"
    )
    assert said_and_imported(code) == ("model ./nowhere: no such folder", "")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"model folder .* holds no weights \(\*\.safetensors, \*\.bin, \*\.gguf\)"),
        (["config.json", "training_args.bin", "optimizer.bin"], "model folder .* holds no weights"),
        (["adapter_config.json", "model.safetensors"], r"adapter folder .* \(adapter_model\.safetensors or "),
    ],
)
def test_a_folder_without_weights_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=message):
        folders.check_weights(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "writes"),
    [
        ("LlamaForCausalLM", True),
        ("GPT2LMHeadModel", True),
        ("Gemma3ForConditionalGeneration", True),
        ("LlamaModel", True),
        ("Gemma2ForSequenceClassification", False),
        ("LlamaForRewardModelWithGating", False),
        ("BertForMaskedLM", False),
        ("InternLM2ForRewardModel", False),
    ],
)
def test_a_model_that_writes_no_text_is_no_policy(tmp_path: Path, architecture: str, writes: bool) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    if writes:
        folders.check_policy(tmp_path)
    else:
        with pytest.raises(ValueError, match=f"is a {architecture}, which writes no text"):
            folders.check_policy(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read .*adapter_config.json"),
        ("[]", "cannot read .*adapter_config.json: it holds no JSON object"),
        ("{}", "its adapter_config.json names no base_model_name_or_path"),
        ('{"base_model_name_or_path": "./gone"}', r"adapter .*: its base model ./gone: no such folder"),
    ],
)
def test_an_adapter_without_a_base_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        folders.base_of(tmp_path)


def test_which_gguf_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "one.gguf").touch()
    assert folders.gguf_file(tmp_path, None) == "one.gguf"
    (tmp_path / "two.gguf").touch()
    assert folders.gguf_file(tmp_path, None) is None
    assert folders.gguf_file(tmp_path, "two.gguf") == "two.gguf"
    assert folders.gguf_file(tmp_path, "three.gguf") is None
    (tmp_path / "two.gguf").unlink()
    (tmp_path / "config.json").touch()
    assert folders.gguf_file(tmp_path, None) is None


def test_a_fingerprint_is_of_the_content_and_stays_what_it_was(tmp_path: Path, made: Made) -> None:
    """Scores and samples are kept under it: what was kept is found again, and only by the same weights."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(made("llama"), here)
    shutil.copytree(here, there)
    (there / "tokenizer.json").write_text("other")
    digests = [
        [name, hashlib.blake2b((here / name).read_bytes(), digest_size=16).hexdigest()]
        for name in ("config.json", "model.safetensors")
    ]
    expected = hashlib.blake2b(json.dumps(digests).encode(), digest_size=16).hexdigest()
    assert folders.fingerprint(here) == folders.fingerprint(there) == expected
    weights = bytearray((there / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (there / "model.safetensors").write_bytes(weights)
    os.utime(there / "model.safetensors", ns=(1, 1))
    assert folders.fingerprint(there) != expected, "a folder that was written anew is another model"


def test_which_weights_stand_where_is_part_of_a_model(tmp_path: Path) -> None:
    """Its loading reads the index; a model in one piece has none, and its fingerprint is what it was."""
    for name, content in {"config.json": "{}", "a.safetensors": "a", "b.safetensors": "b"}.items():
        (tmp_path / name).write_text(content)
    alone = folders.fingerprint(tmp_path)
    index, found = tmp_path / "model.safetensors.index.json", set[str]()
    for first, second in (("a", "b"), ("b", "a")):
        index.write_text(
            json.dumps({"weight_map": {"x": f"{first}.safetensors", "y": f"{second}.safetensors"}})
        )
        found.add(folders.fingerprint(tmp_path))
    assert len(found | {alone}) == 3
    index.unlink()
    assert folders.fingerprint(tmp_path) == alone
