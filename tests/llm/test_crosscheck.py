"""The table and the networks do the same; a rule that is changed in one of them alone is found out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mnpo.dynamics
import mnpo.llm.columns
import mnpo.llm.scores
import mnpo.llm.trainer
from mnpo import Game, Pairwise, UpdateRule, run, update
from mnpo.cli.crosscheck import ALL, cases_of
from mnpo.dynamics import Blend, Step
from mnpo.llm.anchors import CURRENT, REFERENCE, anchor_weights
from mnpo.llm.crosscheck import TOLERANCE, crosscheck
from mnpo.llm.estimators import Labels, limit
from mnpo.llm.executor import Executor, Position, row
from mnpo.llm.finite import NETWORKS, ResponseSet, make_network
from mnpo.llm.models import load_model
from mnpo.llm.positions import Case, Positions, distance
from mnpo.minimisers import Minimiser, labelled_pairs, minimiser
from mnpo.numerics import Array
from mnpo.objectives import OBJECTIVES
from mnpo.presets import make_rule
from support import random_matrix, random_policies


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cases(*rules: str, feedback: str = "exact", game: str | None = None) -> list[Case]:
    options = {"rules": rules, "game": game, "feedback": feedback, "eta": 1.0, "tau": 0.1, "seed": None}
    return cases_of(options)


# --- the networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_policy_is_the_models_own_distribution(kind: str, tmp_path: Path) -> None:
    """Sequence probabilities, multiplied up token by token from plain logits; what is not in the set is left over."""
    responses = ResponseSet(2, 6)
    wanted = random_policies(np.random.default_rng(0), 2, 6)
    executor = Executor(kind, responses, tmp_path)
    policy = executor.teach("taught", wanted)
    model = load_model(Path(policy.folder))
    lengths = {len(answer) for _, answer in responses.requests}
    assert lengths == {3, 4, 5, 6}
    found = []
    for prompt, answer in responses.requests:
        ids, total = list(prompt), 0.0
        for token in answer:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
            total += float(logits.log_softmax(-1)[token])
            ids.append(token)
        found.append(total)
    chances = np.exp(found).reshape(2, 6)
    assert policy.outside == pytest.approx(1 - chances.sum(1), abs=1e-6)
    assert np.exp(policy.log_policy) == pytest.approx(chances / chances.sum(1, keepdims=True), abs=1e-6)
    assert np.abs(np.exp(policy.log_policy) - wanted).max() < 0.03
    assert policy.outside.max() < (0.2 if kind == "gemma2" else 1e-6)


def test_free_logits_are_the_softmax(tmp_path: Path) -> None:
    """The distribution over whole responses is the softmax of the weights, whatever prefixes they share."""
    responses = ResponseSet(3, 7)
    policy = Executor("softmax", responses, tmp_path).teach("p", np.full((3, 7), 1 / 7))
    weights = load_model(Path(policy.folder)).model.network.weight.double().log_softmax(-1)
    assert policy.log_policy == pytest.approx(weights.detach().numpy(), abs=1e-6)


def test_what_networks_cannot_be_made_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 to 50 responses; found 1 and 51"):
        ResponseSet(1, 51)
    assert len(set(ResponseSet(1, 50).texts)) == 50
    with pytest.raises(ValueError, match="did you mean 'softmax'"):
        make_network("softmx", ResponseSet(1, 3), np.full((1, 3), 1 / 3), tmp_path / "x")
    with pytest.raises(ValueError, match=r"policy must have shape \(1, 3\); found \(1, 2\)"):
        make_network("softmax", ResponseSet(1, 3), np.full((1, 2), 0.5), tmp_path / "x")


# --- exact feedback -----------------------------------------------------------------------------------------------


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


def test_every_rule_in_one_step() -> None:
    """Free logits, trained by what trains language models, are the closed-form update, for every rule."""
    record = crosscheck(cases(*ALL), ["softmax"], steps=0)
    assert [entry["rule"] for entry in record["rows"]] == list(ALL)
    assert max(entry["tv"] for entry in record["rows"]) <= TOLERANCE["softmax"]
    assert record["disagreements"] == []


def test_rules_are_told_apart(tmp_path: Path) -> None:
    """From where the check begins, the steps of different rules are further apart than any tolerance of free logits."""
    rules = ("sppo", "inpo", "nash-md", "onpo", "egpo", "td-mnpo:players=3", "td-mnpo:players=4", "eo-mnpo")
    positions = Positions(Executor("softmax", ResponseSet(4, 3), tmp_path), 0)
    steps = [positions.scattered(case).table_step() for case in cases(*rules)]
    apart = [distance(one, other) for one, other in itertools.combinations(steps, 2)]
    assert min(apart) > 100 * TOLERANCE["softmax"]


def test_all_networks_agree() -> None:
    """A small form of docs/crosscheck.md: one step and two, on all networks."""
    record = crosscheck(cases("td-mnpo:players=3"), steps=2)
    assert {entry["policy"] for entry in record["rows"]} == set(NETWORKS)
    for entry in record["rows"]:
        assert entry["tv"] <= TOLERANCE[entry["policy"]]
        assert abs(entry["gap_network"] - entry["gap_table"]) <= max(0.1 * entry["gap_table"], 1e-3)
    assert record["disagreements"] == []


def test_a_rule_is_checked_alike_after_others() -> None:
    """The same rows, to the last bit, alone and after another rule: networks do not depend on what came before."""
    few = {"max_steps": 5}
    (_, after) = crosscheck(cases("onpo", "td-mnpo:players=4"), ["mlp"], steps=0, training=few)["rows"]
    (alone,) = crosscheck(cases("td-mnpo:players=4"), ["mlp"], steps=0, training=few)["rows"]
    assert {**after, "seconds": 0} == {**alone, "seconds": 0}
    assert alone["tv"] > 1e-4  # five steps leave something that weights can differ in


def test_players_of_group_oracles_and_refreshed_references() -> None:
    """A population of annotators with n = 3, and MPO, whose reference moves on."""
    population = cases("td-mnpo:players=3", game="annotators:responses=4,annotators=30")
    refreshed = cases("mpo:refresh=2")
    record = crosscheck([*population, *refreshed], ["softmax"], steps=4)
    assert record["disagreements"] == []
    assert all(max(curve["tv"]) < 1e-5 for curve in record["curves"])


@pytest.mark.slow
def test_gemma_after_twenty_steps() -> None:
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
    assert max(entry["tv"] for entry in record["rows"]) < TOLERANCE["gemma2"] / 2
    assert record["disagreements"] == []


# --- sampled feedback ---------------------------------------------------------------------------------------------


def test_labels_teach_what_they_should() -> None:
    """Every estimator's error falls as m^{−1/2} towards its own limit; of those that are biased it is another one."""
    record = crosscheck(
        cases("mwu:players=2", feedback="sampled", game="rps:contexts=8"),
        ["softmax"],
        steps=0,
        feedback="sampled",
        labels=(50, 800),
    )
    errors = {entry["estimator"]: entry for entry in record["errors"]}
    assert {name for name, entry in errors.items() if entry["unbiased"]} == {"third", "win-rate"}
    for entry in errors.values():
        assert entry["slope"] == pytest.approx(-0.5, abs=0.15)
        assert entry["progress"] == pytest.approx(1, abs=0.05)
        assert entry["agrees"]
        if entry["slope_table"] is not None:
            assert entry["slope_table"] == pytest.approx(-0.5, abs=0.15)
    for entry in record["rows"]:
        if entry["labels"] == 800 and entry["estimator"] in ("label", "best-worst"):
            assert (
                entry["tv"] > 2 * entry["tv_limit"]
            )  # it is on its way to the biased point, not to the update


def test_limits_are_what_many_labels_tend_to() -> None:
    """The limit of best against worst is the regression on a great many pairs, solved apart from networks."""
    rng = np.random.default_rng(5)
    game = Game(Pairwise(random_matrix(rng, 4)), tau=0.1)
    own, other = random_policies(rng, 2, 1, 4)
    parts = [(1.0, np.stack([own, other]))]
    responses = ResponseSet(1, 4)
    for name in ("label", "third", "win-rate", "best-worst"):
        lesson = Labels(name, 20_000, rng)
        rows = lesson(game, responses, 0, own, parts)
        normal, right = np.zeros((4, 4)), np.zeros(4)
        for entry in rows:
            pair = [responses.texts.index(entry[side]) for side in ("chosen", "rejected")]
            difference = np.eye(4)[pair[0]] - np.eye(4)[pair[1]]
            gap = entry["win_chosen"] - entry["win_rejected"] if "win_chosen" in entry else 0.5
            normal += entry["weight"] * np.outer(difference, difference)
            right += entry["weight"] * gap * difference
        solved = np.linalg.pinv(normal) @ right
        wanted = limit(name, game, 0, own, parts)[0]
        assert solved - solved.mean() == pytest.approx(wanted - wanted.mean(), abs=0.03)


# --- a rule changed in one executor only ----------------------------------------------------------------------------

Change = Callable[[pytest.MonkeyPatch], None]


def _doubled_target(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(UpdateRule, "target", lambda self, gap: 2 * self.eta * gap)


def _swapped_weights(patch: pytest.MonkeyPatch) -> None:
    def swapped(rule: Any, config: Any) -> dict[str, float]:
        weights = anchor_weights(rule, config)
        return weights | {REFERENCE: weights[CURRENT], CURRENT: weights[REFERENCE]}

    patch.setattr(mnpo.llm.columns, "anchor_weights", swapped)


def _forgotten_past(patch: pytest.MonkeyPatch) -> None:
    def forgotten(rule: Any, config: Any) -> dict[str, float]:
        weights = anchor_weights(rule, config)
        return {REFERENCE: weights[REFERENCE], CURRENT: 1 - weights[REFERENCE]}

    patch.setattr(mnpo.llm.columns, "anchor_weights", forgotten)


def _wrong_sign(patch: pytest.MonkeyPatch) -> None:
    right = mnpo.llm.columns._advantage_gap
    patch.setattr(mnpo.llm.columns, "_advantage_gap", lambda *given: -right(*given))


def _opponents_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mnpo.llm.columns, "anchor_weights", lambda rule, config: {REFERENCE: 1.0})


def _external_forgotten(patch: pytest.MonkeyPatch) -> None:
    def forgotten(rule: Any, config: Any) -> dict[str, float]:
        weights = anchor_weights(rule, config)
        return {REFERENCE: weights[REFERENCE] + weights.pop("external-1"), CURRENT: weights[CURRENT]}

    patch.setattr(mnpo.llm.columns, "anchor_weights", forgotten)


def _no_half_step(patch: pytest.MonkeyPatch) -> None:
    def current(self: Any, game: Any, rule: Any, position: Position, lesson: Any) -> Any:
        return [(1.0, np.exp(position.log_policies()))]

    patch.setattr(Executor, "parts", current)


def _no_end(patch: pytest.MonkeyPatch) -> None:
    """Scoring and training alike leave out the token that ends a response."""
    right = mnpo.llm.scores.padded

    def endless(requests: Any, *given: Any) -> Any:
        ids, attention, response = right(requests, *given)
        for place, (prompt, answer) in enumerate(requests):
            response[place, len(prompt) + len(answer) - 1] = 0
        return ids, attention, response

    for module in (mnpo.llm.scores, mnpo.llm.trainer):
        patch.setattr(module, "padded", endless)


def _table_doubled(patch: pytest.MonkeyPatch) -> None:
    right = Step.__init__

    def doubled(self: Any, *given: Any) -> None:
        right(self, *given)
        self._won = [(lag, 2 * weight) for lag, weight in self._won]

    patch.setattr(Step, "__init__", doubled)


def _table_sign(patch: pytest.MonkeyPatch) -> None:
    right = Step.__init__

    def turned(self: Any, *given: Any) -> None:
        right(self, *given)
        self._won = [(lag, -weight) for lag, weight in self._won]

    patch.setattr(Step, "__init__", turned)


def _table_lags(patch: pytest.MonkeyPatch) -> None:
    right = Blend.__init__

    def reversed_lags(self: Any, *given: Any) -> None:
        right(self, *given)
        self._own = [(1 - lag, 2 * weight if lag else 0 * weight) for lag, weight in self._own]

    patch.setattr(Blend, "__init__", reversed_lags)


CHANGES: dict[Change, str] = {
    **dict.fromkeys(
        (_doubled_target, _swapped_weights, _forgotten_past, _wrong_sign, _no_end), "td-mnpo:players=3"
    ),
    **dict.fromkeys((_table_doubled, _table_sign, _table_lags), "td-mnpo:players=3"),
    _opponents_forgotten: "mwu:players=2",
    _external_forgotten: "eo-mnpo",
    _no_half_step: "egpo",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_rule_changed_in_one_executor_is_caught(change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = cases(CHANGES[change], game="rps:contexts=2")
    change(monkeypatch)
    record = crosscheck(chosen, ["softmax"], steps=0)
    assert record["rows"][0]["tv"] > 100 * TOLERANCE["softmax"]
    assert record["disagreements"]


def test_a_wrong_constant_for_labels_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """η in place of η/2 leaves an error that labels do not mend."""
    monkeypatch.setattr(mnpo.llm.columns, "LABEL_GAP", 1.0)
    found = crosscheck(
        cases("inpo:eta=4", feedback="sampled", game="rps:contexts=8"), ["softmax"],
        steps=0, feedback="sampled", labels=(50, 1600),
    )  # fmt: skip
    wrong = {entry["estimator"] for entry in found["errors"] if not entry["agrees"]}
    assert wrong == {"label", "best-worst"}


# --- objectives ---------------------------------------------------------------------------------------------------

CONTEXTS, SIZE = 2, 3
#: Parameters that leave the minimiser within reach; defaults for all others.
PARAMETERS: dict[str, dict[str, float]] = {
    **{name: {"beta": 1.0} for name in OBJECTIVES if "beta" in OBJECTIVES[name].parameters},
    "simpo": {}, "ipo": {"tau": 1.0}, "r-dpo": {"beta": 1.0, "alpha": 0.1},
}  # fmt: skip
#: Losses with kinks are met by gradient descent no nearer than this.
NEAR = {True: 1e-6, False: 1e-3}


class World:
    """Two contexts with everything that an objective may ask for, and networks of free logits."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(1)
        self.responses = ResponseSet(CONTEXTS, SIZE)
        training = {"max_steps": 250, "optim": "adamw_torch", "learning_rate": 0.1, "adam_beta1": 0.8}
        self.executor = Executor("softmax", self.responses, folder, training | {"adam_beta2": 0.99})
        self.matrix = 0.3 + 0.4 * random_matrix(rng, SIZE, CONTEXTS)
        logits = 0.5 * rng.standard_normal((2, CONTEXTS, SIZE))
        policies = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        self.current, self.reference = (
            self.executor.teach(name, policy, seed)
            for seed, (name, policy) in enumerate(zip(("current", "reference"), policies, strict=True))
        )
        self.sampler = np.exp(self.current.log_policy)
        self.reward, self.gamma = rng.standard_normal((2, CONTEXTS, SIZE))
        self.lengths = np.array([len(answer) for _, answer in self.responses.requests[:SIZE]], dtype=float)
        self.seen = np.stack([labelled_pairs(*both) for both in zip(self.matrix, self.sampler, strict=True)])
        self.seen *= 1 - np.eye(SIZE)  # what is compared with itself teaches nothing
        wins = np.einsum("xyz,xz->xy", self.matrix, self.sampler)
        self.rows = [
            row(
                self.responses, x, y, z, weight=float(self.seen[x, y, z]),
                **{
                    f"{name}_{side}": float(values[x, place])
                    for name, values in (("reward", self.reward), ("gamma", self.gamma), ("win", wins))
                    for side, place in (("chosen", y), ("rejected", z))
                },
            )
            for x in range(CONTEXTS) for y in range(SIZE) for z in range(SIZE) if y != z
        ]  # fmt: skip

    def minimisers(self, name: Any, current: Array, **given: Any) -> list[Minimiser]:
        return [
            minimiser(
                name, self.matrix[x], self.sampler[x], reference=np.exp(self.reference.log_policy[x]),
                current=current[x], pairs=self.seen[x], rewards=self.reward[x], lengths=self.lengths,
                uncertainty=self.gamma[x], **{key: v[x] if key == "anchor" else v for key, v in given.items()},
            )
            for x in range(CONTEXTS)
        ]  # fmt: skip


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


def test_onpo_in_two_regressions(world: World) -> None:
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


# --- weights in the data --------------------------------------------------------------------------------------------


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


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnpo.cli.main import app, main
    from mnpo.sim.plots import redraw

    out = tmp_path / "run"
    arguments = [
        "crosscheck",
        "inpo",
        "--policy",
        "softmax",
        "--game",
        "rps:contexts=2",
        "--steps",
        "2",
        "--json",
    ]
    app([*arguments, "--out", str(out)], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert [entry["steps"] for entry in rows] == [1, 2]
    assert {"rule", "policy", "feedback", "steps", "tv", "gap_table", "gap_network"} <= set(rows[0])
    assert (out / "gaps.png").is_file()
    assert json.loads((out / "results.json").read_text())["rows"] == rows
    (out / "gaps.svg").unlink()
    assert out / "gaps.svg" in redraw(out)
    wrong = {
        "inpoo": "did you mean 'inpo'?",
        "inpo:players": "a rule's options are written key=value; found 'players'",
        "inpo:anchor=own": "unknown option of rule inpo 'anchor'",
        "inpo:eta=[": "inpo:eta must be a number; found '['",
        "inpo:eta=1,eta=2": "option 'eta' of rule inpo is given twice",
        "inpo --policy gpt": "unknown network 'gpt'",
        "inpo --feedback none": "unknown kind of feedback 'none'",
        "inpo --seed -1": "seed must be at least 0; found -1",
        "inpo --feedback sampled --labels 100": "labels must be at least two different numbers above 0",
        "td-mnpo --game annotators --feedback sampled": "annotators: sampled feedback needs pairwise payoffs",
        "inpo --game random:responses=51": "2 to 50 responses; found 1 and 51",
        "inpo --game committee --tau 0.1 --eta 11": "eta",
        "regret-matching-plus": "not of the form that a network can be trained by",
    }
    for rule, message in wrong.items():
        monkeypatch.setattr("sys.argv", ["mnpo", "crosscheck", *rule.split(), "--out", str(tmp_path / "bad")])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "bad").exists()
    monkeypatch.setattr(UpdateRule, "target", lambda self, gap: 2 * self.eta * gap)
    monkeypatch.setattr("sys.argv", ["mnpo", *arguments[:-3], "--steps", "0", "--out", str(tmp_path / "off")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert "table and network disagree: inpo on softmax" in capsys.readouterr().err
    assert (tmp_path / "off/results.json").is_file()
