"""With exact feedback a trained network is where the closed form is, for every rule."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from crosscheck_cases import cases

from mnpo import Game, Pairwise, run, update
from mnpo.cli.crosscheck import every_rule
from mnpo.llm.crosscheck.check import crosscheck
from mnpo.llm.crosscheck.executor import Executor
from mnpo.llm.crosscheck.finite import NETWORKS, ResponseSet
from mnpo.llm.crosscheck.positions import Positions, distance
from mnpo.presets import make_rule
from support import random_matrix, random_policies


def test_one_update_is_the_first_of_a_run() -> None:
    """`mnpo.update` from a history is what `mnpo.run` does at each time, also for rules that look back and ahead."""
    rng = np.random.default_rng(1)
    game = Game(Pairwise(random_matrix(rng, 4, 3)), tau=0.1, reference=random_policies(rng, 3, 4))
    for name in ("mwu", "inpo", "onpo", "egpo", "nash-md", "td-mnpo", "eo-mnpo"):
        rule = make_rule(name, eta=0.7, tau=0.1, players=4)
        externals = [random_policies(rng, 3, 4) for _ in range(rule.externals)]
        start = random_policies(rng, 2, 3, 4)
        whole = run(game, rule, 5, start=start, externals=externals, keep_policies=True).recorded_policies
        for t in range(5):
            history = [whole[max(t - lag, 0)] for lag in range(rule.depth)]
            found = np.exp(update(game, rule, history, externals=externals))
            assert np.abs(found - whole[t + 1]).max() < 1e-14
    with pytest.raises(ValueError, match="history must hold at least the current policies"):
        update(game, make_rule("inpo", eta=1.0, tau=0.1), [])


def test_one_step_of_every_rule_is_the_closed_form() -> None:
    """Free logits, trained by what trains language models, are the closed-form update, for every rule."""
    record = crosscheck(cases(*every_rule()), ["softmax"], steps=0)
    assert [entry["rule"] for entry in record["rows"]] == every_rule()
    assert max(entry["tv"] for entry in record["rows"]) <= NETWORKS["softmax"].tolerance
    assert record["disagreements"] == []


def test_rules_are_told_apart(tmp_path: Path) -> None:
    """From where the check begins, the steps of different rules are further apart than any tolerance of free logits."""
    rules = ("sppo", "inpo", "nash-md", "onpo", "egpo", "td-mnpo:players=3", "td-mnpo:players=4", "eo-mnpo")
    positions = Positions(Executor("softmax", ResponseSet(4, 3), tmp_path), 0)
    steps = [positions.scattered(case).table_step() for case in cases(*rules)]
    apart = [distance(one, other) for one, other in itertools.combinations(steps, 2)]
    assert min(apart) > 100 * NETWORKS["softmax"].tolerance


@pytest.mark.parametrize("steps", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_all_networks_agree(steps: int) -> None:
    """A small form of docs/crosscheck.md: one step and two, on all networks."""
    record = crosscheck(cases("td-mnpo:players=3"), steps=steps)
    assert {entry["policy"] for entry in record["rows"]} == set(NETWORKS)
    for entry in record["rows"]:
        assert entry["tv"] <= NETWORKS[entry["policy"]].tolerance
        assert abs(entry["gap_network"] - entry["gap_table"]) <= max(0.1 * entry["gap_table"], 1e-3)
    assert record["disagreements"] == []


def test_a_rule_is_checked_alike_after_others() -> None:
    """The same rows, to the last bit, alone and after another rule: networks do not depend on what came before."""
    few = {"max_steps": 5}
    (_, after) = crosscheck(cases("onpo", "td-mnpo:players=4"), ["mlp"], steps=0, training=few)["rows"]
    (alone,) = crosscheck(cases("td-mnpo:players=4"), ["mlp"], steps=0, training=few)["rows"]
    assert {**after, "seconds": 0} == {**alone, "seconds": 0}
    assert alone["tv"] > 1e-4  # five steps leave something that weights can differ in


def test_players_of_group_oracles_and_refreshed_references_agree() -> None:
    """A population of annotators with n = 3, and MPO, whose reference moves on."""
    population = cases("td-mnpo:players=3", game="annotators:responses=4,annotators=30")
    refreshed = cases("mpo:refresh=2")
    record = crosscheck([*population, *refreshed], ["softmax"], steps=4)
    assert record["disagreements"] == []
    assert all(max(curve["tv"]) < 1e-5 for curve in record["curves"])


@pytest.mark.slow
def test_gemma_is_where_the_table_is_after_twenty_steps() -> None:
    """TD-MNPO on biased rock–paper–scissors, four contexts: the gap is the table's."""
    record = crosscheck(cases("td-mnpo:players=3"), ["gemma2"], steps=20)
    last = record["rows"][-1]
    assert last["steps"] == 20
    assert abs(last["gap_network"] - last["gap_table"]) <= max(0.1 * last["gap_table"], 1e-3)
    assert record["disagreements"] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_gemma_takes_long_steps(seed: int) -> None:
    """From several starts, what goes furthest: a fit that stopped too early would be blamed on the rule."""
    far = cases("mwu:players=3", "td-mnpo:players=4", "ht-mnpo:anchor=opponents")
    record = crosscheck(far, ["gemma2"], steps=0, seed=seed)
    assert max(entry["tv"] for entry in record["rows"]) < NETWORKS["gemma2"].tolerance / 2
    assert record["disagreements"] == []
