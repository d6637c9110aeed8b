"""`mnpo llm test-oracle`: what is measured, on oracles and judgments whose numbers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle_fits import fit_oracle, write_rows
from typer.testing import CliRunner

from mnpo.cli.llm import app
from mnpo.common.seals import read_sealed
from mnpo.cyclicity import cyclicity
from mnpo.llm.data import made
from mnpo.llm.fitting.words import configured
from mnpo.llm.oracles.cards import Card
from mnpo.llm.stages.running import run_stage
from runs import mnpo

JUDGE = """
def longer(prompt, first, second):
    gap = len(first.split()) - len(second.split())
    return 1 / (1 + 2.718281828459045 ** -(0.5 * gap + 0.3))  # the first place is favoured

longer.both_orders = True
"""


def run(tmp_path: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = run_stage(
        "test-oracle", configured([*words, f"output_dir={tmp_path / 'test'}"])
    ).as_dict()
    assert read_sealed(tmp_path / "test/oracle-test.json") == found
    assert (tmp_path / "test/oracle-test.png").stat().st_size > 5000
    return found


def test_who_made_the_labels_is_calibrated(tmp_path: Path) -> None:
    """`styles` labelled the pairs: its log-loss is the labels' entropy, nothing is gained by another scale."""
    found = run(tmp_path, "styles", "tiny:pairs:400")
    (test,) = found["tests"]
    p = np.array([row["preference"] for row in made.pairs(400)])
    assert test["met"]["judgments"] == 400
    assert test["as_is"]["log_loss"] == pytest.approx(
        -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean(), abs=1e-12
    )
    assert test["as_is"]["error"] < 1e-12
    assert test["rescaled"]["scale"] == pytest.approx(1, abs=1e-9)
    assert test["met"]["accuracy"]["mean"] == pytest.approx(np.maximum(p, 1 - p).mean())


def test_a_planted_cycle_is_found(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "responses": [style[k % 4].format("rain") for style in made.STYLES.values()],
         "ranking": [0, 1, 2, 3]}
        for k, prompt in enumerate(made.prompts(12))
    ]  # fmt: skip
    found = run(tmp_path, "styles", write_rows(tmp_path / "pools.jsonl", rows), "test_set_size=4")
    (test,) = found["tests"]
    exact = cyclicity(made.STYLE_WINS)
    assert test["cycles"]["cyclicity"] == pytest.approx(float(exact.share), abs=1e-12)
    assert test["cycles"]["triples"] == pytest.approx(float(exact.triples))
    assert test["cycles"]["error"] == pytest.approx(0, abs=1e-12)
    assert test["cycles"]["without_winner"] == 1
    wins = [made.STYLE_WINS[i, j] > 0.5 for i in range(4) for j in range(i + 1, 4)]
    assert test["met"]["accuracy"]["mean"] == pytest.approx(np.mean(wins))
    assert test["met"]["best"] == (made.STYLE_WINS.mean(1).argmax() == 0)


def test_subsets_order_and_length(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(JUDGE)
    rows = [
        {"prompt": "p", "chosen": "one two three", "rejected": "one", "subset": "long"},
        {"prompt": "q", "chosen": "one two three", "rejected": "one two", "subset": "long"},
        {"prompt": "r", "chosen": "one", "rejected": "one two", "subset": "short"},
    ]
    judge = f"{{kind: python, file: {tmp_path / 'judge.py'}, function: longer, name: longer}}"
    found = run(tmp_path, judge, write_rows(tmp_path / "pairs.jsonl", rows))
    (test,) = found["tests"]
    assert {name: one["accuracy"]["mean"] for name, one in test["subsets"].items()} == {"long": 1, "short": 0}
    assert test["met"]["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert (test["length"]["shorter"], test["length"]["longer"]) == (0, 1)
    assert test["length"]["correlation"] is None

    def sigma(x: float) -> float:
        return float(1 / (1 + np.exp(-x)))

    sums = [sigma(0.5 * gap + 0.3) + sigma(-0.5 * gap + 0.3) for gap in (2, 1, 1)]
    assert test["order"]["bias"] == pytest.approx(np.mean(sums) / 2 - 0.5)
    assert test["order"]["residual"] == pytest.approx(np.mean(sums) - 1)
    assert test["order"]["turned"] == 0


def test_annotators_are_asked_about_their_own_labels(tmp_path: Path) -> None:
    """Each member meets its own annotator's labels as often as it should, and the population fewer."""
    members = [
        {"name": name, "weight": share, "traits": "styles", "utilities": worth}
        for name, (share, worth) in made.ANNOTATORS.items()
    ]
    spec = json.dumps({"kind": "population", "name": "people", "members": members})
    found = run(tmp_path, spec, "tiny:judgments:600")
    (test,) = found["tests"]
    for name, (_, worth) in made.ANNOTATORS.items():
        rows = [row for row in made.judgments(600) if row["annotator"] == name]
        styles = [[made.style_of(row[side][0]["content"]) for side in ("chosen", "rejected")] for row in rows]
        right = [0.5 + 0.5 * np.sign(worth[str(a)] - worth[str(b)]) for a, b in styles]
        assert test["annotators"][name]["accuracy"]["mean"] == pytest.approx(np.mean(right))
    own = np.mean([one["accuracy"]["mean"] for one in test["annotators"].values()])
    assert test["met"]["accuracy"]["mean"] < own
    assert test["kind"] == "population"


def test_nothing_is_asked_twice_and_the_card_is_recalibrated(tmp_path: Path, base: Path) -> None:
    home = tmp_path / "oracle"
    fit_oracle(home, base, "max_steps=6")
    first = run(tmp_path, str(home), "tiny:pairs:60")
    assert sum(row["asked"] for row in first["oracles"]) > 0
    again = run(tmp_path, str(home), "tiny:pairs:60", "recalibrate=true")
    assert sum(row["asked"] for row in again["oracles"]) == 0
    card = Card.read(home / "model")
    assert card is not None
    assert card.scale == again["tests"][0]["rescaled"]["scale"]
    after = run(tmp_path, str(home), "tiny:pairs:60")
    assert after["tests"][0]["as_is"]["log_loss"] == pytest.approx(again["tests"][0]["rescaled"]["log_loss"])
    assert after["tests"][0]["rescaled"]["scale"] == pytest.approx(card.scale)


@pytest.mark.slow
def test_processes_share_the_questions(tmp_path: Path, base: Path) -> None:
    home, data = tmp_path / "oracle", "tiny:pairs:40"
    fit_oracle(home, base)
    one = run(tmp_path, str(home), data)
    mnpo(
        "test-oracle",
        str(home),
        data,
        f"output_dir={tmp_path / 'two'}",
        "use_cpu=true",
        "--num-processes",
        "2",
    )
    two = read_sealed(tmp_path / "two/oracle-test.json")
    (alone,), (shared,) = one["tests"], two["tests"]
    for key in ("log_loss", "error"):
        assert shared["as_is"][key] == pytest.approx(alone["as_is"][key], abs=1e-5)
    assert shared["rescaled"]["scale"] == pytest.approx(alone["rescaled"]["scale"], rel=1e-3)
    assert shared["met"] == alone["met"]


def test_words_are_oracles_or_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs an oracle"):
        configured(["tiny:pairs:10"])
    with pytest.raises(ValueError, match="needs judgments"):
        configured(["styles"])
    with pytest.raises(ValueError, match="same name"):
        configured(["styles", "{kind: synthetic, name: styles}", "tiny:pairs:10"])
    config = configured(["tiny"])
    assert config.judging.oracle == "styles"
    assert config.data.dataset_name == "tiny:pairs:600"
    result = CliRunner().invoke(
        app, ["test-oracle", "styles", "tiny:pairs:20", f"output_dir={tmp_path / 'out'}"]
    )
    assert result.exit_code == 0, result.output
    assert "cyclicity" in result.stdout or "accuracy" in result.stdout
