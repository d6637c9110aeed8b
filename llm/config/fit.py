"""How a policy is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import Section, key


@dataclass(frozen=True, kw_only=True)
class Fit(Section):
    """How a policy is trained, besides transformers' own arguments."""

    lora: dict[str, Any] | None = key(None, "keys of PEFT's LoraConfig; all weights are trained unless given")
