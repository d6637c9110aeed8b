"""Scoring, sampling, and a whole run of the loop on a small model."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from gpu.cases import Case
from gpu.measuring import forget_peak, now, operations, peak, work
from gpu.shapes import EOS, FIRST, PAD, Size, model, tokenizer

#: What makes the loop take seconds on a CPU.
SHORT = (
    "model.model_name_or_path=tiny:gemma2", "data.dataset_name=tiny:pairs:40", "data.eval_size=8",
    "prompts.prompt_dataset_name=tiny:prompts:10", "sampling.num_generations=4", "loop.iterations=1",
    "evaluation.eval_generations=2",
)  # fmt: skip


def scoring(case: Case, size: Size, device: str, dtype: Any) -> dict[str, Any]:
    """Compute the log-probabilities of responses without gradient; return time, tokens and memory of a batch."""
    import torch

    from mnpo.llm.data.batches import laid_out
    from mnpo.llm.training.logprobs import attach, log_probs_of

    built = model(size, device, case.attention, dtype).eval()
    attach(built)
    rng = np.random.default_rng(0)

    def draw(length: int) -> list[int]:
        return rng.integers(FIRST, size.shape["vocab_size"], length).tolist()

    count = max(1, size.responses // case.responses)
    trees = [(draw(size.prompt), [draw(size.response) for _ in range(case.responses)]) for _ in range(count)]
    done = work([(size.prompt, [size.response] * case.responses)] * count, case.shared)
    if not case.shared:
        trees = [(prompt, [response]) for prompt, responses in trees for response in responses]
    seconds = []
    with torch.no_grad():
        for repeat in range(6):
            if repeat == 2:
                forget_peak(device)
            start = now(device)
            values = log_probs_of(built, laid_out(trees, PAD).to(device))
            seconds.append(now(device) - start)
    if not bool(torch.isfinite(values).all()):
        raise ValueError("a log-probability is not finite")
    second = float(np.median(seconds[2:]))
    return {
        "seconds": second,
        "tokens_per_s": done.useful / second,
        "computed_per_s": done.computed / second,
        "operations_per_s": operations(built, done, backward=False) / second,
        "peak_gb": peak(device),
    }


def sampling(case: Case, size: Size, device: str, dtype: Any) -> dict[str, Any]:
    """Draw responses; return drawn tokens per second of one batch."""
    import torch

    from mnpo.llm.sampling.responses import Drawing, Wanted
    from mnpo.llm.sampling.samplers import TransformersSampler, VllmSampler

    if case.who == "vLLM":
        import vllm  # noqa: F401  # what is missing is told before a model is made and written
    room = size.sampled_prompt + size.drawn
    drawing = Drawing(temperature=1.0, top_p=1.0, longest=size.drawn, room=room, seed=0)
    rng = np.random.default_rng(0)
    prompts = rng.integers(FIRST, size.shape["vocab_size"], (size.sampled, size.sampled_prompt))
    batch = [Wanted(tuple(prompt), "policy", k) for k, prompt in enumerate(prompts.tolist())]
    seeds = list(range(len(batch)))
    built = model(size, device, "eager", dtype)
    with tempfile.TemporaryDirectory() as folder:
        if case.who == "vLLM":
            built.save_pretrained(folder)
            tokenizer(size).save_pretrained(folder)
            del built
            torch.cuda.empty_cache()
            options = {"dtype": str(dtype).removeprefix("torch."), "gpu_memory_utilization": 0.7}
            sampler: Any = VllmSampler(Path(folder), [EOS], drawing, options)
        else:
            sampler = TransformersSampler(built, [EOS], drawing)
        sampler(batch, seeds)  # what is compiled and allocated at first does not count
        forget_peak(device)
        start = now(device)
        found = sampler(batch, seeds)
        second = now(device) - start
    tokens = sum(len(ids) for ids, _ in found)
    return {
        "seconds": second,
        "tokens_per_s": tokens / second,
        "peak_gb": peak(device) if case.who != "vLLM" else None,
        "note": f"{len(batch)} responses, tokens drawn",
    }


def tiny(case: Case, size: Size, device: str, dtype: Any) -> dict[str, Any]:
    """Run the loop on a small model from the command line; return how long it took."""
    for needed in ("typer", "rich", "yaml", "jinja2", "pyarrow", "accelerate", "datasets"):
        import_module(needed)  # so that what is missing is told by its name
    command = [sys.executable, "-m", "mnpo.cli", "llm", "train", "tiny", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        command += [f"folders.output_dir={folder}/run", *(SHORT if device == "cpu" else ())]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        second = time.perf_counter() - start
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "without a word").splitlines()
        raise RuntimeError(f"exit status {done.returncode}: {lines[-1]}")
    last = json.loads(done.stdout)["iterations"][-1]
    rates = last.get("win_rate", {}).get("reference", {}).values()
    note = "shortened" if device == "cpu" else "whole process"
    note += "".join(f", win rate over the first policy {rate['mean']:.2f}" for rate in rates)
    return {"seconds": second, "note": note}
