"""`mnpo llm benchmark alpaca-eval-2` on judgments that exist: the leaderboard's numbers, and files that are wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mnpo.cli.llm import app
from mnpo.length_controlled import Coefficients
from mnpo.llm.benchmarks.alpaca_eval import read_annotations
from mnpo.llm.benchmarks.suites import existing
from support import DATA

PUBLISHED = DATA / "evaluation"
FILES = {name: PUBLISHED / f"alpaca_eval_{name}.csv" for name in ("annotations", "difficulty", "gamed")}
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published annotations are not here")


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@published
def test_the_leaderboards_numbers() -> None:
    words = [f"{name}={file}" for name, file in FILES.items()]
    result = CliRunner().invoke(app, ["benchmark", "alpaca-eval-2", *words, "--json"])
    assert result.exit_code == 0, result.output
    models = json.loads(result.stdout)["models"]
    board = {row["model"]: row for row in rows(PUBLISHED / "alpaca_eval_leaderboard.csv")}
    assert set(models) == set(board)
    errors = []
    for name, row in board.items():
        assert models[name]["win_rate"] == pytest.approx(float(row["win_rate"]), abs=1e-3)
        errors.append(abs(models[name]["lc_win_rate"] - float(row["length_controlled_winrate"])))
    assert np.median(errors) <= 0.06
    assert sorted(errors)[-2] < 0.2  # one model lacks instructions, and with them what the leaderboard used


@published
def test_published_coefficients_give_the_published_win_rates() -> None:
    known = {row["instruction"]: float(row["difficulty"]) for row in rows(FILES["difficulty"])}
    judged = read_annotations(FILES["annotations"])[0]
    for row in rows(PUBLISHED / "alpaca_eval_leaderboard.csv"):
        theta, phi, gamma = (float(row[f"published_{name}"]) for name in ("theta", "phi", "gamma"))
        difficulty = [known[one.instruction] for one in judged[row["model"]]]
        if len(difficulty) == len(known):
            found = 100 * Coefficients(theta, phi, gamma).win_rate(difficulty)
            assert found == pytest.approx(float(row["length_controlled_winrate"]), abs=1e-6)


def write(tmp_path: Path, content: Any, name: str = "annotations.json") -> str:
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return f"annotations={file}"


def test_alpaca_evals_own_files_are_read(tmp_path: Path) -> None:
    """1 is the baseline's win, 2 the model's, 0 a tie; what the judge did not say is counted."""
    said = [1, 2, 0, 1.25, None]
    listed = [
        {
            "instruction": f"do {k}",
            "output_1": "x" * 7,
            "output_2": "y" * (k + 3),
            "generator_2": "m",
            "preference": p,
        }
        for k, p in enumerate(said)
    ]
    found = existing("alpaca-eval-2", [write(tmp_path, listed)])
    assert found["models"]["m"]["win_rate"] == pytest.approx(100 * np.mean([0, 1, 0.5, 0.25]))
    assert (found["models"]["m"]["instructions"], found["models"]["m"]["unjudged"]) == (4, 1)
    assert len(found["notes"]) == 2
    judged, _ = read_annotations(tmp_path / "annotations.json")
    assert [(row.length_baseline, row.length_model) for row in judged["m"]] == [
        (7, 3),
        (7, 4),
        (7, 5),
        (7, 6),
    ]


HEAD = "model,instruction,preference,length_baseline,length_model\n"


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        ("model,instruction\nm,1\n", "a.csv", "lacks the column preference"),
        (HEAD, "a.csv", "has no judgments"),
        (HEAD + "m,1,2.5,3,4\n", "a.csv", "row 1: the preference 2.5 is out of range"),
        (HEAD + "m,1,x,3,4\n", "a.csv", "row 1: could not convert"),
        (HEAD + "m,1,0.5,3,4\nm,1,0.5,3,4\n", "a.csv", "m has instruction '1' twice"),
        (HEAD + "m,1,0.5,-3,4\n", "a.csv", "a length is no number of characters"),
        (HEAD + "m,1,,3,4\n", "a.csv", "has no judgments of m"),
        ("{", "a.json", "is not JSON"),
        ({"a": 1}, "a.json", "must hold a list of objects"),
        ([{"output_1": "x", "output_2": "y", "preference": 1}], "a.json", "row 1: lacks 'instruction'"),
    ],
)
def test_bad_files_are_told(content: Any, name: str, told: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["benchmark", "alpaca-eval-2", write(tmp_path, content, name)])
    assert result.exit_code != 0
    assert told in str(result.exception)


def test_bad_words_are_told(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD + "m,1,0.5,3,4\nm,2,0.7,5,4\n", "a.csv")
    easy = tmp_path / "difficulty.csv"
    easy.write_text("instruction,difficulty\n1,0.5\n")
    for words, told in (
        ([], "needs annotations=FILE"),
        ([f"annotations={tmp_path / 'no.csv'}"], "no such file"),
        (["annotation=x"], "did you mean"),
        ([file, f"difficulty={easy}"], "difficulty of instruction '2' of m is not known"),
    ):
        with pytest.raises(ValueError, match=told):
            existing("alpaca-eval-2", words)


def test_a_model_that_always_loses_costs_the_others_nothing(tmp_path: Path) -> None:
    rows = [
        f"{model},{k},{0.0 if model == 'loser' else 0.2 + 0.1 * (k % 5)},{100 + k},{90 + 7 * k}"
        for model in ("loser", "other")
        for k in range(8)
    ]
    file = tmp_path / "annotations.csv"
    file.write_text("\n".join(["model,instruction,preference,length_baseline,length_model", *rows]) + "\n")
    found = existing("alpaca-eval-2", [f"annotations={file}"])["models"]
    assert (found["loser"]["win_rate"], found["loser"]["lc_win_rate"]) == (0, None)
    assert found["loser"]["note"].startswith(
        "loser has no length-controlled win rate: no finite coefficients"
    )
    assert 0 < found["other"]["lc_win_rate"] < 100
