"""What draws responses: the distribution, independence of the batch, and what vLLM is asked for."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnpo.llm.models import tiny
from mnpo.llm.models.loading import load_model, load_tokenizer
from mnpo.llm.sampling.responses import Drawing, SampleStore, Wanted
from mnpo.llm.sampling.samplers import TransformersSampler, VllmSampler, end_ids, quantile


@pytest.mark.parametrize("family", ["gemma2", "llama", "gpt2"])
def test_samples_do_not_depend_on_the_batch(family: str, tmp_path: Path) -> None:
    """One at a time, in batches, in another order, and without cache or padding: the same tokens."""
    folder = tiny.build(f"tiny:{family}", tmp_path)
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    # A model's own settings would change what is sampled, but not what is scored.
    model.generation_config.repetition_penalty = 5.0
    drawing = Drawing(1.0, 0.95, 12, 40, seed=0)
    ends = end_ids(tokenizer, model.generation_config)
    assert ends[0] == tokenizer.convert_tokens_to_ids("<end_of_turn>")
    sampler = TransformersSampler(model, ends, drawing)
    prompts = [tuple(range(10, 10 + length)) for length in (3, 9, 14, 33)]
    wanted = [Wanted(prompt, "policy", k) for prompt in prompts for k in range(2)]
    store = SampleStore(tmp_path, {"model": family}, ends)
    seeds = [store.seed_of(asked) for asked in wanted]
    assert len(set(seeds)) == len(seeds)
    alone = [sampler([asked], [seed])[0] for asked, seed in zip(wanted, seeds, strict=True)]
    assert sampler(wanted, seeds) == alone
    assert sampler(wanted[::-1], seeds[::-1]) == alone[::-1]
    assert alone[0] != alone[1]
    assert all(
        len(ids) <= drawing.tokens_for(asked.prompt) for asked, (ids, _) in zip(wanted, alone, strict=True)
    )
    assert len(alone[-1][0]) <= 7  # what max_length leaves
    for asked, seed, (ids, ended) in zip(wanted, seeds, alone, strict=True):
        numbers = np.random.default_rng(seed).random(drawing.tokens_for(asked.prompt))
        tokens = list(asked.prompt)
        for number in numbers:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([tokens])).logits[:, -1].float()
            tokens.append(int(quantile(logits, torch.tensor([number]), 1.0, 0.95)))
            if tokens[-1] in ends:
                break
        assert tokens[len(asked.prompt) :] == ids
        assert ended == (ids[-1] in ends)


def test_first_tokens_come_as_often_as_the_model_says(tmp_path: Path) -> None:
    """Over many seeds the first token has the model's own distribution."""
    model = load_model(tiny.build("tiny:gpt2", tmp_path))
    with torch.no_grad():
        model.transformer.ln_f.weight *= 6  # a distribution with likely and unlikely tokens
        expected = model(input_ids=torch.tensor([[7, 8, 9]])).logits[0, -1].double().softmax(-1).numpy()
    store = SampleStore(tmp_path, {}, [5])
    wanted = [Wanted((7, 8, 9), "policy", k) for k in range(3000)]
    sampler = TransformersSampler(model, [5], Drawing(1.0, 1.0, 1, 8, 0))
    first = [ids[0] for ids, _ in sampler(wanted, [store.seed_of(asked) for asked in wanted])]
    likely = np.argsort(-expected)[:20]
    found = np.bincount(first, minlength=len(expected)) / len(first)
    error = np.sqrt(expected * (1 - expected) / len(first))
    assert expected[likely[0]] > 0.01
    assert (np.abs(found - expected)[likely] < 4 * error[likely]).all()


def test_vllm_is_asked_for_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for vLLM, which needs GPUs: what it is given, and what is made of its answer."""
    given: dict[str, Any] = {}

    class Llm:
        def __init__(self, **options: Any) -> None:
            given["options"] = options

        def generate(self, prompts: Any, settings: Any, use_tqdm: bool) -> list[Any]:
            given.update(prompts=prompts, settings=settings)
            tokens = [[30, 31, 5], list(range(40, 40 + settings[1].max_tokens))]
            return [types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=ids)]) for ids in tokens]

    fake = types.ModuleType("vllm")
    fake.LLM, fake.SamplingParams = Llm, types.SimpleNamespace  # type: ignore[attr-defined]  # a stand-in
    monkeypatch.setitem(sys.modules, "vllm", fake)
    sampler = VllmSampler(tmp_path, [5], Drawing(0.8, 0.95, 6, 10, 0), {"tensor_parallel_size": 2})
    found = sampler([Wanted((1, 2, 3), "policy", 0), Wanted((1,) * 7, "policy", 0)], [11, 2**64 - 1])
    assert found == [([30, 31, 5], True), ([40, 41, 42], False)]
    assert given["options"] == {"model": str(tmp_path), "max_model_len": 10, "tensor_parallel_size": 2}
    assert given["prompts"][0] == {"prompt_token_ids": [1, 2, 3]}
    first, second = given["settings"]
    assert (first.temperature, first.top_p, first.seed, first.max_tokens) == (0.8, 0.95, 11, 6)
    assert (second.max_tokens, second.stop_token_ids) == (3, [5])
    assert 0 <= second.seed < 2**63
