"""Objectives after each other, ratings, rankings and the scale that the oracle is given."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle_fits import asked, fit_oracle, fitted, write_rows
from safetensors.torch import load_file

from mnpo.calibration import fitted_scale
from mnpo.llm.data import made
from mnpo.llm.data.encoding import text_of
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.cards import Card
from mnpo.llm.oracles.reward import RewardModel

#: What the styles' answers are worth on two scales.
WORTH = {"plain": (2, 4), "formal": (4, 0), "playful": (1, 3), "gruff": (0, 1)}


def responses(count: int) -> list[tuple[Any, str, tuple[int, int]]]:
    found = []
    for row, side in itertools.product(made.pairs(count, seed=5), ("chosen", "rejected")):
        text = text_of(row[side])
        style = made.style_of(text)
        assert style is not None
        found.append((row["prompt"], text, WORTH[style]))
    return found


@pytest.fixture
def ratings(tmp_path: Path) -> str:
    rows = [
        {
            "prompt": p[0]["content"],
            "response": text,
            "helpfulness": one,
            "verbosity": None if k % 3 else other,
        }
        for k, (p, text, (one, other)) in enumerate(responses(30))
    ]
    return write_rows(tmp_path / "ratings.jsonl", rows)


@pytest.fixture
def strengths(tmp_path: Path) -> str:
    pairs = zip(responses(60)[::2], responses(60)[1::2], strict=True)
    rows = [
        {
            "prompt": p[0]["content"],
            "response_1": a,
            "response_2": b,
            "preference_strength": int(np.clip(y[0] - x[0], -3, 3)),
        }
        for (p, a, x), (_, b, y) in pairs
    ]
    return write_rows(tmp_path / "strengths.jsonl", rows)


def test_regression_then_scaled_with_the_head_carried_over(
    ratings: str, strengths: str, tmp_path: Path, base: Path
) -> None:
    phases = [
        {"oracle_objective": "regression", "dataset_name": ratings, "learning_rate": 3e-3, "max_steps": 4},
        {"oracle_objective": "scaled", "dataset_name": strengths, "learning_rate": 1e-9, "max_steps": 1},
    ]
    home = tmp_path / "oracle"
    record = fit_oracle(
        home, base, f"oracle_phases={json.dumps(phases)}", "attributes=[helpfulness]", "eval_size=8"
    )
    first, second = record.parts[0].phases
    assert [first.objective, second.objective] == ["regression", "scaled"]
    assert first.judgments["train"] > first.judgments["eval"] >= 8
    # The second phase starts from where the first one ended, head included.
    one, two = (
        load_file(file / "model.safetensors") for file in (home / "oracle-fit/all-1/model", home / "model")
    )
    assert all((one[name] - two[name]).abs().max() < 1e-7 for name in one)
    assert one["score.weight"].abs().max() > 1e-3
    card = Card.read(home / "model")
    assert card is not None
    assert card.objectives == ["regression", "scaled"]
    assert card.output is None
    Path(ratings).write_text(Path(ratings).read_text() + "\n")
    with pytest.raises(ValueError, match="the content of data phase-1"):
        fit_oracle(
            home, base, f"oracle_phases={json.dumps(phases)}", "attributes=[helpfulness]", "eval_size=8"
        )
    # Not a likelihood: the scale is fitted to the held-out pairs, and the oracle has it.
    told = second.best_scale.get("")
    assert card.scale == record.parts[0].scale == (1.0 if told is None else told)
    assert fitted(home).scale == card.scale


def test_each_attribute_has_an_output_and_missing_ratings_do_not_count(
    ratings: str, tmp_path: Path, base: Path
) -> None:
    home = tmp_path / "oracle"
    given = [f"dataset_name={ratings}", "oracle_objective=regression", "attributes=[helpfulness,verbosity]",
             "attribute_weights={helpfulness: 1, verbosity: -0.5}", "eval_size=0", "max_steps=1",
             "per_device_train_batch_size=60", "learning_rate=0"]  # fmt: skip
    record = fit_oracle(home, base, *given)
    given = [(Question(p, text), worth) for p, text, worth in responses(30)]
    outputs = [
        np.array(asked(RewardModel(name="r", model=str(home), output=k), [question for question, _ in given]))
        for k in (0, 1)
    ]
    worth = np.array([rated for _, rated in given], dtype=float)
    errors = (np.stack(outputs, 1) - worth) ** 2
    rated = np.array([[1.0, 0.0 if k % 3 else 1.0] for k in range(len(given))])
    by_hand = ((errors * rated).sum(1) / rated.sum(1)).mean()
    assert record.parts[0].phases[0].loss == pytest.approx(by_hand, rel=1e-5)
    # What judges is the weighted sum.
    assert asked(fitted(home), [question for question, _ in given]) == pytest.approx(
        outputs[0] - 0.5 * outputs[1], abs=1e-6
    )
    assert fitted(home).key()["output"] == [1.0, -0.5]


@pytest.mark.parametrize(
    "objective",
    ["top-one", *(pytest.param(name, marks=pytest.mark.slow) for name in ("full-ranking", "bradley-terry"))],
)
def test_pools_of_any_size(objective: str, tmp_path: Path, base: Path) -> None:
    rows = []
    for k, (prompt, *_) in enumerate(responses(16)):
        size = 2 + k % 3
        texts = [style[k % 4].format("rain") for style in made.STYLES.values()][:size]
        rows.append(
            {"prompt": prompt, "responses": texts, "scores": [[1, 3, 3, 0], [2, 0, 1, 5]][k % 2][:size]}
        )
    home, data = tmp_path / "oracle", write_rows(tmp_path / "pools.jsonl", rows)
    record = fit_oracle(
        home, base, f"dataset_name={data}", f"oracle_objective={objective}", "eval_size=0", "learning_rate=0",
        "max_steps=1", "per_device_train_batch_size=32",
    )  # fmt: skip
    oracle, losses = fitted(home), []
    for row in rows:
        r = np.array(asked(oracle, [Question(row["prompt"], text) for text in row["responses"]]))
        s = np.array(row["scores"])
        if objective == "bradley-terry":
            pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if s[i] > s[j]]
            losses.append(np.mean([np.log1p(np.exp(r[j] - r[i])) for i, j in pairs]))
            continue
        parts = []
        for level in sorted(set(s.tolist()), reverse=True)[: 1 if objective == "top-one" else None]:
            left = r[s <= level]
            parts.append(np.log(np.exp(left).sum()) - r[s == level].mean())
        losses.append(sum(parts))
    assert record.parts[0].phases[0].loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_scale_is_that_of_the_held_out_pairs(strengths: str, tmp_path: Path, base: Path) -> None:
    home = tmp_path / "oracle"
    record = fit_oracle(
        home, base, f"dataset_name={strengths}", "oracle_objective=margin", "eval_size=30", "max_steps=12",
        "learning_rate=3e-3",
    )  # fmt: skip
    part = record.parts[0]
    if part.calibrated is None:
        pytest.skip("no scale fits: all held-out pairs are met, or none is")
    assert part.scale == part.phases[0].best_scale[""]
    assert part.phases[0].fits[""]["best"].log_loss <= part.phases[0].fits[""]["one"].log_loss
    assert fitted(home).scale == part.scale
    # Asking for another scale is still possible.
    assert fitted(home, scale=2.0).scale == 2.0
    assert torch.isfinite(torch.tensor(part.scale))
    assert fitted_scale([1.0, -1.0, 1.0], [1.0, 1.0, 1.0]) > 0


def test_a_head_that_is_there_is_kept_or_refused(tmp_path: Path, base: Path) -> None:
    fit_oracle(tmp_path / "first", base)
    model = tmp_path / "first/model"
    fit_oracle(tmp_path / "second", model, "learning_rate=0", "max_steps=1")
    one, two = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "second/model"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    fit_oracle(tmp_path / "vectors", base, "oracle_kind=embedding", "embedding_pairs=1", "max_steps=1")
    with pytest.raises(ValueError, match="has 2 outputs; this fit of oracle_kind=reward needs 1"):
        fit_oracle(tmp_path / "third", tmp_path / "vectors/model")
    with pytest.raises(ValueError, match="reward model vectors has 2 outputs; give output"):
        RewardModel(name="vectors", model=str(tmp_path / "vectors"))


def test_held_out_ratings_without_comparisons_leave_the_scale(
    ratings: str, tmp_path: Path, base: Path
) -> None:
    """Comparisons there are, but none of them is held out: the scale stays 1, and nothing is said of it."""
    rows = [json.loads(line) for line in Path(ratings).read_text().splitlines()]
    mixed = write_rows(tmp_path / "mixed.jsonl", [{"prompt": "one", "chosen": "a", "rejected": "b"}, *rows])
    held = write_rows(tmp_path / "held.jsonl", rows[:10])
    given = ["oracle_objective=regression", "attributes=[helpfulness]", "max_steps=1"]
    for place, data in enumerate((["eval_size=4"], ["eval_size=0", f"eval_dataset_name={held}"])):
        record = fit_oracle(tmp_path / str(place), base, f"dataset_name={mixed}", *given, *data)
        assert record.parts[0].calibrated is None
        assert record.parts[0].scale == 1
        assert record.parts[0].phases[0].eval["loss"] > 0
