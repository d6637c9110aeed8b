"""Games and policies from files: what is read, and what is said of a bad file."""

import json

import numpy as np
import pytest

from mnpo import Heterogeneous, Pairwise, PlackettLuce, Population
from mnpo.majority import facts
from mnpo.sim.load import load_game
from mnpo.sim.readers import read_claim, read_game, read_policies
from support import FOOTBALL, SUSHI, needs_data, random_policies

HEADER = (
    "# NUMBER ALTERNATIVES: 3\n# ALTERNATIVE NAME 1: a\n# ALTERNATIVE NAME 2: b\n# ALTERNATIVE NAME 3: c\n"
)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@needs_data
def test_real_preflib_files():
    sushi = read_game(SUSHI)
    assert sushi.oracle.responses == 10
    assert sushi.responses[6] == "tamago (egg)"
    assert "5000 rankings" in sushi.notes[0]
    football = facts(read_game(FOOTBALL).win_matrix()[0])
    assert football.cycles == 54  # as PrefLib's own record of this file has it


def test_preflib_orders_with_ties_and_gaps(tmp_path):
    toc = read_game(write(tmp_path / "a.toc", HEADER + "2: 1,{2,3}\n1: 3,2,1\n"))
    by_hand = Population(levels=[[0, 1, 1], [2, 1, 0]], level_weights=[2, 1])
    policies = random_policies(np.random.default_rng(0), 3, 1, 3)
    expected = by_hand.win_probabilities(policies)
    np.testing.assert_allclose(toc.oracle.win_probabilities(policies), expected, atol=1e-15)
    assert toc.responses == ("a", "b", "c")
    # The unranked stand together below the ranked: 1,{2,3} again.
    toi = read_game(write(tmp_path / "a.toi", HEADER + "2: 1\n1: 3,2\n"))
    np.testing.assert_allclose(toi.oracle.win_probabilities(policies), expected, atol=1e-15)
    assert "leave responses out" in toi.notes[1]
    # An order that is listed twice counts twice.
    soc = read_game(write(tmp_path / "a.soc", HEADER + "2: 1,2,3\n1: 3,2,1\n2: 1, 2, 3\n"))
    twice = Population(levels=[[0, 1, 2], [2, 1, 0]], level_weights=[4, 1])
    np.testing.assert_allclose(
        soc.oracle.win_probabilities(policies), twice.win_probabilities(policies), atol=1e-15
    )


def test_matrices(tmp_path):
    matrix = np.array([[0.5, 0.7, 0.2], [0.3, 0.5, 0.9], [0.8, 0.1, 0.5]])
    plain = write(tmp_path / "m.csv", "0.5,0.7,0.2\n0.3,0.5,0.9\n0.8,0.1,0.5\n")
    named = write(tmp_path / "n.csv", ",x,y,z\nx,0.5,0.7,0.2\ny,0.3,0.5,0.9\nz,0.8,0.1,0.5\n")
    header = write(tmp_path / "h.csv", "x,y,z\n0.5,0.7,0.2\n0.3,0.5,0.9\n0.8,0.1,0.5\n")
    np.save(tmp_path / "m.npy", np.stack([matrix, matrix.T]))
    np.savez(tmp_path / "m.npz", wins=matrix)
    for path in (plain, named, header, tmp_path / "m.npz"):
        np.testing.assert_array_equal(read_game(path).win_matrix()[0], matrix)
    assert read_game(named).responses == read_game(header).responses == ("x", "y", "z")
    assert read_game(plain).responses == ()
    assert read_game(tmp_path / "m.npy").oracle.contexts == 2


def test_votes(tmp_path):
    rows = [
        ("a", "b", "model_a", 1),
        ("b", "a", "model_a", 2),
        ("a", "b", "tie", 1),
        ("b", "c", "model_b", 1),
    ]
    text = "\n".join(
        json.dumps({"model_a": a, "model_b": b, "winner": w, "weight": k}) for a, b, w, k in rows
    )
    spec = read_game(write(tmp_path / "v.jsonl", text))
    assert spec.responses == ("a", "b", "c")
    matrix = spec.win_matrix()[0]
    assert matrix[0, 1] == pytest.approx(1.5 / 4)
    assert matrix[1, 2] == 0.0
    assert matrix[0, 2] == 0.5
    assert "1 of 3 pairs have no votes" in spec.notes[1]


def test_json_games(tmp_path):
    def game(content):
        return read_game(write(tmp_path / "g.json", json.dumps(content)))

    matrix = [[0.5, 0.7], [0.3, 0.5]]
    spec = game({"oracle": "pairwise", "matrix": matrix, "responses": ["x", "y"], "players": 4, "tau": 0.3,
                 "reference": [0.2, 0.8]})  # fmt: skip
    built = spec.game()
    assert (built.players, built.player_tau.tolist(), built.responses) == (4, [0.3] * 4, ("x", "y"))
    assert spec.game(players=2, tau=0.1).player_tau.tolist() == [0.1, 0.1]
    assert isinstance(
        game({"oracle": "plackett-luce", "utilities": [[0, 1, 2], [2, 1, 0]]}).oracle, PlackettLuce
    )
    population = game(
        {
            "oracle": "population",
            "annotators": [{"weight": 2, "ranking": [[2], [0, 1]]}, {"utilities": [0, 1, 2]}],
        }
    ).oracle
    policies = random_policies(np.random.default_rng(0), 3, 1, 3)
    by_hand = Population([[1, 1, 0]], [2], [[0, 1, 2]], [1])
    np.testing.assert_allclose(
        population.win_probabilities(policies), by_hand.win_probabilities(policies), atol=1e-15
    )
    contexts = game({"oracle": "population", "annotators": [{"ranking": [[[2], [0, 1]], [[0], [1], [2]]]}]})
    assert (contexts.oracle.contexts, contexts.oracle.responses) == (2, 3)
    tensor = game({"oracle": "tensor", "tensor": np.full((2, 2, 2), 1 / 3).tolist()})
    assert tensor.oracle.players == 3
    assert (
        game({"oracle": "tensor", "tensor": np.full((2, 2, 2), 0.5).tolist(), "players": 2}).oracle.contexts
        == 2
    )
    mixed = game({"oracle": "heterogeneous", "oracles": [
        {"oracle": "pairwise", "matrix": matrix}, {"oracle": "plackett-luce", "utilities": [0, 1]}]})  # fmt: skip
    assert isinstance(mixed.oracle, Heterogeneous)
    assert isinstance(mixed.oracle.oracles[0], Pairwise)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "0.5,0.6\n0.4\n", "line 2: expected 2 numbers; found 1"),
        ("a.csv", "0.5,0.6\n0.4,x\n", "line 2: not a number: 'x'"),
        ("a.csv", "0.5,0.6\n", "square"),
        ("a.csv", "0.5,nan\n0.4,0.5\n", "finite"),
        ("a.csv", "0.5,1.6\n-0.6,0.5\n", r"\[0, 1\]"),
        ("a.csv", "0.5,0.6\n0.5,0.5\n", "P \\+ Pᵀ = 1"),
        ("a.npy", "no array", "not a NumPy file"),
        ("a.npz", "no array", "not a NumPy file"),
        ("a.soc", "1: 1,2\n", "NUMBER ALTERNATIVES"),
        ("a.soc", "# NUMBER ALTERNATIVES: x\n", "line 1"),
        ("a.soc", HEADER, "no preferences"),
        ("a.soc", HEADER + "1: 1,2,3\n1: 1,2,x\n", "line 6: expected"),
        ("a.soc", HEADER + "1: 1,2,3\n1: 1,2\n", "line 6: a .soc file has complete orders"),
        ("a.soc", HEADER + "1: 1,{2,3}\n", "line 5: a .soc file has strict orders"),
        ("a.soc", HEADER + "1: 1,2,4\n", "line 5: alternatives are 1 to 3; found 4"),
        ("a.soc", HEADER + "1: 1,2,2\n", "line 5: alternative 2 is named twice"),
        ("a.soc", HEADER + "0: 1,2,3\n", "line 5: the count"),
        ("a.jsonl", '{"model_a": "x"}\n', "line 1: has no model_b, winner"),
        ("a.jsonl", '{"model_a": "x", "model_b": "y", "winner": "x"}\n', "line 1: winner must be"),
        ("a.jsonl", '{"model_a": "x", "model_b": "x", "winner": "tie"}\n', "line 1: .*two different"),
        ("a.jsonl", '\n{"model_a"\n', "line 2: not JSON"),
        ("a.json", '{"oracle":\n "pairwise",,}', "line 2: malformed JSON"),
        ("a.json", '{"oracle": "pairwize", "matrix": [[0.5]]}', "did you mean 'pairwise'"),
        ("a.json", '{"oracle": "pairwise"}', "needs the key 'matrix'"),
        ("a.json", '{"oracle": "pairwise", "matrx": [[0.5]], "matrix": [[0.5]]}', "did you mean 'matrix'"),
        ("a.json", '{"oracle": "pairwise", "matrix": [[0.5, 0.6], [0.4]]}', "rectangular"),
        ("a.json", '{"oracle": "pairwise", "matrix": [[0.5]], "players": 1}', "at least 2"),
        ("a.json", '{"oracle": "pairwise", "matrix": [[0.5]], "tau": -1}', "tau must be at least 0"),
        ("a.json", '{"oracle": "pairwise", "matrix": [[0.5]], "responses": [1]}', "list of names"),
        ("a.json", '{"oracle": "population", "annotators": [{"weight": 1}]}', "annotator 0"),
        ("a.json", '{"oracle": "population", "annotators": [{"ranking": [[0], [0]]}]}', "twice"),
        ("a.json", '{"oracle": "heterogeneous", "oracles": [{"oracle": "pairwise"}]}', "oracle 0: "),
        ("a.json", "[1]", "one JSON object"),
        ("a.txt", "x", "unknown kind of game file"),
    ],
)
def test_bad_files_say_where(tmp_path, name, text, words):
    path = write(tmp_path / name, text)
    with pytest.raises(ValueError, match=words) as caught:
        read_game(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_policies(tmp_path):
    path = write(tmp_path / "p.json", json.dumps({"policies": [[[0.25, 0.75]]], "players": 2, "tau": 0.1}))
    claim = read_claim(path)
    assert (claim.policies.shape, claim.players, claim.tau) == ((1, 1, 2), 2, 0.1)
    assert read_policies(write(tmp_path / "p.csv", "0.25,0.75\n")).shape == (1, 2)
    with pytest.raises(ValueError, match="no key 'policies'"):
        read_claim(write(tmp_path / "q.json", '{"x": 1}'))
    with pytest.raises(ValueError, match="no such file"):
        read_policies(tmp_path / "none.json")


def test_games_by_name_or_file(tmp_path):
    path = write(tmp_path / "m.csv", "0.5,0.7\n0.3,0.5\n")
    assert load_game(str(path)).oracle.responses == 2
    assert load_game("cycle:responses=7").oracle.responses == 7
    assert (
        load_game("random", seed=1).oracle.matrix[0, 0, 1]
        != load_game("random", seed=2).oracle.matrix[0, 0, 1]
    )
    with pytest.raises(ValueError, match="did you mean 'cycle'"):
        load_game("cycel")
    with pytest.raises(ValueError, match="no such file"):
        load_game(str(tmp_path / "none.csv"))
