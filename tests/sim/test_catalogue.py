"""Synthetic games by name."""

import numpy as np
import pytest

from mnpo import solve
from mnpo.majority import facts
from mnpo.sim.catalogue import CATALOGUE, make_game


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rsp", "did you mean 'rps'"),
        ("rps:bais=1", "did you mean 'bias'"),
        ("rps:bias", "key=value"),
        ("rps:bias=x", "must be a number"),
        ("rps:bias=0.9", r"\(0, 0.5\]"),
        ("cycle:responses=4", "odd"),
        ("cycle:responses=2.5", "a whole number"),
        ("random:responses=0", "at least 1"),
        ("tensor:responses=60,players=7", "GiB"),
    ],
)
def test_bad_names_and_parameters_are_refused(text, words):
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
