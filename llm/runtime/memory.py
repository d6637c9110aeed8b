"""Memory of models that are no longer used."""

from __future__ import annotations

import gc


def release() -> None:
    """Give back the memory of models that are no longer used."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
