"""The numbers that a loss takes, made of the columns of the data."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import load_from_disk
from fits import score, small

from mnpo.llm.data import made
from mnpo.llm.training.columns import fit_columns
from mnpo.llm.training.tasks import Task


def test_a_target_is_eta_times_its_gap(tmp_path: Path) -> None:
    """Win rates, rewards and margins give η times their gap; labels give η/2."""
    rows = [{**row, "reward_chosen": 1.0, "reward_rejected": -0.5, "margin": 0.25} for row in made.pairs(20)]
    expected = {"label": 1.0, "reward": 3.0, "margin": 0.5}
    for target in ("label", "win-rate", "reward", "margin"):
        config = small(tmp_path, f"target={target}", "rule.eta=2", "eval_size=0", data=rows)
        score(config)
        data = load_from_disk(str(tmp_path / "run/scored"))["train"]
        fields = fit_columns(Task.configured(config.update), data)
        wanted = expected.get(target)
        gap = [2.0 * (win - loss) for win, loss in zip(data["win_chosen"], data["win_rejected"], strict=True)]
        assert fields["target"].tolist() == pytest.approx(gap if wanted is None else [wanted] * len(data))
        assert ("preference" in fields) == (target == "label")
