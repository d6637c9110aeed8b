"""Runs of the loop of a few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnpo.llm.config import Config, load
from mnpo.llm.loop import train
from mnpo.llm.records import Run
from mnpo.llm.stages.registry import run_here

#: A run of a few seconds.
SMALL = (
    "iterations=2", "prompt_dataset_name=tiny:prompts:20", "eval_prompts=5", "num_generations=4",
    "eval_generations=2", "per_device_generation_batch_size=8", "per_device_eval_batch_size=4", "max_steps=4",
    "per_device_train_batch_size=8", "save_steps=2", "logging_steps=1",
)  # fmt: skip


def run_stage(name: str, config: Config) -> Any:
    return run_here(name, config)


def run(base: Path, folder: Path, *overrides: str) -> Run:
    given = [f"model_name_or_path={base}", f"output_dir={folder}", *SMALL, *overrides]
    return train(load("tiny", given), run_stage)


def weights(record: Run) -> list[bytes]:
    """The models of all iterations, to the last bit."""
    return [(Path(row.model) / "model.safetensors").read_bytes() for row in record.iterations]
