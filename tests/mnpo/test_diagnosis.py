"""The diagnosis against independent computations, and what it recommends."""

import numpy as np
import pytest
from scipy.special import expit

from mnpo import Game, Pairwise, Population, exploitability, solve
from mnpo.diagnosis import Annotator, Diagnosing, Diagnosis

CYCLE = np.array([[0.5, 0.8, 0.2], [0.2, 0.5, 0.8], [0.8, 0.2, 0.5]])


def diagnosed(*annotators: Annotator, tau: float = 0.1) -> Diagnosis:
    gathering = Diagnosing(tau)
    gathering.add(annotators)
    return gathering.finish()


def test_win_rate_is_split_so_that_noise_wins_nothing() -> None:
    """Labels of a fair coin: in the sample the equilibrium seems to win, in truth nothing does."""
    rng = np.random.default_rng(0)
    above = np.triu(rng.integers(0, 2, (150, 8, 8)).astype(float), 1)
    wins = above + np.tril(1 - above.swapaxes(1, 2), -1) + 0.5 * np.eye(8)
    found = diagnosed(Annotator("coin", 1.0, wins=wins, labels=1))
    (row,) = found.equilibria
    assert row.win_rate_in_sample.mean > 0.6
    assert row.win_rate.low is not None
    assert row.win_rate.high is not None
    assert row.win_rate.low < 0.5 < row.win_rate.high
    # And noise explains the cycles.
    noise = found.transitivity[0].noise
    assert noise is not None
    assert found.transitivity[0].cyclicity.mean <= noise.cyclicity_high
    assert found.recommendation.rule == "any"


def test_split_win_rate_is_that_of_half_the_responses_against_fresh_ones() -> None:
    rng = np.random.default_rng(1)
    utilities, fresh = rng.normal(size=(200, 6)), rng.normal(size=4000)
    found = diagnosed(Annotator("bt", 1.0, utilities=utilities)).equilibria[0]
    rates = expit(utilities[:, :, None] - fresh).mean(-1)
    worth = []
    for half in (slice(0, 3), slice(3, 6)):
        own = utilities[:, half]
        policy = solve(Game(Pairwise(expit(own[:, :, None] - own[:, None, :])), tau=0.1)).policies[0]
        worth.append((policy * rates[:, half]).sum(-1))
    assert found.win_rate.mean == pytest.approx(np.mean(worth), abs=0.015)
    assert found.win_rate_in_sample.mean > np.mean(worth) + 0.02


def test_equilibria_of_a_population_are_those_of_its_group_oracle() -> None:
    utilities = np.random.default_rng(2).normal(0, 2, (3, 1, 5))
    found = diagnosed(*(Annotator(str(v), v + 1.0, utilities=utilities[v]) for v in range(3)))
    assert [row.players for row in found.equilibria] == [2, 3, 4, 6]
    two = None
    for row in found.equilibria:
        oracle = Population(utilities=utilities, utility_weights=[1, 2, 3])
        policy = solve(Game(oracle, players=row.players, tau=0.1)).policies[0, 0]
        two = policy if two is None else two
        assert row.kl.mean == pytest.approx((policy * np.log(5 * policy)).sum(), rel=1e-7)
        assert row.effective.mean == pytest.approx(np.exp(-(policy * np.log(policy)).sum()), rel=1e-7)
        assert row.distance.mean == pytest.approx(np.abs(policy - two).sum() / 2, abs=1e-7)
        assert row.verified
        assert row.kl.low is None
    assert found.recommendation.players > 2
    assert found.recommendation.group_size == found.recommendation.players - 1


def test_fit_is_softmax_of_mean_logits_and_its_exploitability_the_games() -> None:
    logits = np.random.default_rng(3).normal(0, 1, (4, 5, 5))
    wins = expit(logits - logits.swapaxes(1, 2))
    fit = diagnosed(Annotator("judge", 1.0, wins=wins)).fit
    mean = (logits - logits.swapaxes(1, 2)).mean(-1)
    game = Game(Pairwise(wins), tau=0.1)

    def lost(temperature: float) -> float:
        policy = np.exp(mean / temperature)
        return float(exploitability(game, policy / policy.sum(-1, keepdims=True))[0])

    assert fit.exploitability.mean == pytest.approx(lost(0.1), rel=1e-9)
    assert fit.best_exploitability.mean == pytest.approx(lost(fit.best_temperature), rel=1e-9)
    least = min(lost(0.1 * 2**power) for power in range(6))
    assert fit.best_exploitability.mean == pytest.approx(least, rel=1e-9)
    assert least < lost(0.1)


def test_cycles_speak_for_prox_and_transitive_preferences_for_any_rule() -> None:
    cyclic = diagnosed(Annotator("judge", 1.0, wins=np.stack([CYCLE] * 3)))
    (row,) = cyclic.equilibria
    assert (row.win_rate_in_sample.mean, row.effective.mean) == pytest.approx((0.5, 3))
    assert cyclic.recommendation.rule == "prox"
    # The cycle turns around the reference, which a fit at high temperature stays at.
    assert "little is at stake" in cyclic.recommendation.reasons["rule"]
    assert cyclic.recommendation.players == 2
    # The equilibrium plays all that K = 3 holds: a smaller step, and more responses.
    assert cyclic.recommendation.eta == pytest.approx(2.5)
    assert cyclic.recommendation.responses == 6
    assert cyclic.pairwise
    assert cyclic.disagreement is None
    utilities = np.random.default_rng(4).normal(size=(3, 5))
    one = diagnosed(Annotator("bt", 1.0, utilities=utilities))
    assert one.recommendation.rule == "any"
    assert one.recommendation.eta is None
    assert one.recommendation.players == 2
    assert len(one.equilibria) == 4


def test_a_response_drawn_twice_counts_twice() -> None:
    """The equilibrium of 3 responses, one of them a clone, is that of 2 with the reference (2/3, 1/3)."""
    wins = expit(np.array([[0, 0, 1.0], [0, 0, 1.0], [-1.0, -1.0, 0]]))
    found = diagnosed(Annotator("judge", 1.0, wins=wins[None]))
    small = Game(Pairwise(wins[1:, 1:]), tau=0.1, reference=[2 / 3, 1 / 3])
    policy = solve(small).policies[0, 0]
    assert found.equilibria[0].kl.mean == pytest.approx((policy * np.log(policy / [2 / 3, 1 / 3])).sum())
    assert found.transitivity[0].no_winner.mean == 0  # a clone does not beat the winner


def test_blocks_of_prompts_give_what_all_at_once_give() -> None:
    logits = np.random.default_rng(5).normal(size=(7, 4, 4))
    wins = expit(logits - logits.swapaxes(1, 2))
    gathering = Diagnosing(0.1)
    for block in (wins[:3], wins[3:]):
        gathering.add([Annotator("judge", 2.0, wins=block)])
    assert gathering.finish() == diagnosed(Annotator("judge", 1.0, wins=wins))


@pytest.mark.parametrize(
    ("annotator", "said"),
    [
        (Annotator("a", 1.0, utilities=np.zeros((4, 2))), "at least 3 responses"),
        (Annotator("a", 1.0, utilities=np.zeros((4, 5))), "responses must differ"),
        (Annotator("a", 1.0, wins=np.full((1, 3, 3), np.nan)), "no holes"),
    ],
)
def test_what_says_nothing_is_refused(annotator: Annotator, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Diagnosing(0.1).add([annotator])
    with pytest.raises(ValueError, match="tau must be a number above 0"):
        Diagnosing(0.0)
    with pytest.raises(ValueError, match="no prompts"):
        Diagnosing(0.1).finish()
