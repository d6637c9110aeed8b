"""The packaged configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnpo.llm.config import load, presets
from mnpo.llm.iterations import config_of


def test_packaged_runs_are_whole(tmp_path: Path) -> None:
    """Every preset says how its iterations go; the published one in the numbers of the paper."""
    for name in presets():
        config = load(name, [f"output_dir={tmp_path}"])
        if name == "tiny-oracle":  # no run: a fit of oracles alone
            continue
        names = config.loop.player_names()
        last = config_of(
            config,
            config.loop.iterations,
            names[0],
            dict.fromkeys(names, ["base"] * config.loop.iterations),
        )
        assert last.model.model_name_or_path == "base"
        assert config.judging.oracle is not None or config.loop.players
    published = load("gemma-2-9b-it")
    assert published.loop.iterations == 3
    sampling = published.sampling
    assert (sampling.num_generations, sampling.temperature, sampling.top_p) == (5, 0.8, 0.95)
    assert (published.judging.pairing, published.loop.first_pairs, published.loop.prompt_use) == (
        "best-worst",
        "dataset",
        "split",
    )
    assert (published.data.max_length, published.data.max_prompt_length) == (2048, 1800)
    training = published.training.values
    assert (training["learning_rate"], training["warmup_steps"], training["lr_scheduler_type"]) == (
        5e-7,
        0.1,
        "cosine",
    )
    assert training["weight_decay"] == 0
    assert training["bf16"] is True
    rule = published.update.the_rule()
    assert rule is not None
    assert 1 / float(rule.eta) == pytest.approx(0.0075)
    assert [weight for _, weight in rule.anchors] == pytest.approx([1 / 3] * 3)
    assert len(load("gemma-2-9b-it-ht").loop.players) == 3
