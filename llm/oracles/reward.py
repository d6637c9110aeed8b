"""Reward models: a conversation in, one number out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mnpo.choices import choose
from mnpo.llm.models.loading import load_tokenizer
from mnpo.llm.models.weights import load_whole
from mnpo.llm.oracles import batches
from mnpo.llm.oracles.base import Answers, Question
from mnpo.llm.oracles.conversations import ConversationModel
from mnpo.llm.oracles.heads import HEADS, TURN, ArmoRM, detect, has_code


class RewardModel(ConversationModel):
    """A reward model in transformers' format, with its own tokenizer and chat template."""

    kind = "reward"

    def __init__(
        self,
        *,
        name: str,
        model: str,
        head: str = "auto",
        output: int | list[float] | None = None,
        scale: float | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        dtype: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Prepare a reward model; of a folder the configuration is read, and a hub is not asked yet.

        Args:
            name: how results call it.
            model: a folder, or a name on the hub.
            head: one of `HEADS`, or "auto": what the configuration says.
            output: of a model with several outputs, which one is the reward, or a weight for each; of a model that
                mnpo fitted, what its card says unless given.
            scale: see `TextOracle`; 1, or what the card says, unless given.
            batch_size: conversations in one batch.
            max_length: tokens of a conversation; never more than the model has positions for. A longer one loses
                its beginning but for BOS: that of the prompt, and of a response only if it is too long by itself.
            dtype: of the weights in memory, one of `DTYPES`; unless given, bfloat16 with a GPU and float32 without.
            trust_remote_code: whether code in the folder may run.

        Raises:
            ValueError: an argument out of range, or a folder that holds no known reward model.
        """
        choose(head, dict.fromkeys(["auto", *HEADS]), "head")
        super().__init__(
            name,
            model,
            scale=scale,
            batch_size=batch_size,
            max_length=max_length,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
        )
        self._asked, self._chosen = head, output
        if self._is_here:
            self._check_output(self._outputs)

    @property
    def scale(self) -> float:  # type: ignore[override]  # of a hub's model it is known when that is fetched
        """See `TextOracle`."""
        return self.divisor

    def key(self) -> dict[str, Any]:
        """Return what rewards depend on; where the model lies is no part of it."""
        self._check_output(self._outputs)
        return {**self._read_by(), "head": self._head, "output": self._output}

    def answer(self, questions: Sequence[Question], device: torch.device) -> Iterator[Answers]:
        """Yield rewards, a batch at a time; see `TextOracle.answer`."""
        self._check_output(self._outputs)
        tokenizer = load_tokenizer(self._folder, trust_remote_code=self._trust)
        yield from batches.answers(
            self.sequences(tokenizer, questions),
            name=self.name,
            load=lambda: self._load(tokenizer),
            read=self._read,
            batch_size=self._batch_size,
            device=device,
            padding=tokenizer.pad_token_id,
        )

    def _load(self, tokenizer: Any) -> PreTrainedModel:
        head = HEADS[self._head]
        labels: dict[str, Any] = {} if head.outputs is None else {"num_labels": head.outputs}
        model = load_whole(
            head.network,
            self._folder,
            dtype=self._dtype,
            trust_remote_code=self._trust,
            head="reward head",
            spare=("lm_head.",),  # often saved with a reward model, which does not use it
            **labels,
        )
        if isinstance(model, ArmoRM):
            model.turn = tokenizer(TURN, add_special_tokens=False)["input_ids"]
        return model

    def _read(self, model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
        found = model(input_ids=ids, attention_mask=mask)
        score = getattr(found, "score", None)
        table = (found.logits if score is None else score).reshape(len(ids), -1).cpu().double()
        self._check_output(table.shape[1])
        if isinstance(self._output, list):
            return table @ table.new_tensor(self._output)
        return table[:, self._output or 0]

    def _check_output(self, outputs: int | None) -> None:
        """Refuse a rule that does not say which of so many outputs is the reward; None is an unknown number."""
        rule = self._output
        if isinstance(rule, list):
            fits = len(rule) == outputs and all(map(_is_weight, rule))
        elif rule is None:
            fits = outputs == 1
        else:
            fits = isinstance(rule, int) and not isinstance(rule, bool) and 0 <= rule < (outputs or 0)
        if outputs is not None and not fits:
            plural = "s" * (outputs != 1)
            raise ValueError(
                f"reward model {self.name} has {outputs} output{plural}; give output: an index, or {outputs} "
                f"weight{plural}; found {rule!r}"
            )

    @property
    def _output(self) -> int | list[float] | None:
        return self._card.output if self._chosen is None else self._chosen

    @property
    def _ends_with_cls(self) -> bool:
        return HEADS[self._head].cls

    @cached_property
    def _head(self) -> str:
        if self._asked != "auto":
            return self._asked
        try:
            return detect(self._config, self._trust)
        except ValueError as error:
            raise ValueError(f"reward model {self.name}: {error}") from None

    @cached_property
    def _outputs(self) -> int | None:
        """How many outputs the model has; None where remote code says it by what it returns."""
        fixed = HEADS[self._head].outputs
        if fixed is not None or (self._trust and has_code(self._config)):
            return fixed
        return int(self._config.num_labels)


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
