"""The catalogue, the facts of a tournament, studies, figures and records."""

import json

import numpy as np
import pytest

from mnpo import Game, solve
from mnpo.sim import plots, records
from mnpo.sim.catalogue import CATALOGUE, make_game
from mnpo.sim.studies import compare, effective_responses, play
from mnpo.sim.tournament import facts
from support import random_matrix


def test_facts_by_enumeration():
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 5, 8):
        matrix = random_matrix(rng, size)
        found = facts(matrix)
        beats = matrix > 0.5
        cycles = {
            frozenset((i, j, k))
            for i in range(size) for j in range(size) for k in range(size)
            if beats[i, j] and beats[j, k] and beats[k, i]
        }  # fmt: skip
        assert found.cycles == len(cycles)
        assert (found.example_cycle is None) == (not cycles)
        winners = [i for i in range(size) if beats[i].sum() == size - 1]
        assert found.condorcet_winner == (winners[0] if winners else None)
        # The Smith set by its definition: the smallest set that beats everything outside it.
        smallest = min(
            (mask for mask in range(1, 2**size) if _dominates(mask, beats, size)),
            key=lambda mask: bin(mask).count("1"),
        )
        assert set(found.smith_set) == {i for i in range(size) if smallest >> i & 1}


def _dominates(mask, beats, size):
    inside = [i for i in range(size) if mask >> i & 1]
    return all(beats[i, j] for i in inside for j in range(size) if j not in inside)


def test_ties_belong_to_the_smith_set():
    found = facts(np.array([[0.5, 0.5, 0.9], [0.5, 0.5, 0.2], [0.1, 0.8, 0.5]]))
    assert set(found.smith_set) == {0, 1, 2}
    assert found.condorcet_winner is None
    assert found.ties == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rsp", "did you mean 'rps'"),
        ("rps:bais=1", "did you mean 'bias'"),
        ("rps:bias", "key=value"),
        ("rps:bias=x", "must be a number"),
        ("rps:bias=0.9", r"\(0, 0.5\]"),
        ("cycle:responses=4", "odd"),
        ("cycle:responses=2.5", "an integer"),
        ("random:responses=0", "at least 1"),
        ("tensor:responses=60,players=7", "GiB"),
    ],
)
def test_bad_catalogue_games(text, words):
    with pytest.raises(ValueError, match=words):
        make_game(text)


def test_the_catalogue_is_reproducible_and_non_transitive():
    for name in CATALOGUE:
        first, again = (make_game(name, seed=5).oracle for _ in range(2))
        policies = np.full((first.players or 3, first.contexts, first.responses), 1 / first.responses)
        np.testing.assert_array_equal(first.win_probabilities(policies), again.win_probabilities(policies))
    default = facts(make_game("annotators").win_matrix()[0])
    assert default.condorcet_winner is None
    assert default.cycles > 0
    assert facts(make_game("transitive").win_matrix()[0]).cycles == 0


def test_minority_is_heard_by_many_players_only():
    shares = {
        n: solve(make_game("minority").game(n, 0.02)).policies[0, 0, -1] for n in (2, 10)
    }  # fmt: skip
    assert shares[2] < 1e-3
    assert shares[10] > 0.1


def test_comparison_holds_what_the_figures_need(tmp_path):
    record = compare("annotators", players=[2, 4], steps=60).as_dict()
    json.loads(records.as_json(record))
    assert [row["players"] for row in record["players"]] == [2, 4]
    two, four = record["players"]
    assert two["effective_responses"] < four["effective_responses"]
    assert two["certificate"]["holds"]
    assert two["gap"][-1] < two["gap"][0]
    assert two["steps"][-1] == 60
    files = plots.save(record, tmp_path)
    assert {file.stem for file in files} == {"gap", "composition", "effective-responses", "win-matrix"}
    assert {file.suffix for file in files} == {".png", ".svg"}
    assert all(file.stat().st_size > 2000 for file in files)


def test_comparison_of_games_made_for_their_players():
    record = compare("committee", players=[2, 3], steps=20).as_dict()
    assert [len(row["policies"]) for row in record["players"]] == [2, 3]


def test_play_measures_an_unregularised_rule_without_regularisation():
    spec = make_game("rps")
    assert play(spec, "mwu", steps=3).game.unregularised
    assert play(spec, "mwu", tau=0.2, steps=3).game.player_tau.tolist() == [0.2, 0.2]
    assert play(spec, "inpo", steps=3).game.player_tau.tolist() == [0.1, 0.1]


def test_effective_responses():
    game = Game(make_game("cycle").oracle, 2, 0.1)
    assert effective_responses(np.full((2, 1, 5), 0.2), game) == pytest.approx(5)
    assert effective_responses(np.eye(5)[:1, None], game) == pytest.approx(1)


def test_run_folders_are_whole_or_absent(tmp_path):
    folder = tmp_path / "deep" / "run"
    with records.run_folder(folder, {"seed": 1}) as partial:
        (partial / "x").write_text("1")
        assert not folder.exists()
    assert json.loads((folder / "config.json").read_text())["seed"] == 1
    assert "numpy" in json.loads((folder / "config.json").read_text())["versions"]
    with pytest.raises(RuntimeError, match="halfway"), records.run_folder(tmp_path / "other", {}):
        raise RuntimeError("halfway")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]
    with pytest.raises(ValueError, match="not an empty folder"), records.run_folder(folder, {}):
        pass
    records.write_file(tmp_path / "f", "text")
    with pytest.raises(ValueError, match="cannot write"):
        records.write_file(tmp_path / "f" / "g", "text")
    assert records.as_json({"x": [float("nan"), np.inf, 1.5]}).split() == ["{", '"x":', "[", "null,", "null,", "1.5", "]", "}"]  # fmt: skip
