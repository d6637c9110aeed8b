"""Studies, and the figures of their records."""

import json

import numpy as np
import pytest

from mnpo import Game
from mnpo.sim import plots, records
from mnpo.sim.catalogue import make_game
from mnpo.sim.studies import compare, effective_responses, play


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


def test_effective_responses_count_what_is_played():
    game = Game(make_game("cycle").oracle, 2, 0.1)
    assert effective_responses(np.full((2, 1, 5), 0.2), game) == pytest.approx(5)
    assert effective_responses(np.eye(5)[:1, None], game) == pytest.approx(1)
