"""Steps of training on pairs: mnpo's, those of a plain Trainer that holds all logits, and TRL's.

The optimizer is SGD, for all: it holds no state, so that what is compared is the rest. Weights and arithmetic have
the model's dtype, without autocast. The reference's log-probabilities are known.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from gpu.cases import Case
from gpu.measuring import Work, forget_peak, now, operations, peak, work
from gpu.shapes import PAD, Pair, Size, model, pairs, text, tokenizer

TAU = 0.1
#: Each step of mixed lengths has its own shapes, which FlexAttention compiles until it takes them as variable.
MORE_WARM = 2


def fit(case: Case, size: Size, device: str, dtype: Any) -> dict[str, Any]:
    """Train for a few steps; return time, tokens, operations and memory of one."""
    warm = size.warm + MORE_WARM * case.mixed
    data = pairs(size, (warm + size.steps) * case.pairs, mixed=case.mixed)
    built = model(size, device, case.attention, dtype)
    bare = case.who == "mnpo" and find_spec("datasets") is None
    with tempfile.TemporaryDirectory() as folder:
        if bare:
            ends = list(_bare_steps(built, data, case, device))
            most, loss = peak(device), None
        else:
            trainer = CONTENDERS[case.who](
                built, data, case, size, _arguments(folder, case, device, len(data))
            )
            ends = []
            trainer.add_callback(_clock(ends, device))
            forget_peak(device)
            loss = trainer.train().training_loss
            most = peak(device)
    seconds = np.diff(ends)[warm - 1 :]
    measured = [(len(p.prompt), (len(p.chosen), len(p.rejected))) for p in data[warm * case.pairs :]]
    done = Work(*(total / size.steps for total in work(measured, case.shared)))
    # Steps of one length are alike, so that their median leaves out what disturbed one; others are summed.
    second = float(seconds.mean() if case.mixed else np.median(seconds))
    return {
        "seconds": second,
        "pairs": case.pairs,
        "tokens_per_s": done.useful / second,
        "computed_per_s": done.computed / second,
        "operations_per_s": operations(built, done, backward=True) / second,
        "peak_gb": most,
        "loss": loss,
        "note": "a bare loop: datasets is not installed" if bare else "",
    }


def _arguments(folder: str, case: Case, device: str, rows: int) -> dict[str, Any]:
    """Return what all trainers are given."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": case.pairs,
        "max_steps": rows // case.pairs,
        "optim": "sgd",
        "learning_rate": 1e-6,
        "gradient_checkpointing": case.checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "use_cpu": device == "cpu",
        "bf16": False,
        "save_strategy": "no",
        "logging_steps": 10_000,
        "report_to": "none",
        "disable_tqdm": True,
    }


def _in_order(trainer: type[Any]) -> type[Any]:
    """Return the Trainer that takes rows as they come, so that it is known which step had which lengths."""

    class InOrder(trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            from torch.utils.data import SequentialSampler

            return SequentialSampler(self.train_dataset)

    return InOrder


def _mnpo(built: Any, data: Sequence[Pair], case: Case, size: Size, arguments: dict[str, Any]) -> Any:
    from transformers import TrainingArguments

    from mnpo.llm.training.trainer import PairTrainer

    return _in_order(PairTrainer)(
        model=built,
        args=TrainingArguments(**arguments, remove_unused_columns=False),
        train_dataset=_scored(data, size, "reference_chosen", "reference_rejected"),
        objective="ipo",
        parameters={"tau": TAU},
        share_prompts=case.shared,
        packing=case.packed,
    )


def _all_logits(built: Any, data: Sequence[Pair], case: Case, size: Size, arguments: dict[str, Any]) -> Any:
    import torch
    from transformers import Trainer, TrainingArguments

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        both = [row["prompt_ids"] + row[f"{side}_ids"] for row in rows for side in ("chosen", "rejected")]
        width = max(map(len, both))
        answer = [
            [place >= len(row["prompt_ids"]) for place in range(1, width)] for row in rows for _ in range(2)
        ]
        return {
            "ids": torch.tensor([ids + [PAD] * (width - len(ids)) for ids in both]),
            "answer": torch.tensor(answer),
            "reference": torch.tensor([[row["reference_w"], row["reference_l"]] for row in rows]),
        }

    class Plain(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            ids = inputs["ids"]
            logits = model(input_ids=ids, use_cache=False).logits
            # In the logits' own precision, which holds the least that a plain program can.
            tokens = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            margins = (tokens.float() * inputs["answer"]).sum(1).view(-1, 2) - inputs["reference"]
            return ((margins[:, 0] - margins[:, 1] - 1 / (2 * TAU)) ** 2).mean()

    return _in_order(Plain)(
        model=built,
        args=TrainingArguments(**arguments, remove_unused_columns=False),
        train_dataset=_scored(data, size, "reference_w", "reference_l"),
        data_collator=collate,
    )


def _trl(built: Any, data: Sequence[Pair], case: Case, size: Size, arguments: dict[str, Any]) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [
        {
            "prompt": text(pair.prompt),
            "chosen": " " + text(pair.chosen),
            "rejected": " " + text(pair.rejected),
        }
        for pair in data
    ]
    return _in_order(DPOTrainer)(
        model=built,
        args=DPOConfig(
            **arguments, loss_type=["ipo"], beta=TAU, precompute_ref_log_probs=True, max_length=None
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(size),
    )


CONTENDERS: dict[str, Callable[..., Any]] = {"mnpo": _mnpo, "all logits": _all_logits, "TRL": _trl}


def _scored(data: Sequence[Pair], size: Size, chosen: str, rejected: str) -> list[dict[str, Any]]:
    """Return rows with log-probabilities of a reference: a uniform choice, which is near a random model."""
    each = -float(np.log(size.shape["vocab_size"]))
    return [
        {
            "row": number,
            "prompt_ids": pair.prompt,
            "chosen_ids": pair.chosen,
            "rejected_ids": pair.rejected,
            chosen: each * len(pair.chosen),
            rejected: each * len(pair.rejected),
        }
        for number, pair in enumerate(data)
    ]


def _clock(ends: list[float], device: str) -> Any:
    """Return a callback that notes when each step ends."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(now(device))

    return Clock()


def _bare_steps(built: Any, data: Sequence[Pair], case: Case, device: str) -> Iterator[float]:
    """Train without a Trainer, which needs datasets; yield when each step ends."""
    import torch

    from mnpo.llm.data.batches import laid_out
    from mnpo.llm.training.logprobs import attach, log_probs_of

    if case.checkpointing:
        built.gradient_checkpointing_enable({"use_reentrant": False})
    attach(built.train())
    optimizer = torch.optim.SGD(built.parameters(), lr=1e-6)
    each = -float(np.log(built.config.vocab_size))
    forget_peak(device)
    for start in range(0, len(data), case.pairs):
        step = data[start : start + case.pairs]
        trees = [(pair.prompt, [pair.chosen, pair.rejected]) for pair in step]
        if not case.shared:
            trees = [(prompt, [response]) for prompt, responses in trees for response in responses]
        logps = log_probs_of(built, laid_out(trees, PAD, packed=case.packed).to(device)).double().view(-1, 2)
        known = torch.tensor([[each * len(p.chosen), each * len(p.rejected)] for p in step], device=device)
        margins = logps - known
        loss = ((margins[:, 0] - margins[:, 1] - 1 / (2 * TAU)) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield now(device)
