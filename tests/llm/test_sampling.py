"""Prompts and the responses sampled to them: the distribution, the seeds, and what is bought."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from mnpo.llm import sampling, tiny
from mnpo.llm.config import Config, load
from mnpo.llm.models import load_model, load_tokenizer
from mnpo.llm.prompts import read_prompts
from mnpo.llm.sample import sample
from mnpo.llm.samplers import TransformersSampler, VllmSampler, end_ids, quantile
from mnpo.llm.sampling import Asked, Drawing


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (1.5, 0.35), (0.8, 0.999)])
def test_quantiles_are_draws_from_the_truncated_distribution(temperature: float, top_p: float) -> None:
    """Equally spaced numbers hit every token as often as its probability says; transformers says which remain."""
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)) * 3
    logits[1, 5:] = -torch.inf
    logits[2, 3:9] = logits[2, 3]  # equal logits
    count = 20000
    numbers = (torch.arange(count) + 0.5) / count
    warped = TopPLogitsWarper(top_p)(
        torch.zeros(1, 1), TemperatureLogitsWarper(temperature)(torch.zeros(1, 1), logits)
    )
    for row, expected in zip(logits, warped.double().softmax(-1), strict=True):
        found = (
            torch.bincount(quantile(row.expand(count, -1), numbers, temperature, top_p), minlength=40) / count
        )
        assert (found - expected).abs().max() < 2 / count
        assert not bool((found[expected == 0] > 0).any())


def test_greedy_and_edges() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, -torch.inf, 5.0]])
    assert quantile(logits, torch.tensor([0.9, 0.9]), 0.0, 1.0).tolist() == [1, 0]
    nearly_one = torch.tensor([1 - 1e-16, 1 - 1e-16], dtype=torch.float64)
    for top_p in (1.0, 0.999999):
        assert set(quantile(logits, nearly_one, 1.0, top_p).tolist()) <= {0, 1, 2}
        assert quantile(logits, nearly_one, 1.0, top_p)[1] == 2
    with pytest.raises(ValueError, match="not numbers"):
        quantile(logits * torch.nan, nearly_one, 1.0, 1.0)


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
    wanted = [Asked(prompt, "policy", k) for prompt in prompts for k in range(2)]
    store = sampling.store_of(tmp_path, {"model": family})
    seeds = [sampling.seed_of(store, asked) for asked in wanted]
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


def test_frequencies_of_first_tokens(tmp_path: Path) -> None:
    """Over many seeds the first token has the model's own distribution."""
    model = load_model(tiny.build("tiny:gpt2", tmp_path))
    with torch.no_grad():
        model.transformer.ln_f.weight *= 6  # a distribution with likely and unlikely tokens
        expected = model(input_ids=torch.tensor([[7, 8, 9]])).logits[0, -1].double().softmax(-1).numpy()
    store = sampling.store_of(tmp_path, {})
    wanted = [Asked((7, 8, 9), "policy", k) for k in range(3000)]
    sampler = TransformersSampler(model, [5], Drawing(1.0, 1.0, 1, 8, 0))
    first = [ids[0] for ids, _ in sampler(wanted, [sampling.seed_of(store, asked) for asked in wanted])]
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
    found = sampler([Asked((1, 2, 3), "policy", 0), Asked((1,) * 7, "policy", 0)], [11, 2**64 - 1])
    assert found == [([30, 31, 5], True), ([40, 41, 42], False)]
    assert given["options"] == {"model": str(tmp_path), "max_model_len": 10, "tensor_parallel_size": 2}
    assert given["prompts"][0] == {"prompt_token_ids": [1, 2, 3]}
    first, second = given["settings"]
    assert (first.temperature, first.top_p, first.seed, first.max_tokens) == (0.8, 0.95, 11, 6)
    assert (second.max_tokens, second.stop_token_ids) == (3, [5])
    assert 0 <= second.seed < 2**63


def configured(tmp_path: Path, *overrides: str) -> Config:
    return load("tiny", [f"output_dir={tmp_path / 'run'}", "model_name_or_path=tiny:gemma2", *overrides])


def written(tmp_path: Path, rows: list[Any], name: str = "prompts.jsonl") -> str:
    file = tmp_path / name
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return f"prompt_dataset_name={file}"


def test_prompts_of_every_format(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows: list[Any] = [
        {"prompt": "one"},
        {"prompt": [{"role": "user", "content": "two"}]},
        {"messages": [*turns, {"role": "user", "content": "three"}, {"role": "assistant", "content": "x"}]},
        {"question_id": 81, "turns": ["four", "and then"]},
        {"instruction": "Translate.", "input": "five"},
        {"prompt": "six", "chosen": "a", "rejected": "b"},
        {"chosen": "\n\nHuman: seven\n\nAssistant: a", "rejected": "\n\nHuman: seven\n\nAssistant: b"},
        {"prompt": "one"},
        {"prompt": "  "},
        {"answer": 3},
        "not json",
        {"prompt": "long " * 500},
    ]
    config = configured(tmp_path, written(tmp_path, rows), "eval_prompts=2")
    prompts, reports = read_prompts(config, tokenizer)
    everything = {prompt.number: prompt.text for part in prompts.values() for prompt in part}
    last = {number: text[-1]["content"] for number, text in everything.items()}  # type: ignore[index]  # messages
    assert last == {1: "one", 2: "two", 3: "three", 4: "four", 5: "Translate.\nfive", 6: "six", 7: "seven"}
    assert len(everything[3]) == 3
    assert dict(reports["train"].dropped) == {"repeated": 1, "empty": 1, "malformed": 2, "too long": 1}
    assert len(prompts["eval"]) == 2
    assert not {p.ids for p in prompts["eval"]} & {p.ids for p in prompts["train"]}
    ids = list(prompts["eval"][0].ids)
    assert tokenizer.decode(ids).endswith("<start_of_turn>model\n")
    assert ids.count(tokenizer.bos_token_id) == 1
    (tmp_path / "p.txt").write_text("first\n\nsecond\n")
    plain, _ = read_prompts(
        configured(tmp_path, f"prompt_dataset_name={tmp_path / 'p.txt'}", "eval_prompts=0"), tokenizer
    )
    assert len(plain["train"]) == 2


def test_parts_of_the_prompts_are_all_of_them_once(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    parts = [
        read_prompts(configured(tmp_path, f"prompt_part=[{t},3]", "eval_prompts=0.2"), tokenizer)[0]
        for t in (1, 2, 3)
    ]
    numbers = [[prompt.number for prompt in part["train"]] for part in parts]
    held = {prompt.number for prompt in parts[0]["eval"]}
    assert [{p.number for p in part["eval"]} for part in parts] == [held] * 3
    assert sorted(n for part in numbers for n in part) == sorted(set(range(1, 101)) - held)
    assert {len(part) for part in numbers} <= {26, 27}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rows=[]"], "has no prompt that can be used: 0 rows read"),
        (['rows=[{"prompt": ""}]'], "has no prompt that can be used: 1 rows read, 0 kept, 1 dropped: empty"),
        (['rows=[{"prompt": "a b c"}]', "max_prompt_length=3"], "1 dropped: too long"),
        (["prompt_dataset_name=nowhere.jsonl"], "no such file"),
        (["prompt_part=[1,200]"], "cannot be split over 200 iterations"),
        (["eval_prompts=100"], "eval_prompts must leave prompts to train on; found 100 of 100"),
        (["prompt_part=[1]"], "prompt_part must be [t, T]"),
        (["temperature=.nan"], "temperature must be a finite number"),
        (["oracle={kind: population, members: [3]}"], "a member must be a name or keys and values; found 3"),
        (["oracle={kind: synthetic, traits: forms, wins: abc}"], "must be finite numbers"),
        (["oracle={kind: synthetic, traits: forms, utilities: {brief: .nan}}"], "must be finite numbers"),
        (["oracle={kind: judge, model: m, base_url: 'http://me:secret@localhost/v1'}"], "must not hold a password"),
        (["num_generations=0"], "num_generations must be at least 1; found 0"),
        (["num_generations=1"], "num_generations must be at least 2 to make pairs of kind all; found 1"),
        (["num_generations=2"], "num_generations must be at least 3 for win rates against the policy itself"),
        (["pairing=third", "target=label"], "pairing=third needs target=win-rate"),
        (["group_size=2", "target=label"], "group_size above 1 needs target=win-rate"),
        (["target=reward"], "needs oracles that give rewards; styles tells probabilities"),
        (["rule={name: egpo, eta: 1, tau: 0.1}"], "rule egpo credits the win rate against a policy that nobody plays"),
        (["oracle=style"], "unknown oracle 'style'; did you mean 'styles'?"),
        (["oracle={kind: rewards}"], "unknown kind of oracle 'rewards'; did you mean 'reward'?"),
        (["oracle={kind: population, members: []}"], "needs members"),
        (["oracle={kind: synthetic, traits: forms, utilities: {short: 1}}"], "unknown trait of forms 'short'"),
        (["oracle={kind: synthetic, traits: forms, wins: [[0.5, 0.6], [0.4, 0.5]]}"], "wins must be 3 × 3"),
        (["sampler=vllm"], "needs the extra: pip install 'mnpo"),
        (["top_p=0"], "top_p must be above 0 and at most 1; found 0"),
        (["max_length=10"], "which leaves no room within max_length 10"),
    ],
)  # fmt: skip
def test_what_cannot_be_sampled(overrides: list[str], message: str, tmp_path: Path) -> None:
    if overrides[0].startswith("rows="):
        overrides[0] = written(tmp_path, json.loads(overrides[0].removeprefix("rows=")))
    with pytest.raises(ValueError, match=r".") as caught:
        sample(configured(tmp_path, *overrides))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
