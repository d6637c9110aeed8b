"""Several processes for one run: torchrun's or accelerate's launcher, with packaged settings."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
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

#: Where a worker puts the line that says what went wrong.
ERRORS = "MNPO_ERRORS"


class WorkerFailed(RuntimeError):
    """A process of a run failed in a way that is no bad input."""


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


def launch(how: Plan, module: str, name: str, config: str) -> None:
    """Run a module in other processes: `python -m MODULE NAME CONFIG.yaml`.

    Args:
        how: how many, and how they share the work.
        module: what they run.
        name: its first argument.
        config: the content of the file that is its second one.

    Raises:
        ValueError: bad input that a process found.
        WorkerFailed: a process that failed otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="mnpo-") as scratch:
        resolved = Path(scratch) / "config.yaml"
        resolved.write_text(config, encoding="utf-8")
        _launch(["-m", module, name, str(resolved)], how.count, how.asked, how.file, Path(scratch))


def _launch(arguments: list[str], count: int, asked: int | None, file: Path | None, errors: Path) -> None:
    import torch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    environment = {ERRORS: str(errors), "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    if not torch.cuda.is_available():
        environment["DS_ACCELERATOR"] = "cpu"
    previous = {key: os.environ.get(key) for key in environment}
    os.environ.update(
        {key: value for key, value in environment.items() if key not in os.environ or key == ERRORS}
    )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.run").setLevel(logging.CRITICAL)
    try:
        if file is None:
            _torchrun(arguments, count)
        else:
            _accelerate(arguments, asked, file)
    except (ChildFailedError, subprocess.CalledProcessError):
        raise _failure(errors) from None
    except SystemExit as stop:  # how accelerate's own launchers fail
        if stop.code:
            raise _failure(errors) from None
    finally:
        for key, value in previous.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _torchrun(arguments: list[str], count: int) -> None:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    settings = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        run_id=f"mnpo-{os.getpid()}", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    elastic_launch(settings, sys.executable)(*arguments)


def _accelerate(arguments: list[str], count: int | None, file: Path) -> None:
    from accelerate.commands.launch import launch_command, launch_command_parser

    given = ["--config_file", str(file)]
    if count is not None:
        given += ["--num_processes", str(count)]
    launch_command(launch_command_parser().parse_args([*given, "--module", *arguments[1:]]))


def _failure(errors: Path) -> Exception:
    """Return the first line that a worker left, as the error that it was."""
    told = [file.read_text(encoding="utf-8").partition("\n") for file in sorted(errors.glob("error-*"))]
    # Bad input first: what the other processes tell is that this one went away.
    for kind, _, message in sorted(told, key=lambda report: report[0] != "input"):
        return ValueError(message) if kind == "input" else WorkerFailed(message)
    return WorkerFailed("a process of the run was killed or crashed; the same command again resumes")
