"""Who judges in a run: how a specification is read, and what a synthetic oracle's scale does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from imported import said_and_imported
from own_judges import CPU, only, refusal
from scipy.special import expit, logit

from mnpo.llm.data import made
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.panel import build
from mnpo.llm.oracles.synthetic import NAMED, Synthetic

RESPONSES = [made.STYLES[style][0].format("tea") for style in made.STYLES]
WINS = np.array(NAMED["styles"]["wins"])[:4, :4]


def matrix(oracle: Any) -> np.ndarray:
    questions = [Question("Tea?", first, second) for first in RESPONSES for second in RESPONSES]
    found = dict(answer for batch in oracle.answer(questions, CPU) for answer in batch)
    return np.array([found[place] for place in range(len(questions))]).reshape(4, 4)


# --- what a specification means ---------------------------------------------------------------------------------


def test_a_synthetic_oracle_is_its_name_and_what_differs() -> None:
    """`oracle=styles oracle.scale=2` gives a name and a scale, and no kind."""
    plain, scaled = only("styles"), only({"name": "styles", "scale": 2})
    assert (scaled.name, scaled.scale) == ("styles", 2)
    assert (
        only({"name": "styles"}).key() == only({"kind": "synthetic", "name": "styles"}).key() == plain.key()
    )
    own = only({"name": "forms", "utilities": {"brief": 1}})
    assert own.key() == {**only("forms").key(), "utilities": [1.0, 0.0, 0.0]}
    other = only({"name": "styles", "traits": "forms", "utilities": {"list": 1}})
    assert other.key() == only({"kind": "synthetic", "traits": "forms", "utilities": {"list": 1}}).key()


def test_a_specification_without_a_kind_is_told_so() -> None:
    kinds = "embedding, judge, pairwise, population, python, reward, synthetic"
    wanted = f"kind is missing; choose from {kinds}, or give the name of a synthetic oracle, forms or styles"
    assert refusal({"name": "mine", "scale": 2}) == f"oracle mine: {wanted}"
    assert refusal({"model": "folder"}).endswith(wanted)
    assert "lacks oracle" in refusal(None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("stiles", "unknown oracle 'stiles'; did you mean 'styles'?"),
        ("reward", "oracle reward of kind reward lacks model"),
        ({"kind": "rewards"}, "unknown kind of oracle 'rewards'; did you mean 'reward'?"),
        ({"kind": "reward", "model": "a/b", "heads": "auto"}, "oracle b of kind reward has no option 'heads'; did you mean 'head'?"),
        ({"kind": "judge", "model": "m", "scale": 2}, "oracle m of kind judge has no option 'scale'"),
        ({"name": "styles", "scale": "big"}, "oracle styles of kind synthetic: scale must be a number; found 'big'"),
        ({"name": "styles", "scale": -1}, "oracle styles of kind synthetic: scale must be a number above 0; found -1"),
        ({"name": "styles", "scale": True}, "oracle styles of kind synthetic: scale must be a number; found True"),
        ({"kind": "reward", "model": "m", "batch_size": "4"}, "oracle m of kind reward: "),
        ({"kind": "judge", "model": "m", "base_url": "http://me:secret@localhost/v1"}, "oracle m: a URL must not hold a password"),
        ({"kind": "population", "members": ["styles", 3]}, "oracle population: a member must be a name or keys and values; found 3"),
        ({"kind": "population", "members": ["styles", {"name": "styles", "scale": 2}]}, "give members and population names that differ"),
    ],
)  # fmt: skip
def test_a_wrong_specification_is_refused_in_one_line(spec: Any, message: str) -> None:
    found = refusal(spec)
    assert message in found
    assert "secret" not in found


def test_a_population_weighs_what_each_member_names() -> None:
    members = ["forms", {"name": "styles", "scale": "2.5e-1", "weight": 3}]
    panel = build({"kind": "population", "name": "all", "members": members})
    assert [(m.oracle.name, m.weight, m.oracle.scale) for m in panel.members] == [
        ("forms", 0.25, 1), ("styles", 0.75, 0.25)
    ]  # fmt: skip


def test_nobody_waits_for_torch_to_hear_of_bad_input() -> None:
    code = (
        "from mnpo.llm.oracles.panel import build; build('styles').members[0].oracle.key()\n"
        "try: build({'kind': 'rewards'})\nexcept ValueError as error: print(str(error)[:22])"
    )
    assert said_and_imported(code) == ("unknown kind of oracle", "")


# --- the scale of a synthetic oracle ----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 1, 3.0])
def test_a_scale_divides_the_logits_of_a_win_matrix(scale: float) -> None:
    found = matrix(only({"name": "styles", "scale": scale}))
    np.testing.assert_allclose(found, expit(logit(WINS) / scale), rtol=0, atol=1e-12)


def test_a_scale_is_part_of_the_key_where_answers_depend_on_it() -> None:
    """Stores that were filled before there was one stay valid; rewards are divided by whoever reads them."""
    assert list(only("styles").key()) == ["kind", "traits", "wins", "utilities"]
    assert only({"name": "styles", "scale": 1.0}).key() == only("styles").key()
    assert only({"name": "styles", "scale": 2}).key()["scale"] == 2
    rewards = Synthetic(utilities={"plain": 1}, scale=3)
    assert rewards.key() == Synthetic(utilities={"plain": 1}).key()
    assert [list(batch) for batch in rewards.answer([Question("Tea?", RESPONSES[0])], CPU)] == [[(0, 1.0)]]
    json.dumps(only({"name": "styles", "scale": 2}).key())


def test_a_tiny_scale_makes_preferences_certain() -> None:
    found = matrix(only({"name": "styles", "scale": 1e-6}))
    np.testing.assert_allclose(found, np.where(WINS == 0.5, 0.5, WINS > 0.5), rtol=0, atol=1e-12)


def test_one_response_is_no_pair() -> None:
    with pytest.raises(ValueError, match="the oracle styles compares two responses; question 0 has one"):
        list(only("styles").answer([Question("Tea?", RESPONSES[0])], CPU))
