"""Models that judge texts: where they lie, what they are by content, and how they are read."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from mnpo.common.given import user_path
from mnpo.llm.models.folders import find, fingerprint
from mnpo.llm.models.weights import configuration
from mnpo.llm.oracles import batches, texts
from mnpo.llm.oracles.base import TextOracle, check_scale
from mnpo.llm.oracles.cards import Card, card_of, model_in


class ModelOracle(TextOracle):
    """A model in transformers' format, with its own tokenizer; a card says how one that mnpo fitted is read.

    Args:
        name: how results call it.
        model: a folder, or a name on the hub, which is not asked yet.
        scale: what rewards or logits are divided by; 1, or what the card says, unless given.
        batch_size: questions in one batch.
        max_length: tokens of a question; what the card says unless given, and never more than the model has
            positions for.
        dtype: of the weights in memory, one of `DTYPES`; unless given, bfloat16 with a GPU and float32 without.
        trust_remote_code: whether code in the folder may run.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        name: str,
        model: str,
        *,
        scale: float | None,
        batch_size: int,
        max_length: int | None,
        dtype: str | None,
        trust_remote_code: bool,
    ) -> None:
        batches.check_sizes(batch_size, max_length)
        self.name = name
        self._model, self._batch_size, self._asked_length = model, batch_size, max_length
        self._asked_scale = None if scale is None else check_scale(scale)
        self._dtype, self._trust = batches.usual_dtype(dtype), trust_remote_code

    @property
    def divisor(self) -> float:
        """What rewards or logits are divided by."""
        return self._card.scale if self._asked_scale is None else self._asked_scale

    @property
    def _is_here(self) -> bool:
        """Whether it lies in a folder, so that it can be checked at once."""
        return user_path(self._model).is_dir()

    def _read_by(self) -> dict[str, Any]:
        """Return what answers depend on; where the model lies is no part of it."""
        return {
            "kind": self.kind,
            "model": fingerprint(self._folder),
            "tokenizer": texts.tokenizer_digest(self._folder),
            "dtype": self._dtype,
            "max_length": self._max_length,
        }

    @property
    def _max_length(self) -> int | None:
        return self._card.max_length if self._asked_length is None else self._asked_length

    @cached_property
    def _folder(self) -> Path:
        return model_in(find(self._model))

    @cached_property
    def _card(self) -> Card:
        return card_of(self._folder)

    @cached_property
    def _config(self) -> Any:
        return configuration(self._folder, trust_remote_code=self._trust)
