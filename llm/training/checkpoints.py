"""Checkpoints that are whole, told from those that a killed process left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

#: Written last into a checkpoint that is whole.
COMPLETE = "complete.json"


def mark_whole(checkpoint: Path, step: int) -> None:
    """Say that a checkpoint has all its files."""
    (checkpoint / COMPLETE).write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, if there is one."""
    found = []
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = checkpoint.name.rpartition("-")[2]
        if step.isdecimal() and (checkpoint / COMPLETE).is_file():
            found.append((int(step), checkpoint))
    return max(found)[1] if found else None


def drop_partial(folder: Path) -> None:
    """Remove checkpoints that a killed process left half-written."""
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if not (checkpoint / COMPLETE).is_file():
            shutil.rmtree(checkpoint)
