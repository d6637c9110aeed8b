"""How a run on language models shows where it is, and how libraries are kept from talking."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mnpo.common.progress import Progress
from mnpo.common.progress import progress as shown_progress


@contextmanager
def progress(shown: bool = True) -> Iterator[Progress]:
    """Give a function that is told what a run does: bars on a terminal, a line now and then elsewhere."""
    with shown_progress(shown, lines=True, group=stage_of) as report:
        yield report


def stage_of(what: str) -> str:
    """Return what a line of progress belongs to: details of a fit change while it goes on."""
    stage, _, details = what.partition(": ")
    return stage if stage.endswith("fit") else f"{stage}: {details}"


def part_of(report: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """Return the progress of one thing that is being done."""
    return None if report is None else lambda done, total: report(what, done, total)


def quiet() -> None:
    """Silence what libraries say of themselves; errors still come as errors."""
    import torch

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.simplefilter("ignore")
    import transformers
    from transformers.utils import logging as hf_logging

    transformers.logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    for name in ("DeepSpeed", "accelerate", "torch.distributed", "datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
