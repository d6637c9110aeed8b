"""`PairTrainer` as a notebook uses it: texts and models in, and every anchor that is missing called by its name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import TrainingArguments

import mnpo
from mnpo.llm import PairTrainer
from mnpo.llm.data import made
from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.formats import as_row
from mnpo.llm.models import tiny
from mnpo.llm.models.loading import load_model, load_tokenizer
from mnpo.llm.training.collator import Collator
from mnpo.objectives import objective

SIZE = 4
SIDES = ("chosen", "rejected")


class World(NamedTuple):
    """A small model and two others, their folders and tokenizer, and pairs of texts and of messages."""

    folders: list[Path]
    models: list[nn.Module]
    tokenizer: Any
    texts: list[dict[str, Any]]
    talks: list[dict[str, Any]]

    @property
    def policy(self) -> nn.Module:
        return load_model(self.folders[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("models")
    folders = [tiny.build(f"tiny:gpt2:{seed}", home) for seed in range(3)]
    rows = [row for row in made.pairs(20) if row["chosen"] != row["rejected"]][:SIZE]
    talks = [{name: row[name] for name in ("prompt", *SIDES)} for row in rows]
    texts = [{name: row[name][0]["content"] for name in ("prompt", *SIDES)} for row in rows]
    return World(folders, [load_model(f) for f in folders], load_tokenizer(folders[0]), texts, talks)


def trainer_of(world: World, folder: Path, data: Any = None, **given: Any) -> PairTrainer:
    arguments = TrainingArguments(
        output_dir=str(folder / "out"), use_cpu=True, per_device_train_batch_size=SIZE, report_to="none",
        max_steps=2, save_strategy="no", logging_steps=1, disable_tqdm=True, learning_rate=1e-3,
    )  # fmt: skip
    given = {"model": world.policy, "processing_class": world.tokenizer, **given}
    return PairTrainer(args=arguments, train_dataset=world.talks if data is None else data, **given)


def loss_of(trainer: PairTrainer) -> float:
    """The loss of all pairs, before any training."""
    (inputs,) = trainer.get_train_dataloader()
    return float(trainer.compute_loss(trainer.model, inputs).detach())


def plainly(world: World, rows: list[dict[str, Any]], model: nn.Module) -> Tensor:
    """log π of both responses of every pair, token by token from all logits: (pairs, 2)."""
    encoder = Encoder(world.tokenizer)
    found = []
    for number, raw in enumerate(rows, start=1):
        row = as_row(number, raw)
        for side in (row.chosen, row.rejected):
            both = encoder.encode(row.prompt, side)
            ids = torch.tensor([[*both.prompt, *both.response]])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
            tokens = logits.gather(-1, ids[0, 1:, None])[:, 0]
            found.append(tokens[len(both.prompt) - 1 :].sum())
    return torch.stack(found).reshape(-1, 2)


def gaps(world: World, rows: list[dict[str, Any]], *places: int) -> list[Tensor]:
    """Δ of models, (pairs,) each."""
    found = [plainly(world, rows, world.models[place]) for place in places]
    return [values[:, 0] - values[:, 1] for values in found]


def dpo(world: World, rows: list[dict[str, Any]]) -> float:
    policy, reference = gaps(world, rows, 0, 1)
    return float(-torch.nn.functional.logsigmoid(0.1 * (policy - reference)).mean())


def refusal(world: World, folder: Path, **given: Any) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        trainer_of(world, folder, **given)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_dpo_against_a_reference_however_it_is_given(world: World, tmp_path: Path) -> None:
    """A model, its folder, its name, or columns that are there already: one loss, that of the formula."""
    expected = dpo(world, world.talks)
    for reference in (world.models[1], world.folders[1], str(world.folders[1])):
        trainer = trainer_of(world, tmp_path, objective="dpo", anchors={"reference": reference})
        assert loss_of(trainer) == pytest.approx(expected, rel=1e-5)
    known = plainly(world, world.talks, world.models[1]).tolist()
    columns = [
        {**row, "reference_chosen": best, "reference_rejected": worst}
        for row, (best, worst) in zip(world.talks, known, strict=True)
    ]
    for data in (columns, Dataset.from_list(columns)):
        assert loss_of(trainer_of(world, tmp_path, data, objective="dpo")) == pytest.approx(
            expected, rel=1e-5
        )
    assert expected != pytest.approx(math.log(2), rel=1e-3), "the reference is the policy"


def test_texts_and_conversations_are_encoded_as_they_are(world: World, tmp_path: Path) -> None:
    found = {}
    for name, rows in (("texts", world.texts), ("talks", world.talks)):
        anchors = {"reference": world.models[1]}
        for data in (rows, Dataset.from_list(rows)):
            trainer = trainer_of(world, tmp_path, data, objective="dpo", anchors=anchors)
            found[name] = loss_of(trainer)
            assert found[name] == pytest.approx(dpo(world, rows), rel=1e-5)
    assert found["texts"] != pytest.approx(found["talks"], rel=1e-4)


def test_a_missing_anchor_is_refused_by_name(world: World, tmp_path: Path) -> None:
    message = refusal(world, tmp_path, objective="dpo")
    assert message.startswith("objective dpo needs log-probabilities of the anchor reference")
    assert "reference_chosen" in message
    message = refusal(world, tmp_path, objective="dpo", anchors={"current": world.models[1]})
    assert "the anchor reference" in message
    message = refusal(world, tmp_path, objective="onpo", anchors={"reference": world.models[1]})
    assert "the anchor current" in message
    message = refusal(world, tmp_path, objective="sppo", anchors={"current": world.models[1]})
    assert message == "objective sppo needs the columns win_chosen and win_rejected, which the data lack"


def test_a_rules_anchor_that_is_missing_is_refused_by_name(world: World, tmp_path: Path) -> None:
    rule = mnpo.td_mnpo(eta=1.0, tau=0.1, players=3)
    reference = {"reference": world.models[1]}
    assert (
        refusal(world, tmp_path, rule=rule, anchors=reference) == "rule td-mnpo needs the anchor current, π_t"
    )
    message = refusal(world, tmp_path, rule=rule, anchors={"current": world.models[1]})
    assert message == "rule td-mnpo needs the anchor reference, π_ref"
    message = refusal(world, tmp_path, rule=mnpo.ht_mnpo(eta=1.0, tau=0.1), anchors=reference)
    assert message == "rule ht-mnpo needs the other players' policies: opponent_models=[..]"
    eo = mnpo.eo_mnpo(eta=1.0, tau=0.1, external_tau=[0.2])
    message = refusal(world, tmp_path, rule=eo, anchors={**reference, "current": world.models[0]})
    assert message.startswith("rule eo-mnpo needs 1 external_models")


def test_a_rule_is_regressed_on_against_its_anchors(world: World, tmp_path: Path) -> None:
    """INPO: (Δ(π_θ) − λ_ref Δ(π_ref) − (1 − λ_ref) Δ(π_t) − η/2)², λ_ref = ητ."""
    eta, tau = 2.0, 0.1
    anchors = {"reference": world.models[1], "current": world.models[2]}
    trainer = trainer_of(world, tmp_path, rule=mnpo.inpo(eta=eta, tau=tau), anchors=anchors)
    policy, reference, current = gaps(world, world.talks, 0, 1, 2)
    share = eta * tau
    expected = ((policy - share * reference - (1 - share) * current - eta / 2) ** 2).mean()
    assert loss_of(trainer) == pytest.approx(float(expected), rel=1e-5)
    by_name = trainer_of(
        world, tmp_path, objective="inpo", parameters={"eta": eta, "tau": tau}, anchors=anchors
    )
    assert loss_of(by_name) == pytest.approx(float(expected), rel=1e-5)


def test_td_mnpo_looks_back_as_far_as_there_are_models(world: World, tmp_path: Path) -> None:
    rule = mnpo.td_mnpo(eta=2.0, tau=0.1, players=3)
    anchors = {"reference": world.models[1], "current": world.models[2], "past-1": world.models[0]}
    policy, reference, current = gaps(world, world.talks, 0, 1, 2)
    for given, past in ((anchors, policy), ({k: anchors[k] for k in ("reference", "current")}, current)):
        expected = ((policy - 0.2 * reference - 0.4 * current - 0.4 * past - 1.0) ** 2).mean()
        trainer = trainer_of(world, tmp_path, rule=rule, anchors=given)
        assert loss_of(trainer) == pytest.approx(float(expected), rel=1e-5)


def test_simpo_needs_no_anchor_and_trains(world: World, tmp_path: Path) -> None:
    trainer = trainer_of(world, tmp_path, objective="simpo")
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2
    assert logged[1]["loss"] < logged[0]["loss"]
    assert not {"kl", "margin", "accuracy"} & set(logged[0]), "without a reference there are none"
    assert {"logps/chosen", "logps/rejected", "length"} <= set(logged[0])


def test_anchors_stay_as_they_were(world: World, tmp_path: Path) -> None:
    """Scoring changes neither what a model answers nor how it is set; only the policy is trained."""
    reference = world.models[1]
    before = {name: weight.clone() for name, weight in reference.named_parameters()}
    reference.train()
    trainer = trainer_of(world, tmp_path, objective="dpo", anchors={"reference": reference})
    assert reference.training
    assert "forward" not in reference.__dict__
    reference.eval()
    start = loss_of(trainer)
    trainer.train()
    assert loss_of(trainer) < start
    assert all(torch.equal(before[name], weight) for name, weight in reference.named_parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give an objective, such as objective='dpo', or a rule"),
        ({"objective": "dpoo"}, "unknown objective 'dpoo'; did you mean 'dpo'?"),
        ({"objective": "dpo", "parameters": {"betta": 1.0}}, "did you mean 'beta'?"),
        ({"objective": "dpo", "rule": mnpo.inpo(eta=1.0, tau=0.1)}, "objective dpo takes no rule"),
        ({"objective": "mnpo"}, "objective mnpo needs a rule"),
        ({"rule": mnpo.onpo(eta=1.0, tau=0.1)}, "give target=win-rate"),
        ({"rule": mnpo.inpo(eta=1.0, tau=0.1), "target": "labels"}, "unknown target 'labels'; did you mean 'label'?"),
        ({"objective": "dpo", "anchors": {"reference": 3}}, "anchor reference must be a model, or its folder or name"),
        ({"objective": "dpo", "anchors": {"reference": "./nowhere"}}, "model ./nowhere: no such folder"),
        ({"objective": "dpo", "processing_class": None}, "processing_class is missing"),
        ({"objective": "simpo", "data": [{"prompt": "a", "chosen": "b"}]}, "no row of the data can be used"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_line(
    given: dict[str, Any], message: str, world: World, tmp_path: Path
) -> None:
    assert message in refusal(world, tmp_path, **given)


def test_what_is_given_twice_or_not_at_all_is_named(world: World, tmp_path: Path) -> None:
    known = [{**row, "reference_chosen": -1.0, "reference_rejected": -2.0} for row in world.talks]
    message = refusal(world, tmp_path, data=known, objective="dpo", anchors={"reference": world.models[1]})
    assert message == "anchor reference is given twice: as a model, and as columns of the data"
    message = refusal(world, tmp_path, data=known, objective="kto")
    assert message.startswith("objective kto needs the column reference_kl")
    with pytest.raises(ValueError, match=r"^train_dataset is missing: the preference pairs to train on$"):
        PairTrainer(world.policy, processing_class=world.tokenizer, objective="simpo")
    eo = mnpo.eo_mnpo(eta=1.0, tau=0.1, external_tau=[0.2])
    anchors = {"reference": world.models[1], "current": world.models[0], "external-1": world.models[2]}
    message = refusal(world, tmp_path, rule=eo, anchors=anchors)
    assert message == "anchor external-1 has a tokenizer of its own: give (model, tokenizer)"
    given = {**anchors, "external-1": (world.models[2], world.tokenizer)}
    assert loss_of(trainer_of(world, tmp_path, rule=eo, anchors=given)) > 0


def test_numbers_keep_their_precision(world: World, tmp_path: Path) -> None:
    """DeepSpeed's Trainer rounds what it is given to the weights' precision; log-probabilities are spared."""
    trainer = trainer_of(
        world, tmp_path, objective=objective("dpo"), parameters={}, anchors={"reference": world.models[1]},
        data_collator=Collator(0, ("anchor",)),
    )  # fmt: skip
    trainer.is_deepspeed_enabled = True
    number = torch.tensor([-300.123456789], dtype=torch.float64)
    prepared = trainer._prepare_inputs({"anchor": number})["anchor"]
    assert prepared.dtype == torch.float64
    assert torch.equal(prepared, number)


def test_a_policy_by_its_folder_brings_its_tokenizer(world: World, tmp_path: Path) -> None:
    trainer = trainer_of(
        world, tmp_path, model=str(world.folders[0]), processing_class=None, objective="dpo",
        anchors={"reference": world.models[1]},
    )  # fmt: skip
    assert loss_of(trainer) == pytest.approx(dpo(world, world.talks), rel=1e-5)


def test_a_fit_is_the_same_however_its_rows_lie(world: World, tmp_path: Path) -> None:
    """Prompts shared or apart, rows padded or packed, with KTO's further responses: one loss, one training."""
    found = []
    for share, packing in ((True, False), (False, False), (True, True), (False, True)):
        policy = world.policy.eval()
        trainer = trainer_of(
            world, tmp_path, model=policy, objective="kto", anchors={"reference": world.models[1]},
            share_prompts=share, packing=packing,
        )  # fmt: skip
        for module in policy.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        weights = torch.cat([weight.detach().flatten() for weight in policy.parameters()])
        found.append((losses, weights))
    for losses, weights in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-5)
        torch.testing.assert_close(weights, found[0][1], rtol=1e-4, atol=1e-4)


def test_pairs_beyond_the_models_positions_are_refused(world: World, tmp_path: Path) -> None:
    """Before they are an index out of range in the middle of a fit."""
    with pytest.raises(ValueError, match=r"the policy has 1024 positions, and texts have up to \d+ tokens"):
        trainer_of(world, tmp_path, [{"prompt": "a", "chosen": "b " * 1500, "rejected": "c"}], max_length=2000,
                   objective="simpo")  # fmt: skip
