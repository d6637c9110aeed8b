"""What libraries keep for a whole process: noted as a worker starts, and put back before each stage.

So a stage computes what it would in a process of its own. The process group stays, and so does what is imported.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Any

from mnpo.llm.runtime.memory import release


class Beginning:
    """The state of this process at the time when this is made."""

    def __init__(self) -> None:
        import torch

        self._environment = dict(os.environ)
        self._seed = torch.initial_seed()
        self._threads = torch.get_num_threads()
        self._dtype = torch.get_default_dtype()
        self._linear = torch.nn.functional.linear
        self._deterministic = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        self._kept = [(where, name, getattr(where, name)) for where, name in _switches()]

    def restore(self) -> None:
        """Make this process as it was then: before each stage."""
        import numpy as np
        import torch

        for name in set(os.environ) - set(self._environment):
            del os.environ[name]
        os.environ.update(self._environment)
        torch.set_default_device(None)
        torch.set_default_dtype(self._dtype)
        torch.set_grad_enabled(True)
        torch.set_num_threads(self._threads)
        torch.use_deterministic_algorithms(self._deterministic[0], warn_only=self._deterministic[1])
        for where, name, value in self._kept:
            setattr(where, name, value)
        # ZeRO-3 replaces it, and leaves that to its caller to undo.
        torch.nn.functional.linear = self._linear
        _forget_shared_states()
        release()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch does not annotate it
            torch.cuda.reset_peak_memory_stats()
        torch.manual_seed(self._seed)
        # These start anywhere; a fit has left them where the next one would be, too.
        random.seed()
        np.random.seed()  # noqa: NPY002 it is that of libraries


def _switches() -> list[tuple[Any, str]]:
    """Return the switches that training arguments turn (`tf32`, `full_determinism`), and where they are."""
    from torch import backends

    switches: list[tuple[Any, str]] = [(backends.cudnn, "deterministic"), (backends.cudnn, "benchmark")]
    if hasattr(backends, "fp32_precision"):
        return [*switches, (backends, "fp32_precision")]
    return [*switches, (backends.cuda.matmul, "allow_tf32"), (backends.cudnn, "allow_tf32")]


def _forget_shared_states() -> None:
    """Forget how the last fit was shared out, and that models were to be loaded in parts."""
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    if "transformers.integrations.deepspeed" in sys.modules:
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()
