"""A loss or weights that are not finite stop a fit, and are never saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fits import SMALL, fit, small

from mnpo.llm.config import load
from mnpo.llm.data import made
from runs import mnpo


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """It names the step and the rows, in one process and in two; the checkpoint before it stays."""
    rows = [
        {**row, "margin": 1e200 if place == 7 else 1.0} for place, row in enumerate(made.pairs(24), start=1)
    ]
    rows = [row for row in rows if row["chosen"] != row["rejected"]]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = next(i for i, row in enumerate(rows, start=1) if row["margin"] > 1e100)
    given = [
        *SMALL, "target=margin", f"dataset_name={file}", "eval_size=0", "per_device_train_batch_size=2",
        "save_steps=1", "max_steps=20",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=rf"not finite at step \d+, in row {place} of the data"):
        fit(load("tiny", [f"output_dir={tmp_path / 'one'}", *given]))
    error = mnpo("fit", "tiny", f"output_dir={tmp_path / 'two'}", *given, "--num-processes", "2", expect=2)
    lines = [line for line in error.splitlines() if line.startswith("mnpo: ")]
    assert len(lines) == 1
    assert f"in row {place} of the data" in lines[0]
    assert not list(tmp_path.glob("*/model"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient can be infinite where the loss is finite; the checkpoint before it stays the last."""
    from mnpo.llm.training import trainer

    def broken(*arguments: Any) -> torch.Tensor:
        losses = trainer_losses(*arguments)
        return losses + (losses - losses.detach()).abs().sqrt()  # 0, with an infinite slope

    trainer_losses = trainer.pair_losses
    config = small(tmp_path, "max_grad_norm=0", "save_steps=1")
    monkeypatch.setattr(trainer, "pair_losses", broken)
    with pytest.raises(ValueError, match="the weights are not finite after step 1"):
        fit(config)
    assert not list((tmp_path / "run/fit").glob("checkpoint-*"))
