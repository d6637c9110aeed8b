"""Objectives of reward models against TRL's RewardTrainer: the same model, the same batch, the loss and its gradient."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, GPT2Config

from mnpo.llm.data import made
from mnpo.llm.models import tiny
from mnpo.llm.models.loading import load_tokenizer
from mnpo.llm.training.losses import TorchOps
from mnpo.oracle_objectives import centring, comparison_losses

trl = pytest.importorskip("trl")

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

MARGINS = [1.0, 3.0, 0.0, 2.0]


@pytest.mark.parametrize("objective", ["bradley-terry", "margin"])
@pytest.mark.parametrize("coefficient", [None, 0.1])
def test_losses_and_gradients_are_trls(objective: str, coefficient: float | None, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny.build("tiny:gpt2:1", tmp_path))
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=2,
        n_head=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    theirs = AutoModelForSequenceClassification.from_config(config)
    ours = copy.deepcopy(theirs)
    rows: list[dict[str, Any]] = [
        {key: row[key] for key in ("prompt", "chosen", "rejected")} | {"margin": margin}
        for row, margin in zip(made.pairs(20, seed=1), MARGINS, strict=False)
    ]
    if objective == "bradley-terry":
        for row in rows:
            del row["margin"]
    arguments = trl.RewardConfig(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=len(rows), max_steps=1, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to="none", disable_tqdm=True, center_rewards_coefficient=coefficient,
    )  # fmt: skip
    trainer = trl.RewardTrainer(
        model=theirs, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    margin = batch["margin"].double() if objective == "margin" else torch.zeros(1)
    for model in (theirs, ours):
        model.eval()  # no dropout
    loss = trainer.compute_loss(theirs, dict(batch))
    loss.backward()

    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    chosen, rejected = ours(**inputs).logits.squeeze(-1).double().chunk(2)
    found = comparison_losses(objective, TorchOps(), chosen - rejected, strength=margin).mean()
    found = found + (coefficient or 0) * centring(chosen, rejected).mean()
    found.backward()
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if other.grad is not None:
            assert one.grad is not None
            assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-7)
