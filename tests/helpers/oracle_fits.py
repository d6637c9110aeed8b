"""Small fits of oracles: a model of random weights, few judgments, three steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mnpo.llm.config import load
from mnpo.llm.oracles.base import Question, TextOracle
from mnpo.llm.oracles.panel import build
from mnpo.llm.stages.records import FittedOracle
from mnpo.llm.stages.running import run_stage

#: Three steps of eight judgments each.
SMALL = ["dataset_name=tiny:pairs:60", "eval_size=20", "max_steps=3", "per_device_train_batch_size=8",
         "per_device_eval_batch_size=8", "save_steps=1", "logging_steps=1", "learning_rate=1e-3", "use_cpu=true"]  # fmt: skip


def fit_oracle(home: Path, model: Path, *overrides: str) -> FittedOracle:
    """Fit an oracle in this process."""
    given = [f"output_dir={home}", f"model_name_or_path={model}", *SMALL, *overrides]
    record: FittedOracle = run_stage("fit-oracle", load("tiny", given))
    return record


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Write data and return their name."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def fitted(home: Path, **options: Any) -> TextOracle:
    """Return the oracle that was fitted into a folder."""
    oracle = build(str(home)).members[0].oracle
    if not options:
        return oracle
    kind = type(oracle)
    return kind(name="fitted", model=str(home), **options)


def asked(oracle: TextOracle, questions: Sequence[Question]) -> list[float]:
    """Return an oracle's answers in order."""
    found = dict(pair for some in oracle.answer(questions, torch.device("cpu")) for pair in some)
    return [found[place] for place in range(len(questions))]
