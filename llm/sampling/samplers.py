"""What draws responses from a model: transformers' `generate` with a number for every token, or vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from mnpo.llm.data.encoding import Encoder
from mnpo.llm.models.folders import root_of
from mnpo.llm.models.loading import configuration, load_model
from mnpo.llm.models.reading import reading
from mnpo.llm.sampling.responses import Drawing, Sampler, Wanted
from mnpo.values import shown


class TransformersSampler:
    """Draws with transformers' `generate`: left-padded batches, KV cache.

    Args:
        model: on its device.
        ends: token ids that end a response.
        drawing: how.
        autocast: precision of the computation, where it is not that of the weights.
    """

    def __init__(
        self, model: Any, ends: Sequence[int], drawing: Drawing, autocast: torch.dtype | None = None
    ) -> None:
        self._model, self._ends, self._drawing, self._autocast = model.eval(), list(ends), drawing, autocast
        # What is left open below would be taken from here: penalties, forbidden tokens and the like.
        model.generation_config = GenerationConfig()

    def __call__(self, batch: Sequence[Wanted], seeds: Sequence[int]) -> list[tuple[list[int], bool]]:
        """See `Sampler`."""
        device = self._model.device
        width = max(len(one.prompt) for one in batch)
        room = [self._drawing.tokens_for(one.prompt) for one in batch]
        ids = torch.tensor([[self._ends[0]] * (width - len(a.prompt)) + list(a.prompt) for a in batch])
        attention = torch.tensor([[0] * (width - len(a.prompt)) + [1] * len(a.prompt) for a in batch])
        numbers = [np.random.default_rng(seed).random(max(room)) for seed in seeds]
        pick = _Quantiles(
            torch.tensor(np.stack(numbers), device=device),
            width,
            self._drawing,
            torch.tensor(room),
            self._ends,
        )
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=max(room),
            eos_token_id=self._ends,
            pad_token_id=self._ends[0],
            use_cache=True,
        )
        with torch.no_grad(), torch.autocast(device.type, self._autocast, enabled=self._autocast is not None):
            out = self._model.generate(
                input_ids=ids.to(device),
                attention_mask=attention.to(device),
                generation_config=settings,
                logits_processor=LogitsProcessorList([pick]),
            )
        return [
            _cut(row, limit, self._ends) for row, limit in zip(out[:, width:].tolist(), room, strict=True)
        ]


class _Quantiles(LogitsProcessor):  # type: ignore[misc]  # transformers is not typed
    """Leaves of each row's logits the one token that its uniform number points to."""

    def __init__(
        self, numbers: Tensor, width: int, drawing: Drawing, room: Tensor, ends: Sequence[int]
    ) -> None:
        self._numbers, self._width, self._drawing = numbers, width, drawing
        self._room, self._end = room.to(numbers.device), ends[0]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self._width
        chosen = quantile(scores, self._numbers[:, step], self._drawing.temperature, self._drawing.top_p)
        chosen = torch.where(step >= self._room, self._end, chosen)  # full rows need not go on
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


def quantile(logits: Tensor, numbers: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return the token at which the cumulative distribution passes a number.

    Args:
        logits: (B, V).
        numbers: (B,), uniform in [0, 1).
        temperature: of the logits; 0 means the likeliest token.
        top_p: only the likeliest tokens up to this mass, the one that passes it included (Holtzman et al. 2020).

    Returns:
        (B,) token ids. With uniform numbers they are draws from the truncated distribution.

    Raises:
        ValueError: logits that are not numbers.
    """
    if bool(torch.isnan(logits).any()):
        raise ValueError("the model's logits are not numbers")
    if temperature == 0:
        return logits.argmax(-1)
    chances = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        # Stable, so that equal logits do not fall differently in another batch.
        chances, order = chances.sort(dim=-1, descending=True, stable=True)
        chances = chances * (chances.cumsum(-1) - chances < top_p)
    mass = chances.cumsum(-1)
    place = torch.searchsorted(mass, (numbers.double() * mass[:, -1])[:, None], right=True)[:, 0]
    # Rounding must not lead past the last token that can be drawn.
    last = chances.shape[-1] - 1 - (chances > 0).flip(-1).int().argmax(-1)
    place = torch.minimum(place, last)
    return order.gather(1, place[:, None])[:, 0] if top_p < 1 else place


def _cut(row: list[int], limit: int, ends: Sequence[int]) -> tuple[list[int], bool]:
    """Return a response up to the token that ends it, at most `limit` tokens."""
    for place, token in enumerate(row[:limit]):
        if token in ends:
            return row[: place + 1], True
    return row[:limit], False


class VllmSampler:
    """Draws with vLLM, on GPUs; the same seeds, but its own arithmetic and random numbers.

    Args:
        folder: of the model.
        ends: token ids that end a response.
        drawing: how.
        options: of vLLM's `LLM`.

    Raises:
        ValueError: vLLM is not installed.
    """

    def __init__(
        self, folder: Path, ends: Sequence[int], drawing: Drawing, options: Mapping[str, Any]
    ) -> None:
        try:
            import vllm
        except ImportError:
            raise ValueError("sampler=vllm needs the extra: pip install 'mnpo[vllm]'") from None
        self._vllm, self._ends, self._drawing = vllm, list(ends), drawing
        self._llm = vllm.LLM(**{"model": str(folder), "max_model_len": drawing.room, **options})

    def __call__(self, batch: Sequence[Wanted], seeds: Sequence[int]) -> list[tuple[list[int], bool]]:
        """See `Sampler`."""
        settings = [
            self._vllm.SamplingParams(
                temperature=self._drawing.temperature,
                top_p=self._drawing.top_p,
                seed=seed % 2**63,
                max_tokens=self._drawing.tokens_for(one.prompt),
                stop_token_ids=self._ends,
                detokenize=False,
            )
            for one, seed in zip(batch, seeds, strict=True)
        ]
        prompts = [{"prompt_token_ids": list(one.prompt)} for one in batch]
        found = self._llm.generate(prompts, settings, use_tqdm=False)
        return [
            _cut(list(one.outputs[0].token_ids), limit.max_tokens, self._ends)
            for one, limit in zip(found, settings, strict=True)
        ]


def end_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Return the ids that end a response: the chat template's end of a turn first, the model's, the tokenizer's.

    Raises:
        ValueError: there is none.
    """
    given = getattr(generation_config, "eos_token_id", None)
    found = [*given] if isinstance(given, list | tuple) else [given]
    question: Any = "a" if tokenizer.chat_template is None else [{"role": "user", "content": "a"}]
    answer: Any = "b" if tokenizer.chat_template is None else [{"role": "assistant", "content": "b"}]
    last = Encoder(tokenizer).encode(question, answer).response[-1]
    added = getattr(tokenizer, "added_tokens_decoder", {})
    if last in tokenizer.all_special_ids or (last in added and added[last].special):
        found.insert(0, last)
    ends = [end for end in dict.fromkeys([*found, tokenizer.eos_token_id]) if end is not None]
    strange = [end for end in ends if type(end) is not int or not 0 <= end < len(tokenizer)]
    if strange:
        raise ValueError(
            f"the model's eos_token_id {shown(strange[0])} is no token of its tokenizer, which has {len(tokenizer)}"
        )
    if not ends:
        raise ValueError("the policy's tokenizer has no token that ends a response")
    return ends


def ends_of(
    folder: Path, tokenizer: Any, *, gguf_file: str | None = None, trust_remote_code: bool = False
) -> list[int]:
    """Return the ids that end a response of a model, which need not be loaded for that.

    Raises:
        ValueError: there is none, or no model's configuration.
    """
    home = root_of(folder)
    if (home / "generation_config.json").is_file():
        with reading(f"no generation_config.json that can be read in {home}"):
            given = GenerationConfig.from_pretrained(home)
        return end_ids(tokenizer, given)
    config = configuration(home, gguf_file=gguf_file, trust_remote_code=trust_remote_code)
    return end_ids(tokenizer, GenerationConfig.from_model_config(config))


def load_sampler(
    kind: str,
    folder: Path,
    ends: Sequence[int],
    drawing: Drawing,
    *,
    device: torch.device,
    autocast: torch.dtype | None,
    loading: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Sampler:
    """Load a model to draw from.

    Args:
        kind: "transformers" or "vllm".
        folder: of the model.
        ends: token ids that end a response.
        drawing: how.
        device: where transformers compute.
        autocast: precision of their computation, where it is not that of the weights.
        loading: what `mnpo.llm.models.loading.load_model` takes.
        options: of vLLM's `LLM`.

    Raises:
        ValueError: no such model, or no vLLM.
    """
    if kind == "vllm":
        return VllmSampler(folder, ends, drawing, options)
    model: Any = load_model(folder, **loading).to(device)
    return TransformersSampler(model, ends, drawing, autocast)
