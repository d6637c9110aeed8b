"""How many processes share a run, and how: packaged settings, or accelerate's own file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnpo.choices import suggestion
from mnpo.llm.runtime.processes import launched

_ZERO: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    "steps_per_print": 10**9,
}

#: What each way of sharing the work asks of transformers' Trainer.
SETTINGS: dict[str, dict[str, Any]] = {
    "single": {},
    "ddp": {},
    "zero2": {"deepspeed": {**_ZERO, "zero_optimization": {"stage": 2, "overlap_comm": True}}},
    "zero3": {
        "deepspeed": {
            **_ZERO,
            "zero_optimization": {
                "stage": 3,
                "overlap_comm": True,
                "stage3_gather_16bit_weights_on_model_save": True,
            },
        }
    },
    "fsdp": {
        "fsdp": "full_shard auto_wrap",
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "state_dict_type": "FULL_STATE_DICT",
        },
    },
}


@dataclass(frozen=True)
class Plan:
    """How many processes share the work, and how.

    Attributes:
        count: how many.
        asked: how many were asked for.
        mode: a key of `SETTINGS`, or "file".
        file: accelerate's own configuration file, where the mode is "file".
    """

    count: int
    asked: int | None
    mode: str
    file: Path | None

    @property
    def arguments(self) -> dict[str, Any]:
        """What it asks of transformers' Trainer."""
        return SETTINGS.get(self.mode, {})

    @property
    def here(self) -> bool:
        """Whether this process does the work, alone or as one of those that something else started."""
        return self.mode == "single" or launched()


def plan(processes: int | None = None, accelerate: str | None = None, *, use_cpu: bool = False) -> Plan:
    """Say how work is shared.

    Args:
        processes: how many; by default one for each GPU, or one.
        accelerate: a key of `SETTINGS`, or accelerate's own configuration file; by default "single" for one
            process and "ddp" for more.
        use_cpu: whether GPUs are left alone.

    Raises:
        ValueError: unknown settings, or settings that do not go together.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"num-processes must be at least 1; found {processes}")
    file = None if accelerate in (None, *SETTINGS) else Path(str(accelerate)).expanduser()
    if file is not None and not file.is_file():
        raise ValueError(
            f"unknown setting {accelerate!r} of accelerate, and no such file; "
            f"{suggestion(str(accelerate), SETTINGS)}"
        )
    if launched() and (processes is not None or file is not None):
        raise ValueError(
            "the processes are started already: give num-processes and files to what started them"
        )
    if accelerate == "single" and processes is not None and processes > 1:
        raise ValueError(f"accelerate=single is one process; found num-processes {processes}")
    import torch

    gpus = 0 if use_cpu else torch.cuda.device_count()
    count = processes or (1 if accelerate == "single" else max(1, gpus))
    mode = "file" if file is not None else accelerate or ("single" if count == 1 else "ddp")
    if mode == "fsdp" and not torch.accelerator.is_available():
        raise ValueError(
            "accelerate=fsdp needs GPUs: without them it is ignored; choose from ddp, zero2, zero3"
        )
    return Plan(count, processes, mode, file)
