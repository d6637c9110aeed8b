"""What some iteration would refuse is refused before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from loops import run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["iterations=0"], "iterations must be at least 1; found 0"),
        (["num_generations=0"], "num_generations must be at least 1; found 0"),
        (["rule.players=1"], "players must be at least 2; found 1"),
        (["players=[{name: a, oracle: styles}]"], "players must be at least 2"),
        (["players=[{name: a}, {name: a}]"], "different names"),
        (["players=[{name: a}, {name: reference}]"], "not one in use; found 'reference'"),
        (["players=[{name: a}, {name: b, iterations: 2}]"], "player b: iterations is the same for all players"),
        (["players=[{name: a}, {name: b, orcale: x}]"], "unknown key 'orcale'"),
        (["schedule={7: {rule.eta: 1}}"], "schedule names iterations from 1 to 2; found 7"),
        (["schedule={2: {rule.eta: 1000}}"], "eta must be at most 1/tau"),
        (["schedule={2: {pairing: third, target: label}}"], "pairing=third needs target=win-rate"),
        (["schedule={2: {iterations: 9}}"], "schedule of iteration 2: iterations is the same for all players"),
        (["schedule={2: 5}"], "schedule.2 must be keys and values"),
        (["players=[a, b]"], "players[0] must be keys and values"),
        (["players=[{name: a, model_name_or_path: x}, {name: b}]"], "player a: model_name_or_path is the same for all"),
        (["players=[{name: a}, {name: current}]"], "not one in use; found 'current'"),
        (["past_models=[x]"], "past_models is set by the loop"),
        (["eval_prompts=0"], "at least 2 held-out prompts: eval_prompts=0 leaves 0"),
        (["eval_prompts=1"], "at least 2 held-out prompts: eval_prompts=1 leaves 1"),
        (["oracle=null"], "the configuration lacks oracle"),
        (["first_pairs=dataset", "dataset_name=null"], "first_pairs=dataset needs dataset_name"),
        (["oracle={kind: reward, model: %s}"], "was found"),
    ],
)  # fmt: skip
def test_refused_before_anything_is_done(
    overrides: list[str], message: str, untaught: Path, tmp_path: Path
) -> None:
    if "%s" in overrides[0]:
        overrides, message = [overrides[0] % untaught], "reward"
    with pytest.raises(ValueError, match=r".") as caught:
        run(untaught, tmp_path / "run", *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run").glob("iteration-*/*"))
