"""A transformers Trainer whose loss is a preference objective of `mnpo.objectives`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import TrainingArguments

from mnpo.llm.models.loading import find, load_model, load_tokenizer
from mnpo.llm.models.weights import check_positions
from mnpo.llm.training import grouping
from mnpo.llm.training.collator import Collator, Rows, batch_in
from mnpo.llm.training.logprobs import attach, log_probs_of
from mnpo.llm.training.losses import pair_losses
from mnpo.llm.training.preparing import Lengths, padding_of, prepare
from mnpo.llm.training.resumable import ResumableTrainer
from mnpo.llm.training.tasks import Task, task_of
from mnpo.objectives import Objective, Pairs
from mnpo.rules import UpdateRule


class PairTrainer(ResumableTrainer):
    """Minimises a preference objective over pairs; anchors are columns, so no other model is in memory.

    Logged besides transformers' own: margin (h against the reference), accuracy (how often it is above 0, ties
    half), logps of both responses, kl (the mean of log π_θ/π_ref over the batch's responses: an estimate of
    KL(π_θ ‖ π_ref) as far as they are drawn from π_θ), length in tokens, tokens_per_second, peak_memory_gb.
    Without log-probabilities of the reference, which not every objective needs, margin, accuracy and kl are not.

    Args:
        model: a causal model of transformers, or the folder or name of one.
        args: transformers' TrainingArguments.
        train_dataset, eval_dataset: preference pairs in any format of docs/reference/data.md, or encoded ones
            (`mnpo.llm.data.schema.SCORED`).
        processing_class: the policy's tokenizer; that of `model`, where that is a folder or name, unless given.
        objective: a name of `mnpo.objectives.OBJECTIVES`, or one of them; "mnpo" with a `rule` unless given.
        parameters: the objective's; its defaults unless given.
        rule: an update rule, such as `mnpo.td_mnpo(eta=1.0, tau=0.1)`, for the MNPO objectives.
        target: what h is regressed on with a rule: "label", "win-rate", "reward" or "margin".
        task: all four of these in one.
        anchors: name -> model, its folder, or both with a tokenizer for external ones: "reference", "current",
            "past-1", "opponent-1", "external-1", .. They are scored once, before training; those whose
            log-probabilities are columns of the data (reference_chosen, reference_rejected, ..) need no model.
        max_length, max_prompt_length: in tokens; longer prompts lose their beginning, longer responses their end.
        logprob_chunk: response positions whose logits are held at once; from a memory budget unless given.
        share_prompts: whether a pair's prompt is computed once for both responses; where the model allows it unless
            given.
        packing: whether a batch is one row without padding.
        kwargs: Trainer's.

    Raises:
        ValueError: an anchor, a column or a rule that the objective needs and that is not given, by name; bad data.
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        *,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        objective: str | Objective | None = None,
        parameters: Mapping[str, float] | None = None,
        rule: UpdateRule | None = None,
        target: str = "label",
        task: Task | None = None,
        anchors: Mapping[str, Any] | None = None,
        max_length: int = 2048,
        max_prompt_length: int | None = None,
        logprob_chunk: int | None = None,
        share_prompts: bool | None = None,
        packing: bool = False,
        **kwargs: Any,
    ) -> None:
        if task is None:
            task = task_of(objective, parameters, rule, target)
        if isinstance(model, str | Path):
            folder = find(str(model))
            model = load_model(folder)
            processing_class = processing_class or load_tokenizer(folder)
        args = args or TrainingArguments()
        args.remove_unused_columns = False
        self._rows = Rows() if model is None else Rows.of(model, share_prompts, packing)
        lengths = Lengths(max_length, max_prompt_length or max_length - max(1, max_length // 4))
        prepared = {
            split: prepare(
                data, task, processing_class, anchors or {}, lengths, lambda: args.device, share_prompts
            )
            for split, data in (("train", train_dataset), ("eval", eval_dataset))
            if data is not None
        }
        if not prepared:
            raise ValueError("train_dataset is missing: the preference pairs to train on")
        fields = next(iter(prepared.values())).fields
        kwargs.setdefault(
            "data_collator",
            Collator(
                padding_of(processing_class),
                fields,
                [estimate.name for estimate in task.estimated],
                self._rows,
            ),
        )
        super().__init__(
            model=model,
            args=args,
            train_dataset=prepared["train"].data if "train" in prepared else None,
            eval_dataset=prepared["eval"].data if "eval" in prepared else None,
            processing_class=processing_class,
            **kwargs,
        )
        for split in prepared.values():
            longest = grouping.lengths_of(split.data, shared=False).max(initial=0)
            check_positions(self.model.config, int(longest), "the policy")
        self._task = task
        attach(self.model, chunk=logprob_chunk, synchronise=self.is_deepspeed_enabled or self.is_fsdp_enabled)

    def _lengths(self, data: Dataset) -> grouping.Lengths:
        return grouping.lengths_of(data, shared=self._rows.shared)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the mean loss of a batch of pairs, weighted where the data say how much a pair counts."""
        logps = log_probs_of(model, batch_in(inputs)).double()
        policy_w, policy_l = logps.view(-1, 2).unbind(1)
        length_w, length_l = inputs["lengths"].double().view(-1, 2).unbind(1)
        fields = {k: v for k, v in inputs.items() if k in Pairs.__dataclass_fields__}
        for estimate in self._task.estimated:
            fields[estimate.name] = estimate.value(self._mean_ratio(model, inputs, estimate.name))
        pairs = Pairs(
            policy_w=policy_w,
            policy_l=policy_l,
            length_w=length_w,
            length_l=length_l,
            **fields,
        )
        losses = pair_losses(self._task.objective, self._task.parameters, pairs, inputs.get("preference"))
        self._stop_if_not_finite(losses.detach(), inputs["row"])
        weight = inputs.get("weight", torch.ones_like(losses))
        self._observe(_observed(pairs, losses), weight, inputs["row"], inputs["tokens"])
        loss = (weight * losses).mean().float()
        return (loss, {"logps": logps}) if return_outputs else loss

    def _mean_ratio(self, model: nn.Module, inputs: Mapping[str, Tensor], name: str) -> Tensor:
        """The mean of log π_θ/π_ref over an estimate's further responses, of all processes, without gradient."""
        with torch.no_grad():
            logps = log_probs_of(model, batch_in(inputs, f"{name}_")).double()
        mean = (logps - inputs[f"{name}_reference"]).mean()
        gathered: Tensor = self.accelerator.reduce(mean, reduction="mean")
        return gathered


def _observed(pairs: Pairs, losses: Tensor) -> dict[str, Tensor]:
    """Return what is reported of pairs, (B,) each."""
    known = isinstance(pairs.reference_w, Tensor)
    with torch.no_grad():
        found = {"loss": losses}
        if known:
            margin = pairs.h_ref
            found |= {"margin": margin, "accuracy": (torch.sign(margin) + 1) / 2}
        found |= {"logps/chosen": pairs.policy_w, "logps/rejected": pairs.policy_l}
        if known:
            found["kl"] = (pairs.policy_w - pairs.reference_w + pairs.policy_l - pairs.reference_l) / 2
        found["length"] = (pairs.length_w + pairs.length_l) / 2
        return found
