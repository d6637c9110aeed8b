"""What the tests of models share: small models in folders, and folders with other weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from mnpo.llm.models import tiny

Change = Callable[[dict[str, Tensor]], Any]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a small model: gemma2 (tied), llama (untied), gpt2."""
    home = tmp_path_factory.mktemp("models")
    return lambda family: tiny.build(f"tiny:{family}", home)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """Copy a folder and change its weights, and keys of its configuration."""

    def edit(folder: Path, change: Change = lambda weights: None, **keys: Any) -> Path:
        copy = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("checksums.json"))  # changed on purpose
        (file,) = copy.glob("*model.safetensors")
        weights = load_file(file)
        change(weights)
        save_file(weights, file, {"format": "pt"})
        (settings,) = [*copy.glob("adapter_config.json")] or copy.glob("config.json")
        settings.write_text(json.dumps(json.loads(settings.read_text()) | keys))
        return copy

    return edit
