"""Files of prompts, and the configuration of a run that samples responses to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mnpo.llm.config import Config, load


def configured(tmp_path: Path, *overrides: str) -> Config:
    return load("tiny", [f"output_dir={tmp_path / 'run'}", "model_name_or_path=tiny:gemma2", *overrides])


def written(tmp_path: Path, rows: list[Any], name: str = "prompts.jsonl") -> str:
    file = tmp_path / name
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return f"prompt_dataset_name={file}"
