"""From rows of pairs to the batches that a trainer's loss reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mnpo.llm.data.batches import Batch, Tree, laid_out
from mnpo.llm.training.masks import why_not_packed, why_not_shared


class Rows(NamedTuple):
    """How sequences lie in a batch's rows.

    Attributes:
        shared: a pair's two responses lie in one row, after their prompt, which is computed once.
        packed: everything lies in one row, so that nothing is padded.
    """

    shared: bool = False
    packed: bool = False

    @classmethod
    def of(cls, model: nn.Module, share_prompts: bool | None, packing: bool) -> Rows:
        """Return how a model's rows are made.

        Args:
            model: a causal model of transformers, wrapped by PEFT or not.
            share_prompts: whether prompts are computed once; where the model allows it unless given.
            packing: whether rows are packed into one.

        Raises:
            ValueError: what is asked for and the model does not allow, with the reason.
        """
        unshared = why_not_shared(model)
        if share_prompts and unshared is not None:
            raise ValueError(f"share_prompts: {unshared}")
        unpacked = why_not_packed(model) if packing else None
        if unpacked is not None:
            raise ValueError(f"packing: {unpacked}")
        return cls(unshared is None if share_prompts is None else share_prompts, packing)


class Collator:
    """Makes batches of pairs.

    Args:
        pad: the padding token's id.
        fields: columns that go into `Pairs` as they are.
        further: names of estimates, for which each prompt has one more response, <name>_ids.
        rows: how sequences lie; each in a row of its own unless given.
    """

    def __init__(
        self, pad: int, fields: Sequence[str], further: Sequence[str] = (), rows: Rows | None = None
    ) -> None:
        self._pad, self._fields, self._further = pad, tuple(fields), tuple(further)
        self._rows = rows or Rows()

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a `Batch` of 2B responses, a pair's chosen one first; row, tokens and the fields, (B,).

        Tokens are those of a pair's two sequences, each with its prompt; fields are (B,) float64. An estimate's own
        batch has its name and "_" before the names of its tensors.
        """
        both = [(row["prompt_ids"], [row["chosen_ids"], row["rejected_ids"]]) for row in rows]
        batch = self._laid_out(both, self._rows.shared)
        for further in self._further:
            alone = [(row["prompt_ids"], [row[f"{further}_ids"]]) for row in rows]
            batch |= {f"{further}_{name}": tensor for name, tensor in self._laid_out(alone, True).items()}
        batch["row"] = torch.tensor([row["row"] for row in rows])
        batch["tokens"] = torch.tensor(
            [2 * len(prompt) + sum(map(len, responses)) for prompt, responses in both], dtype=torch.float64
        )
        for name in self._fields:
            batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        return batch

    def _laid_out(self, trees: Sequence[Tree], shared: bool) -> dict[str, Tensor]:
        if not shared:
            trees = [(prompt, [response]) for prompt, responses in trees for response in responses]
        return laid_out(trees, self._pad, packed=self._rows.packed).tensors()


def batch_in(inputs: Mapping[str, Tensor], name: str = "") -> Batch:
    """Return the batch of a collator's tensors: that of the pairs, or an estimate's by its name and "_"."""
    return Batch(**{field: inputs[name + field] for field in Batch._fields if name + field in inputs})
