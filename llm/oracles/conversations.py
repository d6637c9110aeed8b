"""Models that read a prompt with one response: rewards and embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mnpo.llm.data.formats import asked
from mnpo.llm.models.folders import find, fingerprint
from mnpo.llm.models.weights import configuration
from mnpo.llm.oracles import batches, texts
from mnpo.llm.oracles.base import Question, TextOracle
from mnpo.llm.oracles.cards import Card, card_of, model_in


class ConversationModel(TextOracle):
    """A model in transformers' format, with its own tokenizer and chat template, that reads one conversation.

    Args:
        name: how results call it.
        model: a folder, or a name on the hub.
        batch_size: conversations in one batch.
        max_length: tokens of a conversation; never more than the model has positions for. A longer one loses its
            beginning but for BOS: that of the prompt, and of a response only if it is too long by itself. What the
            card of a fitted model says unless given.
        dtype: of the weights in memory, one of `DTYPES`; unless given, bfloat16 with a GPU and float32 without.
        trust_remote_code: whether code in the folder may run.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, name: str, model: str, batch_size: int, max_length: int | None, dtype: str | None, trust: bool
    ) -> None:
        batches.check_sizes(batch_size, max_length)
        self.name = name
        self._model, self._batch_size, self._asked_length = model, batch_size, max_length
        self._dtype, self._trust = batches.usual_dtype(dtype), trust

    def sequences(self, tokenizer: Any, questions: Sequence[Question]) -> Iterator[list[int]]:
        """Yield the token ids of each question's first response after its prompt, as the model reads them.

        Raises:
            ValueError: a conversation that the chat template refuses; names the question.
        """
        end = [tokenizer.cls_token_id] if self._ends_with_cls else []
        if end == [None]:
            raise ValueError(f"{self._said} {self.name}: its tokenizer has no CLS token")
        longest = texts.longest(self._config, self._max_length)
        for ids in texts.token_ids(tokenizer, self._conversations(tokenizer, questions)):
            yield texts.cut(ids + end, longest, tokenizer.bos_token_id)

    def _conversations(self, tokenizer: Any, questions: Sequence[Question]) -> Iterator[str]:
        for place, question in enumerate(questions):
            response = {"role": "assistant", "content": question.first}
            try:
                yield texts.written(tokenizer, [*asked(question.prompt), response])
            except ValueError as error:
                raise ValueError(f"{self._said} {self.name}: question {place}: {error}") from None

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
    def _said(self) -> str:
        """What errors call such a model."""
        return f"{self.kind} model"

    @property
    def _ends_with_cls(self) -> bool:
        """Whether the tokenizer's CLS ends the input."""
        return False

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
