"""How responses are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import Section, key

#: Responses to one prompt at most: all pairs of more would take days to compare.
GENERATIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class Sampling(Section):
    """How responses are drawn from policies."""

    num_generations: int = key(5, "K, responses to each prompt", least=1, most=GENERATIONS)
    opponent_generations: int | None = key(
        None,
        "responses of each opponent, where the advantage asks for them; K unless given",
        least=1,
        most=GENERATIONS,
    )
    temperature: float = key(0.8, "of the sampling; 0 is greedy", least=0)
    top_p: float = key(
        0.95, "the mass of the likeliest tokens that are drawn from; 1 is everything", above=0, most=1
    )
    max_new_tokens: int | None = key(
        None, "tokens of a response at most; what max_length leaves unless given", least=1
    )
    per_device_generation_batch_size: int = key(16, "responses drawn at once", least=1, most=2**20, free=True)
    sampler: str = key("transformers", "transformers or vllm", choices=("transformers", "vllm"))
    vllm: dict[str, Any] = key({}, "keys of vLLM's LLM, such as tensor_parallel_size")
    stream: str = key(
        "policy",
        "the player in the seeds: players with equal weights sample independently",
        scope="iteration",
    )
