"""The update rules as a table."""

from mnpo import make_rule
from mnpo.sim.rule_table import rule_rows


def test_the_table_of_rules_is_read_off_the_rules():
    rows = {row["name"]: row for row in rule_rows()}
    twice = {name for name in rows if rows[name]["oracle_calls"] == 2}
    assert twice == {"egpo", "nash-prox"}
    assert all(rows[name]["oracle_calls"] == 1 for name in rows if name not in twice)
    assert rows["inpo"]["anchors"] == "reference 0.05, own (lag 0) 0.95"
    assert make_rule("mpo", eta=0.5, tau=0.1).refresh == 50


def test_options_are_those_of_the_signature_with_their_meaning():
    options = {row["name"]: row["options"] for row in rule_rows()}
    assert options["inpo"] == {}
    assert options["td-mnpo"]["advantage"]["choices"] == ["current", "population"]
    assert options["eo-mnpo"]["external_tau"]["default"] == [0.1]
    assert all(option["help"] for row in options.values() for option in row.values())
