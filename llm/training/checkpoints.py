"""Checkpoints that are whole, told from those that a killed process left and from those that are damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from mnpo.common.files import follow_umask
from mnpo.common.seals import damage, seal

#: The seal of a checkpoint, written last.
COMPLETE = "complete.json"


def mark_whole(checkpoint: Path, step: int) -> None:
    """Say that a checkpoint has all its files, and what they hold."""
    follow_umask(checkpoint)
    seal(checkpoint, COMPLETE, step=step)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, if there is one."""
    found = []
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = checkpoint.name.rpartition("-")[2]
        if step.isdecimal():
            found.append((int(step), checkpoint))
    return next((last for _, last in sorted(found, reverse=True) if damage(last, COMPLETE) is None), None)


def drop_partial(folder: Path) -> None:
    """Remove checkpoints that a killed process left half-written, or that are damaged."""
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if damage(checkpoint, COMPLETE) is not None:
            shutil.rmtree(checkpoint)
