"""Every objective ends at its minimiser, whatever the networks are trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from objective_world import World

from mnpo.llm.crosscheck.executor import Position, row
from mnpo.objectives import OBJECTIVES

#: Parameters that leave the minimiser within reach; defaults for all others.
PARAMETERS: dict[str, dict[str, float]] = {
    **{name: {"beta": 1.0} for name in OBJECTIVES if "beta" in OBJECTIVES[name].parameters},
    "simpo": {}, "ipo": {"tau": 1.0}, "r-dpo": {"beta": 1.0, "alpha": 0.1},
}  # fmt: skip
#: Losses with kinks are met by gradient descent no nearer than this.
NEAR = {True: 1e-6, False: 1e-3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("objectives"))


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "kto"])
def test_objectives_end_at_their_minimisers(name: str, world: World) -> None:
    """Labelled draws of π_t, π_ref apart from it, responses of 3 and 4 tokens, rewards, uncertainties."""
    chosen, parameters = OBJECTIVES[name], PARAMETERS.get(name, {})
    task: dict[str, Any] = {"objective": {"name": name, **parameters}}
    given: dict[str, Any] = dict(parameters)
    if chosen.anchor == "rule":
        task |= {"rule": {"name": "inpo", "eta": 1.0, "tau": 0.1}, "target": "label"}
        given |= {"anchor": 0.1 * world.reference.log_policy + 0.9 * world.current.log_policy, "target": 0.5}
    wanted = world.minimisers(name, world.sampler, **given)
    assert all(found.bounded for found in wanted)
    trained = world.executor.fit(task, Position(((world.current,),), (world.reference,)), 0, world.rows)
    distance = np.abs(np.exp(trained.log_policy) - [found.policy for found in wanted]).sum(-1) / 2
    assert distance.max() < NEAR[chosen.smooth]
    assert np.abs(np.exp(trained.log_policy) - world.sampler).sum(-1).min() > 0.01  # it had to move


def test_onpos_second_regression_starts_where_the_first_ends(world: World) -> None:
    """The second starts from what the first ends at, with the same pairs."""
    first = world.executor.fit(
        {"objective": "onpo"}, Position(((world.current,),), (world.reference,)), 0, world.rows
    )
    second = world.executor.fit(
        {"objective": "onpo"}, Position(((first,),), (world.reference,)), 0, world.rows
    )
    half = np.stack([found.policy for found in world.minimisers("onpo", world.sampler)])
    wanted = [found.policy for found in world.minimisers("onpo", half)]
    assert np.exp(second.log_policy) == pytest.approx(np.array(wanted), abs=1e-6)


def test_kto_has_no_minimiser_but_a_corner(world: World) -> None:
    """Linear in σ, its loss falls for ever as one response takes all; network and table go to the same one."""
    held = replace(OBJECTIVES["kto"], name="kto, z = 0")
    wanted = world.minimisers(held, world.sampler, beta=1.0)
    assert max(np.ptp(np.log(np.maximum(found.policy, 1e-300))) for found in wanted) > 20
    trained = world.executor.fit(
        {"objective": {"name": "kto", "beta": 1.0}},
        Position(((world.current,),), (world.reference,)),
        0,
        world.rows,
    )
    assert trained.log_policy.argmax(-1).tolist() == [found.policy.argmax() for found in wanted]
    assert np.ptp(trained.log_policy, axis=-1).min() > 5


def test_a_weight_is_a_number_of_rows(world: World) -> None:
    """A row of weight 3 beside one of weight 1 trains as three rows beside one do, and 0 as none."""
    texts = [row(world.responses, 0, 0, 1), row(world.responses, 0, 1, 0), row(world.responses, 0, 2, 1)]
    weighed = [{**texts[0], "weight": 3.0}, {**texts[1], "weight": 1.0}, {**texts[2], "weight": 0.0}]
    position = Position(((world.current,),), (world.reference,))
    task = {"objective": {"name": "dpo", "beta": 1.0}}
    one = world.executor.fit(task, position, 0, weighed)
    other = world.executor.fit(task, position, 0, [texts[0]] * 3 + [texts[1]])
    gaps = [policy.log_policy[0, 0] - policy.log_policy[0, 1] for policy in (one, other)]
    start = world.reference.log_policy[0, 0] - world.reference.log_policy[0, 1]
    assert gaps == pytest.approx([start + np.log(3)] * 2, abs=1e-5)
    with pytest.raises(ValueError, match="the weights of the data are all 0"):
        world.executor.fit(task, position, 0, [{**entry, "weight": 0.0} for entry in texts])
    with pytest.raises(ValueError, match="'weight' is below 0: -1"):
        world.executor.fit(task, position, 0, [{**entry, "weight": -1.0} for entry in texts])
