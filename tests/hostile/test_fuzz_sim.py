"""Fuzzing of every reader of `mnpo sim`: mutated files are refused in one line, or read as what they say."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from mutations import JSON_WORDS, TABLE_WORDS, fuzz, mutated, reshaped, seconds_to_fuzz

from mnpo.cli.main import main
from mnpo.sim import plots
from mnpo.sim.diagnosing import diagnose
from mnpo.sim.readers import read_claim, read_game, read_policies

MATRIX = [[0.5, 0.7, 0.2], [0.3, 0.5, 0.9], [0.8, 0.1, 0.5]]
HEADER = (
    "# FILE NAME: a\n# TITLE: t\n# NUMBER ALTERNATIVES: 3\n# NUMBER VOTERS: 3\n# NUMBER UNIQUE ORDERS: 2\n"
    + "".join(f"# ALTERNATIVE NAME {n}: {name}\n" for n, name in enumerate("abc", 1))
)
PREFLIB = {
    "soc": [HEADER + "2: 1,2,3\n1: 3,2,1\n"],
    "soi": [HEADER + "2: 1,2\n1: 3\n"],
    "toc": [HEADER + "2: 1,{2,3}\n1: {3,2,1}\n"],
    "toi": [HEADER + "2: 1,{2}\n1: {3,2}\n"],
}
PREFLIB_WORDS = (
    b"{", b"}", b"{}", b",", b":", b"\n", b"\r", b"#", b"# NUMBER ALTERNATIVES: 3\n", b"# NUMBER ALTERNATIVES: 999999999\n",
    b"# NUMBER VOTERS: 7\n", b"# NUMBER UNIQUE ORDERS: 1\n", b"# ALTERNATIVE NAME 1: x\n", b"# ALTERNATIVE NAME 9: y\n",
    b"# DATA TYPE: toc\n", b"0", b"-1", b"1.5", b"9" * 400, b"\xd9\xa1", b"\xc2\xb2", b"\x0b", b"\x00", b"\xff", b"a",
    b"2: 1,2,3\n", b"1: 1,1\n", b"1:\n", b"{1,{2}},3", b" ",
)  # fmt: skip
GAMES: list[Any] = [
    {"oracle": "pairwise", "matrix": MATRIX, "responses": ["x", "y", "z"], "players": 3, "tau": 0.3, "reference": [0.2, 0.3, 0.5]},
    {"oracle": "pairwise", "matrix": [MATRIX, MATRIX], "tau": [0.1, 0.2]},
    {"oracle": "plackett-luce", "utilities": [[0, 1, 2], [2, 1, 0]]},
    {"oracle": "population", "annotators": [{"weight": 2, "ranking": [[2], [0, 1]]}, {"utilities": [0, 1, 2]}]},
    {"oracle": "population", "annotators": [{"ranking": [[[2], [0, 1]], [[0], [1], [2]]]}]},
    {"oracle": "tensor", "tensor": np.full((2, 2, 2), 1 / 3).tolist()},
    {"oracle": "tensor", "tensor": np.full((2, 2, 2), 0.5).tolist(), "players": 2},
    {"oracle": "heterogeneous", "oracles": [{"oracle": "pairwise", "matrix": [[0.5, 1], [0, 0.5]]}, {"oracle": "plackett-luce", "utilities": [0, 1]}]},
]  # fmt: skip
KEYS = (
    "oracle",
    "matrix",
    "players",
    "tau",
    "reference",
    "responses",
    "weight",
    "ranking",
    "utilities",
    "annotators",
)
VOTES = [
    [{"model_a": "a", "model_b": "b", "winner": "model_a", "weight": 2}, {"model_a": "b", "model_b": "c", "winner": "tie"}],
    [{"model_a": "a", "model_b": "b", "winner": "model_b", "prompt": "p"}] * 2,
]  # fmt: skip
JUDGED = [
    [{"prompt": "p", "all_generated_responses": ["x", "y", "z"], "all_rm_scores": [0.1, 0.2, 0.3]}] * 2,
    [{"prompt": "p", "all_generated_responses": ["x", "y"], "all_rm_scores": {"one": [0, 1], "two": [1, 0]}}],
    [{"prompt": "p", "all_generated_responses": ["x", "y"], "all_rm_scores_one": [0, 1], "all_rm_scores_two": [1, 0]}],
]  # fmt: skip
CLAIMS: list[Any] = [
    [[0.25, 0.75]],
    {"policies": [[[0.25, 0.75]]], "players": 2, "tau": 0.1, "reference": [0.5, 0.5]},
]
TABLES = [
    b"0.5,0.7,0.2\n0.3,0.5,0.9\n0.8,0.1,0.5\n",
    b"# note\n,x,y\nx,0.5,0.7\ny,0.3,0.5\n",
    b'"a,b",y\r\n0.5,0.7\r\n0.3,0.5\r\n',
]


def array_file(save: Any) -> list[bytes]:
    """Return arrays as a file of numpy's holds them."""
    found = []
    for array in (np.array(MATRIX), np.array([MATRIX, MATRIX], np.float32), np.array([[0.5]])):
        sink = io.BytesIO()
        save(sink, array)
        found.append(sink.getvalue())
    return found


ARRAY_WORDS = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x01\x02", b"'|O'", b"'<c16'", b"(3, 3)", b"(999999, 999999)", b"True", b"\xff\xff\xff\xff", b"\x00" * 8)  # fmt: skip


def is_game(spec: Any) -> None:
    """Assert that what was read is a game: win probabilities of a uniform profile that sum as they must."""
    players = spec.players or spec.oracle.players or 2
    assert players >= 2
    if players > 50:
        return
    game = spec.game()
    assert len(game.responses) == len(set(game.responses)) == spec.oracle.responses
    uniform = np.full((players, game.contexts, game.actions), 1 / game.actions)
    wins = game.oracle.win_probabilities(uniform)
    assert np.isfinite(wins).all()
    assert wins.min() >= -1e-12
    assert wins.max() <= 1 + 1e-12
    total = game.oracle.total_value(players)
    if total is not None:
        assert abs(wins.mean(axis=-1).sum(axis=0) - total).max() < 1e-6
    np.testing.assert_allclose(np.exp(game.log_reference).sum(axis=-1), 1)


def is_claim(claim: Any) -> None:
    """Assert that what was read are numbers, with players and strengths that can be."""
    is_array(claim.policies)
    if claim.reference is not None:
        is_array(claim.reference)
    assert claim.players is None or (type(claim.players) is int and claim.players >= 2)
    assert claim.tau is None or (np.isfinite(claim.tau).all() and np.min(claim.tau) >= 0)


def is_array(array: Any) -> None:
    """Assert finite numbers."""
    assert array.dtype == np.float64
    assert array.size
    assert np.isfinite(array).all()


def is_diagnosis(record: Any) -> None:
    """Assert a diagnosis."""
    assert json.dumps(record)


def of_game(ending: str, contents: Any) -> tuple[str, Any, Any, Any]:
    return f"a.{ending}", contents, read_game, is_game


READERS = {
    **{ending: of_game(ending, mutated([text.encode() for text in texts], PREFLIB_WORDS)) for ending, texts in PREFLIB.items()},
    "csv": of_game("csv", mutated(TABLES, TABLE_WORDS)),
    "npy": of_game("npy", mutated(array_file(np.save), ARRAY_WORDS)),
    "npz": of_game("npz", mutated(array_file(lambda sink, array: np.savez(sink, wins=array)) + array_file(lambda sink, array: np.savez_compressed(sink, wins=array)), ARRAY_WORDS)),
    "game": of_game("json", mutated([json.dumps(game).encode() for game in GAMES], JSON_WORDS) | reshaped(GAMES, KEYS)),
    "votes": of_game("jsonl", mutated([json.dumps(rows[0]).encode() * 2 for rows in VOTES], JSON_WORDS) | reshaped(VOTES, lines=True)),
    "judged": ("a.jsonl", mutated([json.dumps(rows[0]).encode() for rows in JUDGED], JSON_WORDS) | reshaped(JUDGED, lines=True), lambda path: diagnose(str(path)), is_diagnosis),
    "claim": ("a.json", mutated([json.dumps(claim).encode() for claim in CLAIMS], JSON_WORDS) | reshaped(CLAIMS, KEYS), read_claim, is_claim),
    "policies of a table": ("a.csv", mutated(TABLES, TABLE_WORDS), read_policies, is_array),
    "policies of an array": ("a.npy", mutated(array_file(np.save), ARRAY_WORDS), read_policies, is_array),
}  # fmt: skip


@pytest.mark.parametrize("reader", list(READERS))
def test_mutated_files_are_refused_or_read(reader, tmp_path):
    name, contents, read, check = READERS[reader]
    tried, _ = fuzz(contents, tmp_path / name, read, check)
    assert tried >= 100


RECORDS = {
    "run": ("run", "rps", "--steps", 2),
    "compare": ("compare", "rps", "--players", "2,3", "--steps", 2),
    "show": ("show", "rps:contexts=2"),
    "diagnose": ("diagnose", "rps"),
    "tournament": ("tournament", "v.jsonl", "--draws", 2),
}


@pytest.mark.parametrize("kind", list(RECORDS))
def test_mutated_results_are_refused_or_drawn(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, VOTES[0])))
    monkeypatch.setattr("sys.argv", ["mnpo", "sim", *map(str, RECORDS[kind]), "--out", "r"])
    with pytest.raises(SystemExit, match="0"):
        main()
    results = tmp_path / "r" / "results.json"
    record = json.loads(results.read_text())
    monkeypatch.setattr(plots, "write_figures", lambda drawn, *_: list(drawn))  # drawing takes its time
    contents = reshaped([record], ("kind",)) | mutated([results.read_bytes()], JSON_WORDS)
    fuzz(contents, results, lambda path: plots.redraw(path.parent), lambda drawn: None, examples=60)


@pytest.mark.slow
@pytest.mark.parametrize("reader", list(READERS))
def test_mutated_files_for_long(reader, tmp_path):
    name, contents, read, check = READERS[reader]
    tried, taken = fuzz(contents, tmp_path / name, read, check, seconds=seconds_to_fuzz(len(READERS)))
    print(f"{reader}: {tried} files, {taken} of them read")
