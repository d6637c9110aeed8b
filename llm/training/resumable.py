"""A transformers Trainer that stops, goes on to the same bits, and never saves what is not finite.

What trains policies and what trains oracles are both of this kind; they differ in their losses.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from mnpo.llm.training.checkpoints import mark_whole
from mnpo.llm.training.grouping import LengthGroupedSampler, Lengths


class NonFiniteLoss(ValueError):
    """The loss, or its gradient, is not a finite number."""


class ResumableTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Trains on rows that have numbers, by losses that are means over rows.

    Logged besides transformers' own are the means of what a loss gave to `_observe`, tokens_per_second and
    peak_memory_gb. Batches have `row`, (B,), the rows' numbers.

    Args:
        arguments: Trainer's.
    """

    loss_is_scaled_for_ga = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        if self.is_fsdp_enabled:
            _keep_outputs_wide(self.accelerator.state.fsdp_plugin)
        self._seen: dict[str, Tensor] = {}
        self._held_out: dict[int, dict[str, float]] = {}
        self._since = time.monotonic()

    @abstractmethod
    def _lengths(self, data: Dataset) -> Lengths:
        """Return how long the rows of a batch must be for each row of the data, (rows,)."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Group rows by length as transformers would, but resumable: its own order is drawn from global state."""
        data = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(data, Dataset):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        size = self.args.train_batch_size * self.args.world_size
        sampler = LengthGroupedSampler(self._lengths(data), size, seed)
        self.add_callback(_Epochs(sampler))
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Take held-out rows by length; what is reported does not depend on their order."""
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(eval_dataset, Dataset):
            return super()._get_eval_sampler(eval_dataset)
        return np.argsort(-self._lengths(eval_dataset), kind="stable").tolist()

    def _prepare_input(self, data: Any) -> Any:
        """Move tensors as they are: under DeepSpeed the Trainer would round numbers of the data to bf16."""
        return data.to(self.args.device) if isinstance(data, Tensor) else super()._prepare_input(data)

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
        """Add the means of what was observed to transformers'."""
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

    def _observe(
        self, found: Mapping[str, Tensor], weight: Tensor, rows: Tensor, tokens: Tensor | None = None
    ) -> None:
        """Note what is to be reported.

        Args:
            found: name -> (B,), "loss" among them; means over rows are reported.
            weight: (B,), how much each row counts.
            rows: (B,), their numbers.
            tokens: (B,), of each.
        """
        with torch.no_grad():
            held = {name: weight * values.detach() for name, values in found.items()} | {"weight": weight}
            if not self.model.training:
                table = torch.stack(list(held.values())).T.tolist()
                for row, values in zip(rows.tolist(), table, strict=True):
                    self._held_out[row] = dict(zip(held, values, strict=True))
                return
            del held["loss"]  # transformers logs it
            if tokens is not None:
                held["tokens"] = tokens
            for name, tensor in held.items():
                total = tensor.sum()
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
