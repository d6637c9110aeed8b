"""Runs of the loop of a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from counting_judge import Server

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


def in_every_stage(folder: Path, server: Server) -> dict[str, Callable[[], bool]]:
    """Tell by what a run has left that it is in the middle of a stage: of two iterations, one after the other."""
    first, second = folder / "iteration-1", folder / "iteration-2"
    return {
        "sample": lambda: any(file.stat().st_size > 2000 for file in folder.glob("samples/*/*.blocks")),
        "annotate": lambda: server.questions.total() > 20,
        "score": lambda: any(file.stat().st_size > 500 for file in folder.glob("scores/*/*.blocks")),
        "fit": lambda: (first / "fit/checkpoint-2/complete.json").exists(),
        "evaluate": lambda: len({f.parent for f in folder.glob("samples/*/*.blocks") if f.stat().st_size > 1500}) > 1,
        "second fit": lambda: (second / "fit/checkpoint-2/complete.json").exists(),
    }  # fmt: skip
