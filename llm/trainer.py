"""A transformers Trainer whose loss is a preference objective of `mnpo.objectives`."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from mnpo.llm.logprobs import attach, sequence_log_probs
from mnpo.llm.losses import pair_losses
from mnpo.llm.scores import padded
from mnpo.objectives import Objective, Pairs

#: Written last into a checkpoint that is whole.
COMPLETE = "complete.json"
_SEQUENCES = ("input_ids", "attention_mask", "response_mask")


class NonFiniteLoss(ValueError):
    """The loss, or its gradient, is not a finite number."""


class Collator:
    """Makes batches: chosen responses first, then rejected ones.

    Args:
        pad: the padding token's id.
        fields: columns that go into `Pairs` as they are.
        mismatched: whether prompts with another row's response are added, for KTO's estimate.
    """

    def __init__(self, pad: int, fields: Sequence[str], *, mismatched: bool = False) -> None:
        self._pad, self._fields, self._mismatched = pad, tuple(fields), mismatched

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return input_ids, attention_mask and response_mask (2B, L), row (B,) and the fields (B,) float64."""
        sides = ("chosen_ids", "rejected_ids")
        requests = [(row["prompt_ids"], row[side]) for side in sides for row in rows]
        batch = dict(zip(_SEQUENCES, padded(requests, self._pad, "cpu"), strict=True))
        if self._mismatched:
            others = padded([(row["prompt_ids"], row["kl_ids"]) for row in rows], self._pad, "cpu")
            batch |= {f"kl_{name}": tensor for name, tensor in zip(_SEQUENCES, others, strict=True)}
        batch["row"] = torch.tensor([row["row"] for row in rows])
        for name in self._fields:
            batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        return batch


class PairTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Minimises an objective over preference pairs; anchors are columns, so no other model is in memory.

    Logged besides transformers' own: margin (h against the reference), accuracy (how often it is above 0, ties
    half), logps of both responses, kl (the mean of log π_θ/π_ref over the batch's responses: an estimate of
    KL(π_θ ‖ π_ref) as far as they are drawn from π_θ), length in tokens, tokens_per_second, peak_memory_gb.

    Args:
        objective, parameters: what is minimised.
        logprob_chunk: response positions whose logits are held at once.
        kwargs: Trainer's.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        objective: Objective,
        parameters: Mapping[str, float],
        logprob_chunk: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._objective, self._parameters = objective, dict(parameters)
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

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the mean loss of a batch of pairs, weighted where the data say how much a pair counts."""
        logps = sequence_log_probs(model, *(inputs[name] for name in _SEQUENCES)).double()
        size = len(inputs["row"])
        lengths = inputs["response_mask"].sum(1).double()
        fields = {k: v for k, v in inputs.items() if k in Pairs.__dataclass_fields__}
        if "kl_reference" in inputs:
            fields["kl"] = self._kl(model, inputs)
        pairs = Pairs(
            policy_w=logps[:size],
            policy_l=logps[size:],
            length_w=lengths[:size],
            length_l=lengths[size:],
            **fields,
        )
        losses = pair_losses(self._objective, self._parameters, pairs, inputs.get("preference"))
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

    def _kl(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """KTO's z/β: the mean of log π_θ/π_ref over prompts with other prompts' responses, at least 0."""
        with torch.no_grad():
            logps = sequence_log_probs(model, *(inputs[f"kl_{name}"] for name in _SEQUENCES)).double()
        mean = (logps - inputs["kl_reference"]).mean()
        gathered: Tensor = self.accelerator.reduce(mean, reduction="mean")
        return gathered.clamp(min=0)

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

    def _stop_if_weights_are_not_finite(self) -> None:
        """A finite loss can have a gradient that is not: such weights are never saved over good ones."""
        bad = [not bool(torch.isfinite(p.detach()).all()) for p in self.model.parameters() if p.requires_grad]
        if any(held for found in gather_object([bad]) for held in found):
            raise NonFiniteLoss(
                f"the weights are not finite after step {self.state.global_step}: a gradient was not; "
                f"the last checkpoint stands in {self.args.output_dir}"
            )

    def _observe(self, pairs: Pairs, losses: Tensor, weight: Tensor, inputs: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            margin = pairs.h_ref.detach()
            ratios = (pairs.policy_w - pairs.reference_w + pairs.policy_l - pairs.reference_l) / 2
            found = {
                "loss": losses,
                "margin": margin,
                "accuracy": (torch.sign(margin) + 1) / 2,
                "logps/chosen": pairs.policy_w,
                "logps/rejected": pairs.policy_l,
                "kl": ratios,
                "length": (pairs.length_w + pairs.length_l) / 2,
            }
            found = {name: weight * values for name, values in found.items()} | {"weight": weight}
            if not self.model.training:
                table = torch.stack(list(found.values())).T.tolist()
                for row, values in zip(inputs["row"].tolist(), table, strict=True):
                    self._held_out[row] = dict(zip(found, values, strict=True))
                return
            del found["loss"]  # transformers logs it
            found["tokens"] = inputs["attention_mask"].double()
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
        self._stop_if_weights_are_not_finite()
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
            (folder / COMPLETE).write_text(json.dumps({"step": self.state.global_step}) + "\n")
            rotate_checkpoints(self.args.output_dir, limit)


def _keep_outputs_wide(plugin: Any) -> None:
    """Let FSDP return log-probabilities in float32 and sum gradients in it, whatever it computes in."""
    policy = plugin.mixed_precision_policy
    if policy is not None and hasattr(policy, "output_dtype"):
        plugin.mixed_precision_policy = replace(
            policy, output_dtype=torch.float32, reduce_dtype=torch.float32
        )


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, if there is one."""
    found = []
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = checkpoint.name.rpartition("-")[2]
        if step.isdecimal() and (checkpoint / COMPLETE).is_file():
            found.append((int(step), checkpoint))
    return max(found)[1] if found else None


def drop_partial(folder: Path) -> None:
    """Remove checkpoints that a killed process left half-written."""
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if not (checkpoint / COMPLETE).is_file():
            shutil.rmtree(checkpoint)


def peak_memory(device: torch.device) -> float:
    """Return the most memory held so far in bytes: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
