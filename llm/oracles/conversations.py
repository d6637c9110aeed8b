"""Models that read a prompt with one response: rewards and embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mnpo.llm.data.formats import asked
from mnpo.llm.oracles import texts
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.networks import ModelOracle


class ConversationModel(ModelOracle):
    """A model that reads one conversation, as its chat template writes it.

    A longer one than allowed loses its beginning but for BOS: that of the prompt, and of a response only if it is
    too long by itself.
    """

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

    @property
    def _said(self) -> str:
        """What errors call such a model."""
        return f"{self.kind} model"

    @property
    def _ends_with_cls(self) -> bool:
        """Whether the tokenizer's CLS ends the input."""
        return False
