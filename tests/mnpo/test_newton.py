"""Newton's method on many contexts: each ends by itself, whatever happens in the others."""

import numpy as np
import pytest

from mnpo import Game, Pairwise
from mnpo.implicit import GamePayoffs
from mnpo.logit import ConvergenceError, solve_logit
from mnpo.newton import FixedPoints, _solve_each
from support import random_matrix


class OneContextBroken:
    """Payoffs that are no numbers in one context."""

    def __init__(self, inner, places, broken):
        self.inner, self.places, self.broken = inner, places, broken

    def at(self, contexts):
        return OneContextBroken(self.inner.at(contexts), self.places[contexts], self.broken)

    def wins(self, policies):
        found = self.inner.wins(policies).copy()
        found[:, self.places == self.broken] = np.nan
        return found

    def jacobian(self, policies):
        return self.inner.jacobian(policies)


def test_one_singular_matrix_spoils_its_own_solution_only():
    matrices = np.stack([np.eye(3), np.ones((3, 3)), 2 * np.eye(3)])
    found = _solve_each(matrices, np.ones((3, 3)))
    np.testing.assert_allclose(found[[0, 2]], [[1, 1, 1], [0.5, 0.5, 0.5]])
    assert np.isnan(found[1]).all()


def test_contexts_converge_beside_one_that_does_not():
    game = Game(Pairwise(random_matrix(np.random.default_rng(0), 4, 3)), 2, 0.2)
    reference = np.array(game.log_reference)
    good = solve_logit(GamePayoffs(game), reference, np.array([0.2]), unique=True)
    system = FixedPoints(
        OneContextBroken(GamePayoffs(game), np.arange(3), 1), reference, np.array([0.2]), 0.0
    )
    with np.errstate(all="ignore"):
        found = system.correct(
            np.arange(3), system.reference, np.zeros(3), system.held(3), np.ones(3, dtype=bool)
        )
    assert found.converged.tolist() == [True, False, True]
    policies = np.exp(good.log_policies[0])
    logits = found.x[[0, 2]]
    np.testing.assert_allclose(np.exp(logits), policies[[0, 2]], atol=1e-14)
    np.testing.assert_array_equal(found.x[1], reference[0, 1])


def test_a_context_that_is_lost_is_named():
    game = Game(Pairwise(random_matrix(np.random.default_rng(0), 4, 3)), 2, 0.2)
    broken = OneContextBroken(GamePayoffs(game), np.arange(3), 1)
    with pytest.raises(ConvergenceError, match="context 1: no logit equilibrium"):
        solve_logit(broken, np.array(game.log_reference), np.array([0.2]), unique=True)
