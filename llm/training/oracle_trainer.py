"""A transformers Trainer that fits oracles: reward, pairwise and embedding models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from transformers import TrainingArguments

from mnpo.llm.data.batches import Tree, laid_out
from mnpo.llm.training.collator import Rows, batch_in
from mnpo.llm.training.ends import attach_ends, ends_of
from mnpo.llm.training.grouping import Lengths
from mnpo.llm.training.oracle_tasks import Found, Judged, OracleTask
from mnpo.llm.training.resumable import ResumableTrainer

#: Columns of `mnpo.llm.data.schema.JUDGMENTS` that are not read.
_FOR_PEOPLE = ("prompt", "responses")


class JudgmentCollator:
    """Makes batches of judgments.

    Args:
        pad: the padding token's id.
        rows: how sequences lie.
        heads: annotator -> output, where annotators have heads.
    """

    def __init__(self, pad: int, rows: Rows, heads: Mapping[str, int] | None = None) -> None:
        self._pad, self._rows, self._heads = pad, rows, dict(heads or {})

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a `Batch` of all sequences, the fields of `Judged`, and row, judgment, weight and tokens, (B,)."""
        trees = [tree for row in rows for tree in self._trees(row["sequences"], row["shared"])]
        batch = laid_out(trees, self._pad, packed=self._rows.packed).tensors()
        most = max(map(_responses, rows))
        width = max((len(one) for row in rows for one in row.get("ratings") or ()), default=0)
        ratings = np.full((len(rows), most, width), np.nan)
        present, ranks = np.zeros((len(rows), most)), np.zeros((len(rows), most))
        for place, row in enumerate(rows):
            present[place, : _responses(row)] = 1
            if row.get("ranks") is not None:
                ranks[place, : len(row["ranks"])] = row["ranks"]
            for response, rated in enumerate(row.get("ratings") or ()):
                ratings[place, response, : len(rated)] = [np.nan if one is None else one for one in rated]
        numbers = {
            "present": present,
            "ranks": ranks,
            "ratings": ratings,
            "preference": _column(rows, "preference", np.nan),
            "strength": _column(rows, "strength", 1.0),
            "weight": _column(rows, "weight", 1.0),
            "tokens": _column(rows, "tokens", 0.0),
        }
        batch |= {name: torch.from_numpy(values) for name, values in numbers.items()}
        batch["head"] = torch.tensor([self._heads.get(row.get("annotator") or "", 0) for row in rows])
        batch |= {name: torch.tensor([row[name] for row in rows]) for name in ("row", "judgment")}
        return batch

    def _trees(self, sequences: Sequence[Sequence[int]], shared: int) -> list[Tree]:
        if self._rows.shared and shared and len(sequences) > 1:
            return [(sequences[0][:shared], [ids[shared:] for ids in sequences])]
        return [(ids[:-1], [ids[-1:]]) if len(ids) > 1 else (ids, [ids]) for ids in sequences]


class OracleTrainer(ResumableTrainer):
    """Fits an oracle to judgments.

    Logged besides transformers' own: of comparisons accuracy (ties half) and margin (the logit of the response that
    is preferred), tokens_per_second, peak_memory_gb.

    Args:
        model: a sequence classifier, or for pairwise oracles a causal model.
        args: transformers' TrainingArguments.
        task: what is minimised.
        train_dataset, eval_dataset: judgments as token ids (`mnpo.llm.data.schema.JUDGMENTS`).
        pad: the padding token's id.
        choices: the two answers of a pairwise oracle, token ids.
        heads: annotator -> output, where annotators have heads.
        share_prompts: whether what responses begin with is computed once; where the model allows it unless given.
        packing: whether a batch is one row without padding.
        arguments: Trainer's.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        task: OracleTask,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        pad: int,
        choices: Sequence[int] | None = None,
        heads: Mapping[str, int] | None = None,
        share_prompts: bool | None = None,
        packing: bool = False,
        **arguments: Any,
    ) -> None:
        self._rows, self._task = Rows.of(model, share_prompts, packing), task
        super().__init__(
            model=model,
            args=args,
            train_dataset=_read(train_dataset),
            eval_dataset=None if eval_dataset is None else _read(eval_dataset),
            data_collator=JudgmentCollator(pad, self._rows, heads),
            **arguments,
        )
        attach_ends(self.model, choices)
        self._told: dict[int, list[tuple[float, float, float, int]]] = {}

    def _lengths(self, data: Dataset) -> Lengths:
        columns = {name: _numbers(data, name) for name in ("shared", "longest", "tokens", "count")}
        if not self._rows.shared:
            return columns["longest"]
        return columns["tokens"] - (columns["count"] - 1) * columns["shared"]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the mean loss of a batch of judgments, weighted where the data say how much one counts."""
        values = ends_of(model, batch_in(inputs))
        found = self._task.found(values, Judged(**{name: inputs[name] for name in Judged._fields}))
        self._stop_if_not_finite(found.losses.detach(), inputs["row"])
        weight = inputs["weight"]
        self._observe(_observed(found), weight, inputs["judgment"], inputs["tokens"])
        if not self.model.training:
            self._note(found, inputs)
        loss = (weight * found.losses).mean().float()
        return (loss, {"values": values}) if return_outputs else loss

    def held_out(self, data: Dataset, task: OracleTask | None = None) -> tuple[dict[str, float], np.ndarray]:
        """Evaluate held-out judgments.

        Args:
            data: as token ids.
            task: by which they are looked at; the trainer's unless given.

        Returns:
            The metrics, and (M, 4): the logit of each pair that is compared, how likely its first is the better
            one, how much the pair counts, and whose head it is.
        """
        own, self._told, self._task = self._task, {}, task or self._task
        try:
            metrics = self.evaluate(_read(data))
        finally:
            self._task = own
        told = {row: pairs for some in gather_object([self._told]) for row, pairs in some.items()}
        pairs = [pair for row in sorted(told) for pair in told[row]]
        return metrics, np.array(pairs, dtype=float).reshape(-1, 4)

    def _note(self, found: Found, inputs: Mapping[str, Tensor]) -> None:
        """Keep the logits of held-out pairs."""
        if found.logits is None or found.said is None:
            return
        numbers = (inputs[name].tolist() for name in ("weight", "head", "judgment"))
        for logits, said, weight, head, row in zip(
            found.logits.detach().tolist(), found.said.tolist(), *numbers, strict=True
        ):
            compared = [(z, p) for z, p in zip(logits, said, strict=True) if not math.isnan(p)]
            self._told[row] = [(z, p, weight / len(compared), head) for z, p in compared]


def _observed(found: Found) -> dict[str, Tensor]:
    """Return what is reported of judgments, (B,) each."""
    with torch.no_grad():
        if found.logits is None or found.said is None:
            return {"loss": found.losses}
        counted = ~found.said.isnan()
        said = found.said.nan_to_num(0.5)
        right = (torch.sign(found.logits) * (2 * said - 1) + 1) / 2
        margin = found.logits * torch.sign(said - 0.5)
        pairs = counted.sum(1).clamp(min=1)
        means = {"accuracy": right, "margin": margin}
        return {"loss": found.losses} | {
            name: values.where(counted, 0.0).sum(1) / pairs for name, values in means.items()
        }


def _read(data: Dataset) -> Dataset:
    """Leave out what is there for people."""
    return data.remove_columns([name for name in _FOR_PEOPLE if name in data.column_names])


def _numbers(data: Dataset, name: str) -> Lengths:
    return np.asarray(data.with_format("numpy")[name], dtype=np.int64)


def _responses(row: Mapping[str, Any]) -> int:
    return int(row["count"])


def _column(rows: Sequence[Mapping[str, Any]], name: str, absent: float) -> np.ndarray:
    values = [row.get(name) for row in rows]
    return np.array([absent if value is None else value for value in values], dtype=float)
