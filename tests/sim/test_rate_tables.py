"""Predicted rates as tables, and what is recommended by them."""

import pytest

from mnpo.sim.load import load_game
from mnpo.sim.rate_tables import rate_table, recommend


def test_more_players_are_faster_and_stable_at_larger_steps():
    record = rate_table(load_game("random:responses=6"), tau=0.02, players=[2, 4], points=9)
    assert {"rule", "players", "eta", "rate", "stable"} <= set(record["rows"][0])
    two, four, onpo, egpo = record["summary"]
    assert four["rate"] < two["rate"]
    assert four["stable_steps"][-1][1] > two["stable_steps"][-1][1]
    assert egpo["oracle_calls"] == pytest.approx(2 * egpo["updates"])
    assert onpo["rate"] < 1
    with pytest.raises(ValueError, match="tau above 0"):
        rate_table(load_game("random"), tau=0.0)


def test_the_fastest_number_of_players_is_recommended():
    record = recommend(load_game("random:responses=6"), "td-mnpo", tau=0.02, players=[2, 4])
    assert record["best"]["players"] == 4
    with pytest.raises(ValueError, match="no history weights"):
        recommend(load_game("random"), "inpo", tau=0.02, weights=True)
