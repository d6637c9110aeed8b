"""A transformers Trainer whose loss is a preference objective of `mnpo.objectives`."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from mnpo.llm.models.loading import find, load_model, load_tokenizer
from mnpo.llm.training.checkpoints import mark_whole
from mnpo.llm.training.collator import Collator, Rows, batch_in
from mnpo.llm.training.grouping import LengthGroupedSampler, lengths_of
from mnpo.llm.training.logprobs import attach, log_probs_of
from mnpo.llm.training.losses import pair_losses
from mnpo.llm.training.preparing import Lengths, padding_of, prepare
from mnpo.llm.training.tasks import Task, task_of
from mnpo.objectives import Objective, Pairs
from mnpo.rules import UpdateRule


class NonFiniteLoss(ValueError):
    """The loss, or its gradient, is not a finite number."""


class PairTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
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

    loss_is_scaled_for_ga = False

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
        self._task = task
        attach(self.model, chunk=logprob_chunk, synchronise=self.is_deepspeed_enabled or self.is_fsdp_enabled)
        self.model_accepts_loss_kwargs = False
        if self.is_fsdp_enabled:
            _keep_outputs_wide(self.accelerator.state.fsdp_plugin)
        self._seen: dict[str, Tensor] = {}
        self._held_out: dict[int, dict[str, float]] = {}
        self._since = time.monotonic()

    def _prepare_input(self, data: Any) -> Any:
        """Move tensors as they are: under DeepSpeed the Trainer would round log-probabilities to bf16."""
        return data.to(self.args.device) if isinstance(data, Tensor) else super()._prepare_input(data)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Group pairs by length as transformers would, but resumable: its own order is drawn from global state."""
        data = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(data, Dataset):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        size = self.args.train_batch_size * self.args.world_size
        sampler = LengthGroupedSampler(lengths_of(data, shared=self._rows.shared), size, seed)
        self.add_callback(_Epochs(sampler))
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Take held-out pairs by length; what is reported does not depend on their order."""
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(eval_dataset, Dataset):
            return super()._get_eval_sampler(eval_dataset)
        return np.argsort(-lengths_of(eval_dataset, shared=self._rows.shared), kind="stable").tolist()

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
        self._observe(pairs, losses.detach(), weight, inputs)
        loss = (weight * losses).mean().float()
        return (loss, {"logps": logps}) if return_outputs else loss

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        """Evaluate one batch; its metrics are gathered beside the loss."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Add the metrics of pairs to transformers'."""
        self._held_out = {}
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        # By row, since processes are given some rows twice to be equally busy.
        rows = {row: values for held in gather_object([self._held_out]) for row, values in held.items()}
        sums = {name: sum(values[name] for values in rows.values()) for name in next(iter(rows.values()))}
        total = sums.pop("weight")
        means = {name: value / total for name, value in sums.items()}
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in means.items()})
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what was observed since the last time."""
        if "loss" in logs:
            logs |= self._means()
            logs["peak_memory_gb"] = peak_memory(self.args.device) / 1e9
            self._since = time.monotonic()
        super().log(logs, start_time)

    def _mean_ratio(self, model: nn.Module, inputs: Mapping[str, Tensor], name: str) -> Tensor:
        """The mean of log π_θ/π_ref over an estimate's further responses, of all processes, without gradient."""
        with torch.no_grad():
            logps = log_probs_of(model, batch_in(inputs, f"{name}_")).double()
        mean = (logps - inputs[f"{name}_reference"]).mean()
        gathered: Tensor = self.accelerator.reduce(mean, reduction="mean")
        return gathered

    def _stop_if_not_finite(self, losses: Tensor, rows: Tensor) -> None:
        bad = ~torch.isfinite(losses)
        if self.accelerator.num_processes > 1:
            bad, rows = self.accelerator.gather((bad, rows))
        if bool(bad.any()):
            named = ", ".join(str(int(row)) for row in rows[bad][:5])
            raise NonFiniteLoss(
                f"the loss is not finite at step {self.state.global_step + 1}, in row {named} of the data; "
                f"the last checkpoint stands in {self.args.output_dir}"
            )

    def stop_if_weights_are_not_finite(self) -> None:
        """A finite loss can have a gradient that is not: such weights are never saved over good ones."""
        bad = [not bool(torch.isfinite(p.detach()).all()) for p in self.model.parameters() if p.requires_grad]
        if any(held for found in gather_object([bad]) for held in found):
            raise NonFiniteLoss(
                f"the weights are not finite after step {self.state.global_step}: a gradient was not; "
                f"the last checkpoint stands in {self.args.output_dir}"
            )

    def _observe(self, pairs: Pairs, losses: Tensor, weight: Tensor, inputs: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            found = {"loss": losses}
            if "reference_w" in inputs:
                margin = pairs.h_ref.detach()
                found |= {"margin": margin, "accuracy": (torch.sign(margin) + 1) / 2}
            found |= {"logps/chosen": pairs.policy_w, "logps/rejected": pairs.policy_l}
            if "reference_w" in inputs:
                found["kl"] = (pairs.policy_w - pairs.reference_w + pairs.policy_l - pairs.reference_l) / 2
            found["length"] = (pairs.length_w + pairs.length_l) / 2
            found = {name: weight * values for name, values in found.items()} | {"weight": weight}
            if not self.model.training:
                table = torch.stack(list(found.values())).T.tolist()
                for row, values in zip(inputs["row"].tolist(), table, strict=True):
                    self._held_out[row] = dict(zip(found, values, strict=True))
                return
            del found["loss"]  # transformers logs it
            found["tokens"] = inputs["tokens"]
            for name, tensor in found.items():
                total = tensor.detach().sum()
                self._seen[name] = self._seen[name] + total if name in self._seen else total

    def _means(self) -> dict[str, float]:
        """Means since the last time, of all processes."""
        seen, self._seen = self._seen, {}
        if not seen:
            return {}
        sums = self.accelerator.reduce(torch.stack(list(seen.values())), reduction="sum")
        totals = dict(zip(seen, sums.tolist(), strict=True))
        count, tokens = totals.pop("weight"), totals.pop("tokens")
        means = {name: total / max(count, 1e-300) for name, total in totals.items()}
        return {**means, "tokens_per_second": tokens / max(time.monotonic() - self._since, 1e-9)}

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint and mark it as whole; only then older ones go."""
        folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self.stop_if_weights_are_not_finite()
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError | RuntimeError) or type(error).__name__ == "SafetensorError":
                raise OSError(
                    f"cannot write the checkpoint {folder}: {str(error).splitlines()[0]}"
                ) from error
            raise
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            mark_whole(folder, self.state.global_step)
            rotate_checkpoints(self.args.output_dir, limit)


class _Epochs(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells a sampler which epoch begins, of a run that is continued too."""

    def __init__(self, sampler: LengthGroupedSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._sampler.set_epoch(int(state.epoch or 0))


def _keep_outputs_wide(plugin: Any) -> None:
    """Let FSDP return log-probabilities in float32 and sum gradients in it, whatever it computes in."""
    policy = plugin.mixed_precision_policy
    if policy is not None and hasattr(policy, "output_dtype"):
        plugin.mixed_precision_policy = replace(
            policy, output_dtype=torch.float32, reduce_dtype=torch.float32
        )


def peak_memory(device: torch.device) -> float:
    """Return the most memory held so far in bytes: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
