"""Objectives against TRL's own trainers: the same batch, the same models, the loss and its gradient."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn

from mnpo.llm.data import made
from mnpo.llm.models import tiny
from mnpo.llm.models.loading import load_model, load_tokenizer
from mnpo.llm.training.logprobs import attach, sequence_log_probs
from mnpo.llm.training.losses import pair_losses
from mnpo.objectives import Pairs, objective

trl = pytest.importorskip("trl")

# TRL's arguments and trainers call what transformers has given another name.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

PAIRS = 4
BETA = 0.3
#: A gap of rewards, and the probability of a label against it.
GAP = 0.6
FLIPPED = 1 / (1 + math.exp(GAP))
REWARDS = {"reward_w": GAP, "reward_l": 0.0}
NOTHING: Mapping[str, float] = {}


class Setting(NamedTuple):
    """TRL's models, copies of them that return our log-probabilities, and what both are trained on."""

    policy: nn.Module
    reference: nn.Module
    our_policy: nn.Module
    our_reference: nn.Module
    tokenizer: Any
    pairs: Dataset
    folder: Path


class Batch(NamedTuple):
    """Log-probabilities and lengths of a batch's responses, preferred ones first."""

    policy: Tensor
    reference: Tensor
    length: Tensor


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second one only costs time at this size
    folder = tmp_path_factory.mktemp("trl")
    names = [tiny.build(f"tiny:gemma2:{seed}", folder) for seed in (2, 1)]
    policy, reference = (load_model(name) for name in names)
    copies = [copy.deepcopy(model) for model in (policy, reference)]
    for model in copies:
        attach(model)
    rows = [row for row in made.pairs(20, seed=1) if row["chosen"] != row["rejected"]][:PAIRS]
    pairs = Dataset.from_list([{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows])
    yield Setting(policy, reference, *copies, load_tokenizer(names[0]), pairs, folder)
    torch.set_num_threads(threads)


def trainer_and_batch(kind: str, setting: Setting, **options: Any) -> tuple[Any, dict[str, Tensor]]:
    """TRL's trainer, and its only batch: all pairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL's, that these trainers are experimental
        from trl.experimental import cpo, orpo
    module = {"CPO": cpo, "ORPO": orpo}.get(kind, trl)
    arguments = getattr(module, f"{kind}Config")(
        output_dir=str(setting.folder / "out"),
        per_device_train_batch_size=2 * PAIRS if kind == "KTO" else PAIRS,
        max_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        remove_unused_columns=kind in ("DPO", "KTO"),
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    models = {"model": copy.deepcopy(setting.policy)}
    if kind in ("DPO", "KTO"):
        models["ref_model"] = copy.deepcopy(setting.reference)
    trainer = getattr(module, f"{kind}Trainer")(
        **models, args=arguments, train_dataset=setting.pairs, processing_class=setting.tokenizer
    )
    return trainer, next(iter(trainer.get_train_dataloader()))


def sequences(trainer: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and response mask of TRL's batch, preferred responses first."""
    if "completion_mask" in inputs:
        return inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"]
    both = trainer.concatenated_inputs(inputs, padding_value=trainer.processing_class.pad_token_id)
    response = both["concatenated_labels"] != -100
    return both["concatenated_input_ids"], both["concatenated_attention_mask"], response.long()


def scored(setting: Setting, ids: Tensor, attention: Tensor, response: Tensor) -> Batch:
    with torch.no_grad():
        reference = sequence_log_probs(setting.our_reference, ids, attention, response).double()
    policy = sequence_log_probs(setting.our_policy, ids, attention, response).double()
    return Batch(policy, reference, response.sum(1).double())


def agree(trainer: Any, expected: Tensor, setting: Setting, found: Tensor, elsewhere: Tensor) -> None:
    """The loss and its gradient are equal, and the loss is another one where the policy is the reference."""
    assert abs(float((found - elsewhere).detach())) > 1e-3 * max(1, abs(float(elsewhere)))
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-5)
    slopes = torch.autograd.grad(expected, list(trainer.model.parameters()))
    ours = torch.autograd.grad(found, list(setting.our_policy.parameters()))
    largest = max(float(slope.abs().max()) for slope in slopes)
    assert largest > 1e-3
    for slope, our in zip(slopes, ours, strict=True):
        assert float((slope - our).abs().max()) <= 1e-5 * largest


def mean_loss(
    name: str, batch: Batch, parameters: dict[str, float], preference: float | None = None, **fields: Any
) -> Tensor:
    """Our loss of a batch, with the reference in the place of π_t and of the update rule's anchors as well."""
    (policy_w, policy_l), (reference_w, reference_l), (length_w, length_l) = (x.chunk(2) for x in batch)
    pairs = Pairs(
        policy_w=policy_w, policy_l=policy_l, reference_w=reference_w, reference_l=reference_l,
        current_w=reference_w, current_l=reference_l, anchor=reference_w - reference_l,
        length_w=length_w, length_l=length_l, **fields,
    )  # fmt: skip
    weight = None if preference is None else torch.tensor(preference, dtype=torch.float64)
    return pair_losses(objective(name), parameters, pairs, weight).mean()


Ours = Callable[[Batch], Tensor]


def doubles(fields: Mapping[str, float]) -> dict[str, Tensor]:
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in fields.items()}


def summed(
    name: str, fields: Mapping[str, float] = NOTHING, *, preference: float | None = None, **parameters: float
) -> Ours:
    return lambda batch: mean_loss(name, batch, parameters, preference, **doubles(fields))


def averaged(name: str, fields: Mapping[str, float] = NOTHING, **parameters: float) -> Ours:
    """With log-probabilities divided by the response's length, as TRL has them in IPO."""

    def ours(batch: Batch) -> Tensor:
        means = Batch(batch.policy / batch.length, batch.reference / batch.length, batch.length)
        return mean_loss(name, means, parameters, **doubles(fields))

    return ours


def cross_entropy(ours: Ours) -> Ours:
    """A divergence from a label, with that label's entropy and, as TRL has it in CPO, without a reference."""
    entropy = -FLIPPED * math.log(FLIPPED) - (1 - FLIPPED) * math.log(1 - FLIPPED)
    return lambda batch: entropy + ours(batch._replace(reference=torch.zeros_like(batch.reference)))


def with_likelihood(name: str, weight: float, scale: float = 1.0, **parameters: float) -> Ours:
    """With −log π(y_w) averaged over all tokens of the batch, as TRL has it, not summed over each response."""

    def ours(batch: Batch) -> Tensor:
        tokens = float(batch.length[:PAIRS].sum()) / PAIRS
        return scale * mean_loss(name, batch, {**parameters, "weight": weight / tokens / scale})

    return ours


def dpo(loss_type: str, ours: Ours, **options: Any) -> tuple[str, dict[str, Any], Ours]:
    return "DPO", {"beta": BETA, "loss_type": [loss_type], **options}, ours


def cpo(
    loss_type: str, ours: Ours, cpo_alpha: float = 0.0, **options: Any
) -> tuple[str, dict[str, Any], Ours]:
    return "CPO", {"beta": BETA, "loss_type": loss_type, "cpo_alpha": cpo_alpha, **options}, ours


CASES: dict[str, tuple[str, dict[str, Any], Ours]] = {
    "dpo": dpo("sigmoid", summed("dpo", beta=BETA)),
    "dno-prct": dpo("sigmoid", summed("dno-prct", beta=BETA)),
    "spin": dpo("sigmoid", summed("spin", beta=BETA)),
    # Robust DPO is DPO with a soft label, which may lie beyond 1.
    "dpo-soft-label": dpo(
        "robust", summed("dpo", beta=BETA, preference=(1 - FLIPPED) / (1 - 2 * FLIPPED)), label_smoothing=FLIPPED
    ),
    # f' may have any constant added; TRL's α is 1 − ours.
    "f-dpo-reverse-kl": dpo("sigmoid", summed("f-dpo-reverse-kl", beta=BETA)),
    "f-dpo-forward-kl": dpo("sigmoid", summed("f-dpo-forward-kl", beta=BETA), f_divergence_type="forward_kl"),
    "f-dpo-js": dpo("sigmoid", summed("f-dpo-js", beta=BETA), f_divergence_type="js_divergence"),
    "f-dpo-alpha": dpo(
        "sigmoid", summed("f-dpo-alpha", beta=BETA, alpha=0.3),
        f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.7,
    ),
    # TRL's β is τ in IPO.
    "ipo": dpo("ipo", averaged("ipo", tau=BETA)),
    "mnpo": dpo("ipo", averaged("mnpo", {"target": 1 / (2 * BETA)})),
    "inpo": dpo("ipo", averaged("inpo", eta=1 / BETA, tau=0.1)),
    "onpo": dpo("ipo", averaged("onpo", eta=1 / BETA)),
    "distill-dpo": dpo("ipo", averaged("distill-dpo", REWARDS), beta=1 / (2 * GAP)),
    "rpo-sq": dpo("ipo", averaged("rpo-sq", REWARDS, beta=1.0), beta=1 / (2 * GAP)),
    # TRL has win rates of 1 and 0, and 1/β for η.
    "sppo": dpo("sppo_hard", summed("sppo", {"win_w": 1.0, "win_l": 0.0}, eta=1 / BETA)),
    # NCA is MIO at β = 1.
    "mio": dpo("nca_pair", summed("mio"), beta=1.0),
    # EXO is RPO's D_fwd to the log-odds of a label.
    "rpo-fwd": dpo("exo_pair", summed("rpo-fwd", REWARDS, beta=BETA), label_smoothing=FLIPPED),
    "mnpo-fwd": dpo("exo_pair", summed("mnpo-fwd", {"target": GAP}), label_smoothing=FLIPPED, beta=1.0),
    # TRL has the cross-entropy to a smoothed label in CPO only; D_bwd to its log-odds is that, less its entropy.
    "cpo-soft-label": cpo(
        "sigmoid", summed("cpo", beta=BETA, weight=0.0, preference=1 - FLIPPED), label_smoothing=FLIPPED
    ),
    "rpo": cpo("sigmoid", cross_entropy(summed("rpo", REWARDS, beta=BETA)), label_smoothing=FLIPPED),
    "mnpo-bwd": cpo(
        "sigmoid", cross_entropy(summed("mnpo-bwd", {"target": GAP})), label_smoothing=FLIPPED, beta=1.0
    ),
    "cpo": cpo("sigmoid", with_likelihood("cpo", 0.7, beta=BETA), cpo_alpha=0.7),
    "simpo": cpo("simpo", summed("simpo", beta=BETA, gamma=0.4), simpo_gamma=0.4),
    # max(0, 1 − βΔ) is β max(0, 1/β − Δ).
    "slic-hf": cpo("hinge", with_likelihood("slic-hf", 0.7, BETA, delta=1 / BETA), cpo_alpha=0.7),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_dpo_and_cpo_trainers(setting: Setting, name: str) -> None:
    kind, options, ours = CASES[name]
    trainer, inputs = trainer_and_batch(kind, setting, **options)
    batch = scored(setting, *sequences(trainer, inputs))
    elsewhere = ours(batch._replace(policy=batch.reference))
    agree(trainer, trainer.compute_loss(trainer.model, inputs), setting, ours(batch), elsewhere)


def test_loss_and_gradient_are_those_of_the_kto_trainer(setting: Setting) -> None:
    """TRL takes the mean over responses, not the sum over both of a pair."""
    weights = {"desirable_weight": 1.3, "undesirable_weight": 0.8}
    trainer, inputs = trainer_and_batch("KTO", setting, beta=BETA, loss_type="kto", **weights)
    preferred_first = torch.argsort(inputs["label"].int(), descending=True, stable=True)
    assert inputs["label"].sum() == PAIRS
    batch = scored(setting, *(tensor[preferred_first] for tensor in sequences(trainer, inputs)))
    others = scored(
        setting, *(inputs[f"KL_{name}"] for name in ("input_ids", "attention_mask", "completion_mask"))
    )
    kl = (others.policy - others.reference).mean().detach()
    assert kl > 0.1

    def ours(batch: Batch) -> Tensor:
        return mean_loss("kto", batch, {"beta": BETA, "weight_w": 1.3, "weight_l": 0.8}, kl=kl) / 2

    elsewhere = ours(batch._replace(policy=batch.reference))
    agree(trainer, trainer.compute_loss(trainer.model, inputs), setting, ours(batch), elsewhere)


def test_loss_and_gradient_are_those_of_the_orpo_trainer(setting: Setting) -> None:
    """TRL's likelihood is that of prompt and preferred response, averaged over all tokens of the batch."""
    trainer, inputs = trainer_and_batch("ORPO", setting, beta=0.4)
    ids, attention, response = sequences(trainer, inputs)
    batch = scored(setting, ids, attention, response)
    whole = attention.clone()
    whole[:, 0] = 0
    likelihood = scored(setting, ids[:PAIRS], attention[:PAIRS], whole[:PAIRS])

    def ours(batch: Batch, likelihood: Tensor) -> Tensor:
        odds = mean_loss("orpo", batch, {"weight": 0.4}) - mean_loss("orpo", batch, {"weight": 0.0})
        return odds - likelihood.sum() / whole[:PAIRS].sum()

    found = ours(batch, likelihood.policy)
    elsewhere = ours(batch._replace(policy=batch.reference), likelihood.reference)
    agree(trainer, trainer.compute_loss(trainer.model, inputs), setting, found, elsewhere)
