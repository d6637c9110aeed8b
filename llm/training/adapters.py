"""Adapters that are trained instead of a model's own weights (extra `[peft]`)."""

from __future__ import annotations

from typing import Any


def check_lora(keys: dict[str, Any] | None, task_type: str = "CAUSAL_LM") -> Any:
    """Return PEFT's configuration of an adapter; None for none.

    Args:
        keys: of LoraConfig.
        task_type: PEFT's: with "SEQ_CLS" the head of a classifier is trained and kept whole.

    Raises:
        ValueError: PEFT is not installed, or an unknown key.
    """
    if keys is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError:
        raise ValueError("lora needs the extra: pip install 'mnpo[peft]'") from None
    try:
        return LoraConfig(task_type=task_type, **keys)
    except (TypeError, ValueError) as error:
        raise ValueError(f"lora: {str(error).splitlines()[0]}") from None


def with_adapter(model: Any, lora: dict[str, Any], task_type: str = "CAUSAL_LM") -> Any:
    """Return a model with an adapter that is to be trained.

    Raises:
        ValueError: layers that the model does not have, or a value that PEFT does not take.
    """
    from peft import get_peft_model

    try:
        return get_peft_model(model, check_lora(lora, task_type))
    except (TypeError, ValueError, NotImplementedError) as error:  # the last is said of an unknown `bias`
        raise ValueError(f"lora: {str(error).splitlines()[0]}") from None
