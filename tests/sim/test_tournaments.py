"""`mnpo sim tournament`: a cycle that no rating shows, pairs that never met, and intervals that hold what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mnpo import Game, Pairwise, solve
from mnpo.cli.main import app
from mnpo.ratings import bradley_terry
from mnpo.sim.tournaments import tournament

NAMES = ("paper", "rock", "scissors", "weak")
WINS = np.array([[0.5, 0.7, 0.3, 0.8], [0.3, 0.5, 0.7, 0.8], [0.7, 0.3, 0.5, 0.8], [0.2, 0.2, 0.2, 0.5]])


def write(file: Path, votes: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    return file


def exactly(wins: np.ndarray, never: tuple[tuple[int, int], ...] = ()) -> list[dict[str, Any]]:
    """Votes whose weights are win rates: the game itself."""
    return [
        {"model_a": NAMES[i], "model_b": NAMES[j], "winner": "model_a", "weight": float(wins[i, j])}
        for i in range(len(wins))
        for j in range(len(wins))
        if i != j and (min(i, j), max(i, j)) not in never
    ]


def drawn(rng: np.random.Generator, questions: int) -> list[dict[str, Any]]:
    votes = []
    for question in range(questions):
        for i in range(4):
            for j in range(i + 1, 4):
                winner = (
                    "tie" if rng.random() < 0.1 else "model_a" if rng.random() < WINS[i, j] else "model_b"
                )
                votes.append(
                    {"model_a": NAMES[i], "model_b": NAMES[j], "winner": winner, "question_id": question}
                )
    return votes


def test_the_equilibrium_is_the_cycles_and_ratings_cannot_show_it(tmp_path: Path) -> None:
    found = tournament(write(tmp_path / "votes.jsonl", exactly(WINS)), tau=0.05, draws=0)
    rows = {row["name"]: row for row in found["players"]}
    for tau, key in ((0.0, "lottery"), (0.05, "equilibrium")):
        exact = np.asarray(solve(Game(Pairwise(WINS), players=2, tau=tau)).policies).reshape(-1, 4)[0]
        assert [rows[name][key] for name in NAMES] == pytest.approx(exact.tolist(), abs=1e-9)
    assert [rows[name]["lottery"] for name in NAMES] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0], abs=1e-9)
    assert [rows[name]["rating"] for name in NAMES] == pytest.approx(bradley_terry(WINS).tolist())
    top = [rows[name]["rating"] for name in NAMES[:3]]
    assert np.ptp(top) < 1e-6  # the three are alike to a rating, though each beats the next
    assert rows["weak"]["exploitability"] == pytest.approx(0.3)
    assert rows["weak"]["win_rate_against_lottery"] == pytest.approx(0.2)
    assert (found["condorcet_winner"], found["cycles"]) == (None, 1)


def test_pairs_that_never_met_are_as_the_ratings_expect(tmp_path: Path) -> None:
    strength = np.array([0.5, 0.1, -0.2, -0.4])
    wins = 1 / (1 + np.exp(strength[None] - strength[:, None]))
    found = tournament(write(tmp_path / "votes.jsonl", exactly(wins, never=((0, 3),))), draws=0)
    assert any(
        "1 of 6 pairs never met; they are taken as the ratings expect" in note for note in found["notes"]
    )
    assert [row["name"] for row in found["players"]] == list(NAMES)
    assert found["matrix"][0][3] is None
    assert found["players"][3]["exploitability"] == pytest.approx(wins[0, 3] - 0.5, abs=1e-9)


def test_what_has_no_ratings_still_has_an_equilibrium(tmp_path: Path) -> None:
    votes = [{"model_a": "best", "model_b": name, "winner": "model_a"} for name in ("b", "c")]
    votes += [{"model_a": "b", "model_b": "c", "winner": "tie (bothbad)"}]
    found = tournament(write(tmp_path / "votes.jsonl", votes), draws=5)
    assert any("no ratings: ratings are not finite: best never lost" in note for note in found["notes"])
    assert found["players"][0]["name"] == found["condorcet_winner"] == "best"
    assert found["players"][0]["lottery"] == pytest.approx(1)
    assert found["players"][0]["rating"] is None


def test_the_command_leaves_a_record_and_a_figure(tmp_path: Path) -> None:
    file = write(tmp_path / "votes.jsonl", drawn(np.random.default_rng(0), 40))
    result = CliRunner().invoke(
        app, ["sim", "tournament", str(file), "--tau", "0.1", "--draws", "20", "-o", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert "cycles of three" in result.stdout
    assert (tmp_path / "out/tournament.png").stat().st_size > 5000
    kept = json.loads((tmp_path / "out/results.json").read_text())
    assert kept["kind"] == "tournament"
    again = CliRunner().invoke(
        app, ["sim", "tournament", str(file), "--tau", "0.1", "--draws", "20", "--json"]
    )
    assert json.loads(again.stdout)["players"] == kept["players"]
    bad = CliRunner().invoke(app, ["sim", "tournament", str(tmp_path / "no.jsonl")])
    assert "no such file" in str(bad.exception)


@pytest.mark.slow
def test_intervals_cover_at_their_rate(tmp_path: Path) -> None:
    """Of 200 simulated tournaments: ratings and win rates, whose truth is that of the game that was drawn from."""
    met = 0.9 * WINS + 0.05  # a tenth are ties
    np.fill_diagonal(met, 0.5)
    truth = bradley_terry(met)
    rate = (met.sum(1) - 0.5) / 3
    held: list[list[bool]] = []
    for seed in range(200):
        file = write(tmp_path / "votes.jsonl", drawn(np.random.default_rng(seed), 60))
        for row in tournament(file, draws=60, seed=seed)["players"]:
            k = NAMES.index(row["name"])
            held.append(
                [row["rating_low"] <= truth[k] <= row["rating_high"],
                 row["win_rate_low"] <= rate[k] <= row["win_rate_high"]]
            )  # fmt: skip
    covered = np.mean(held, axis=0)
    assert (np.abs(covered - 0.95) < 0.04).all(), covered
