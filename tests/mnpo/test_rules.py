"""Rules as data: what is refused, and what the published configuration aims at."""

import pytest

from mnpo import UpdateRule, inpo, make_rule, td_mnpo
from mnpo.rules import Own, Reference, WinRate


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: inpo(-1.0, 0.1), "eta must be above 0"),
        (lambda: inpo(20.0, 0.1), "at most 1/tau"),
        (lambda: td_mnpo(0.5, 0.1, players=1), "at least 2"),
        (lambda: td_mnpo(0.5, 0.1, 3, weights=[1.0]), "2 numbers"),
        (lambda: td_mnpo(0.5, 0.1, 3, advantage="curent"), "did you mean 'current'"),
        (lambda: make_rule("td-mpno", eta=1, tau=0.1), "did you mean 'td-mnpo'"),
        (lambda: make_rule("inpo", eta=1, tau=0.1, advantage="current"), "takes no advantage"),
        (lambda: UpdateRule("x", 1.0, ((Reference(), 0.5), (Own(), 0.4)), ((WinRate(), 1.0),)), "sum to 1"),
        (lambda: UpdateRule("x", 1.0, ((Own(-1), 1.0),), ((WinRate(), 1.0),)), "lags"),
    ],
)
def test_bad_rules_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_published_configuration_aims_at_tau():
    """docs/concepts.md, (10): inverse step 0.0075 and ratio 1/3 are η = 133.3, λ_ref = 1/3, τ = 0.0025."""
    rule = td_mnpo(1 / 0.0075, 0.0025, players=3)
    assert rule.reference_weight == pytest.approx(1 / 3)
    assert rule.tau == pytest.approx(0.0025)
    assert rule.depth == 2
