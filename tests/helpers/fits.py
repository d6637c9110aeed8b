"""Fits of a few seconds, as `mnpo llm score` and `fit` run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mnpo.llm.config import Config, load
from mnpo.llm.stages.records import Fitted, Scores
from mnpo.llm.stages.registry import run_here

#: A run of a few seconds.
SMALL = (
    "max_samples=90", "eval_size=20", "max_steps=6", "save_steps=2", "logging_steps=1", "save_total_limit=null",
    "per_device_train_batch_size=4", "num_train_epochs=2", "model_name_or_path=tiny:gemma2", "learning_rate=1e-3",
    "target=label", "rule={name: td-mnpo, eta: 8, tau: 0.02, players: 3}",
)  # fmt: skip


def fit(config: Config) -> Fitted:
    return run_here("fit", config)


def score(config: Config) -> Scores:
    return run_here("score", config)


def weights(folder: Path) -> bytes:
    """The model in an output folder, to the last bit."""
    return (folder / "model" / "model.safetensors").read_bytes()


def small(tmp_path: Path, *overrides: str, data: list[dict[str, Any]] | None = None) -> Config:
    extra = []
    if data is not None:
        file = tmp_path / "pairs.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in data))
        extra = [f"dataset_name={file}"]
    return load("tiny", [f"output_dir={tmp_path / 'run'}", *SMALL, *extra, *overrides])
