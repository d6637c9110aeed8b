"""transformers' TrainingArguments, made of a configuration."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from mnpo.llm.config import Training
from mnpo.llm.runtime.processes import launched


def training_arguments(training: Training, folder: Path) -> TrainingArguments:
    """Return transformers' arguments.

    Raises:
        ValueError: values that do not fit together, or a package that is not installed.
    """
    given = {"logging_nan_inf_filter": False, "disable_tqdm": True, **training.values}
    given.setdefault("data_seed", training.compute.seed)
    given.setdefault("train_sampling_strategy", "group_by_length")
    if not torch.cuda.is_available() or given.get("use_cpu"):
        given |= _on_cpu(given)
    try:
        arguments = TrainingArguments(output_dir=str(folder), remove_unused_columns=False, **given)
    except (TypeError, ValueError, ImportError) as error:
        raise ValueError(f"training arguments: {str(error).splitlines()[0]}") from None
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process drives one GPU
    return arguments


def check_arguments(training: Training) -> None:
    """Refuse transformers' arguments that do not fit together.

    Raises:
        ValueError: as `training_arguments`.
    """
    if not launched():  # there the arguments form the processes' common state, and are checked by doing so
        training_arguments(training, Path(tempfile.gettempdir()) / "mnpo-unused")


def _on_cpu(given: dict[str, Any]) -> dict[str, Any]:
    """What makes accelerate see several processes on a machine without GPUs."""
    if not given.get("deepspeed") or not launched():
        return {"use_cpu": True}
    import deepspeed.ops
    from accelerate.state import AcceleratorState, PartialState

    # An operation for inference that DeepSpeed compiles as it starts: a minute, and a process that is killed
    # meanwhile leaves a lock for which every later run would wait for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    try:
        PartialState(backend="gloo")
    finally:
        del os.environ["ACCELERATE_USE_DEEPSPEED"]
    return {"accelerator_config": {**(given.get("accelerator_config") or {}), "use_configured_state": True}}
