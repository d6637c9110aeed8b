"""What is trained answers to what it is trained by: objectives fall, adapters are merged into the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fits import fit, small

from mnpo.llm.data import made
from mnpo.llm.models.loading import load_model


@pytest.mark.parametrize("objective", ["sppo", "kto", "simpo", "rpo", "gshf", "mnpo-bwd"])
def test_objectives_find_what_they_need_and_the_loss_falls(objective: str, tmp_path: Path) -> None:
    """Objectives that need further columns find them, and the loss on the training pairs falls."""
    rows = [{**row, "reward_chosen": 1.0, "reward_rejected": 0.0, "margin": 0.5} for row in made.pairs(60)]
    config = small(
        tmp_path, f"objective={objective}", "max_steps=24", "learning_rate=0.0003", "lr_scheduler_type=constant",
        "warmup_steps=0", "eval_size=0", "max_samples=16", "per_device_train_batch_size=16", data=rows,
    )  # fmt: skip
    losses = [entry["loss"] for entry in fit(config).log if "loss" in entry]
    assert losses[-1] < losses[0]


def test_ktos_estimate_is_0_at_the_reference(tmp_path: Path) -> None:
    """KTO's z is 0 at the reference, so that its first loss is λ_w/2 + λ_l/2."""
    record = fit(small(tmp_path, "objective=kto", "max_steps=1", "eval_size=0"))
    assert record.log[0]["loss"] == pytest.approx(1.0, abs=1e-4)


def test_a_merged_model_answers_as_base_and_adapter_do(tmp_path: Path) -> None:
    """An adapter is trained; what is saved as the model is whole and answers as base and adapter do."""
    record = fit(small(tmp_path, "lora.r=4", "lora.target_modules=[q_proj,v_proj]", "learning_rate=0.01"))
    from peft import PeftModel

    merged = load_model(Path(record.model))
    base = load_model(tmp_path / "run/tiny-gemma2")
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        before = base(input_ids=ids).logits
        expected = PeftModel.from_pretrained(base, tmp_path / "run/adapter")(input_ids=ids).logits
        found = merged(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - before).abs().max() > 1e-3
