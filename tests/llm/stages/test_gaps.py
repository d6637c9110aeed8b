"""Whose gap is estimated, of what, and that it is the gap of the policy on the small model's styles."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from datasets import load_from_disk
from loops import run, run_stage
from scipy.special import logsumexp

from mnpo.gap_estimates import Verdicts, estimate
from mnpo.llm.config import load
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.oracles.panel import panels_of
from mnpo.llm.oracles.synthetic import NAMED, styles
from mnpo.llm.stages.gaps import Gaps, Plan, Sides, plans
from mnpo.llm.stages.records import Bracket

TAU = 0.05
PEOPLE = "oracle={kind: population, members: [{name: a, traits: styles, utilities: {plain: 1}}, styles]}"


def _plans(*overrides: str) -> dict[str, Plan]:
    config = load("tiny", list(overrides))
    panels = panels_of(config.judging.oracle, config.evaluation.eval_oracles)
    return plans(config.model, config.sampling, config.judging, config.update, config.evaluation, panels)


JUDGE = "oracle={kind: judge, name: judge, model: m, base_url: 'http://localhost:1'}"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), {"styles": Plan(TAU, 1, ())}),
        (("eval_tau=0.2",), {"styles": Plan(0.2, 1, ())}),
        (("eval_generations=3",), {}),
        (("temperature=0.7",), {}),
        (("objective=dpo",), {}),
        (("objective=dpo", "eval_tau=0.1"), {"styles": Plan(0.1, 1, ())}),
        (("rule={name: sppo, eta: 1}",), {}),
        (("eval_gap=false",), {}),
        ((JUDGE,), {}),
        ((JUDGE, "eval_gap=true"), {"judge": Plan(TAU, 1, ())}),
        (("group_size=3",), {"styles": Plan(TAU, 1, ())}),  # an oracle of pairs: n changes nothing
        ((PEOPLE, "group_size=3"), {"population": Plan(TAU, 3, ())}),
        ((PEOPLE, "group_size=4"), {}),
        (
            ("opponent_models=[a/b]", "eval_oracles={one: styles, two: forms}"),
            {"one": Plan(TAU, 1, ("opponent-1",))},
        ),
    ],
)
def test_a_gap_is_estimated_where_it_can_be_and_costs_nothing(
    overrides: tuple[str, ...], expected: dict[str, Plan]
) -> None:
    assert _plans(*overrides) == expected


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("eval_generations=3", "eval_generations of at least 4; found 3"),
        ("top_p=0.9", "temperature=1 and top_p=1; found 1 and 0.9"),
        ("objective=dpo", "eval_tau: there is no rule"),
        ("rule={name: sppo, eta: 1}", "eval_tau above 0: the rule's τ is 0"),
        ("rule={name: eo-mnpo, eta: 2, tau: 0.1, external_tau: [0.2]}", "reference is a mixture"),
    ],
)
def test_what_is_asked_for_and_impossible_is_refused(override: str, reason: str) -> None:
    with pytest.raises(ValueError, match="eval_gap=true needs") as error:
        _plans("eval_gap=true", override)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("others", [(), ("b", "c")])
def test_responses_meet_those_that_they_should(others: tuple[str, ...]) -> None:
    """Out of win matrices and rewards of all responses: rows of policy and reference, columns of opponents."""
    rng, count = np.random.default_rng(0), 4
    sides = Sides(range(4), range(12, 16), {"b": range(4, 8), "c": range(8, 12)})
    plan = Plan(TAU, 1, others)
    ratios, rewards, wins = rng.normal(size=(3, 8)), rng.normal(size=(3, 16)), rng.random((3, 16, 16))
    asked = np.full((16, 16), np.nan)
    for first, second in sides.meetings(plan):
        asked[first, second] = asked[second, first] = 0
    asked[np.diag_indices(16)] = 0
    gaps = Gaps(plan, sides, ratios)
    for x in range(3):
        judged = [[Judged(0.4, wins=wins[x] + asked)], [Judged(0.6, rewards=rewards[x])]]
        gaps.add(x, judged)
    met = [4, 5, 6, 7, 8, 9, 10, 11] if others else [0, 1, 2, 3]
    rows = [0, 1, 2, 3, 12, 13, 14, 15]
    by_pairs = 0.4 * wins[:, rows][:, :, met] + 0.6 / (
        1 + np.exp(rewards[:, met][:, None] - rewards[:, rows][:, :, None])
    )
    said = Verdicts(1.0, wins=by_pairs.reshape(3, 8, -1, count))
    expected = estimate(ratios, [said], TAU, alike=not others)
    found = gaps.bracket(rng)
    assert found.plug_in.mean == pytest.approx(expected.plug_in.mean())
    assert found.split.mean == pytest.approx(expected.split.mean())
    assert (found.measure, found.players) == (("exploitability", 3) if others else ("duality gap", 2))


class Trained(NamedTuple):
    """A policy that was trained a little, and the gap that its styles have."""

    folder: Path
    exact: float

    def bracket(self, count: int) -> Bracket:
        overrides = [f"output_dir={self.folder.parent / f'k{count}'}", f"eval_generations={count}"]
        found = run_stage("evaluate", load(str(self.folder / "config.yaml"), overrides)).gap["styles"]
        assert isinstance(found, Bracket)
        return found


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train for some steps, and find the exact gap.

    The oracle sees nothing of a response but its style. So q and V are exact sums over five styles, once their
    probabilities under policy and reference are known: from 256 responses of each to each prompt, an error of half
    a hundredth. KL is of whole texts; its estimate from as many has hardly any error left.
    """
    folder = tmp_path_factory.mktemp("gap") / "run"
    run(
        base,
        folder,
        "iterations=1",
        "max_steps=30",
        "prompt_dataset_name=tiny:prompts:60",
        "eval_prompts=30",
        "per_device_generation_batch_size=128",
    )
    home = folder / "iteration-1"
    overrides = [f"output_dir={folder / 'many'}", "eval_generations=256", "eval_gap=false"]
    many = run_stage("evaluate", load(str(home / "config.yaml"), overrides))
    assert many.gap == {"styles": None}
    wins = np.array(NAMED["styles"]["wins"])
    values = []
    for row in load_from_disk(many.folder):
        policy, reference = (
            np.mean([styles(text) for text in row[name]], axis=0) for name in ("policy", "reference")
        )
        values.append(TAU * logsumexp(wins @ policy / TAU, b=reference))
    return Trained(home, 2 * (float(np.mean(values)) - 0.5 + TAU * many.kl))


@pytest.mark.slow  # a minute; tests/llm/crosscheck/test_gap_brackets.py is the short one
@pytest.mark.parametrize("count", [8, 32, 128])
def test_the_bracket_holds_the_gap_of_the_styles(trained: Trained, count: int) -> None:
    found = trained.bracket(count)
    assert found.split.low <= trained.exact <= found.plug_in.high
    assert -0.02 < found.plug_in.mean - trained.exact < 0.02 + 0.8 / count
    assert -0.02 < trained.exact - found.split.mean < 0.02 + 1.6 / count
    assert (found.players, found.responses, found.tau) == (2, count, TAU)
    assert 1 < found.effective < 2 * count


@pytest.mark.slow
def test_the_bracket_closes(trained: Trained) -> None:
    near, far = trained.bracket(32), trained.bracket(8)
    widths = [found.plug_in.mean - found.split.mean for found in (near, far)]
    assert 0 < 2 * widths[0] < widths[1]
