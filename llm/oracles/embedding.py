"""Embedding models of preference: a vector for each response, and the logit of a pair from two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from mnpo.llm.models.loading import load_tokenizer
from mnpo.llm.models.weights import load_whole
from mnpo.llm.oracles import batches
from mnpo.llm.oracles.base import Answers, Question
from mnpo.llm.oracles.conversations import ConversationModel
from mnpo.numerics import Array
from mnpo.oracle_objectives import embedding_logits

#: Questions that are answered at once from embeddings.
_AT_ONCE = 4096


class EmbeddingModel(ConversationModel):
    """A general preference model (2410.02197): P(y ≻ y') = σ(vᵀ R v'/s), v ∈ ℝ^{2k} a response's embedding.

    It is antisymmetric by construction and can be cyclic. The K² win rates of K responses take K passes: each
    response is read once, whatever it is compared with. The weights λ of the published model are in v's length.
    """

    kind = "pairwise"

    def __init__(
        self,
        *,
        name: str,
        model: str,
        scale: float | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        dtype: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Prepare an embedding model; of a folder the configuration is read, and a hub is not asked yet.

        Args:
            name: how results call it.
            model: a folder, or a name on the hub: a sequence classifier with 2k outputs.
            scale: s; 1, or what the card of a fitted model says, unless given.
            batch_size, max_length, dtype, trust_remote_code: see `ConversationModel`.

        Raises:
            ValueError: an argument out of range, or a folder that holds another kind of model.
        """
        super().__init__(
            name,
            model,
            scale=scale,
            batch_size=batch_size,
            max_length=max_length,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
        )
        if self._is_here:
            self._check()

    def key(self) -> dict[str, Any]:
        """See `TextOracle.key`."""
        self._check()
        return {**self._read_by(), "head": "embedding", "scale": self.divisor}

    def answer(self, questions: Sequence[Question], device: torch.device) -> Iterator[Answers]:
        """Yield probabilities; see `TextOracle.answer`. Each response is read once."""
        self._check()
        found: dict[tuple[str, str], int] = {}
        distinct: list[Question] = []
        sides: list[list[int]] = []
        for place, question in enumerate(questions):
            if question.second is None:
                raise ValueError(f"{self._said} {self.name}: question {place} has no second response")
            prompt = str(question.prompt)
            for text in (question.first, question.second):
                if (prompt, text) not in found:
                    found[prompt, text] = len(distinct)
                    distinct.append(Question(question.prompt, text))
            sides.append([found[prompt, text] for text in (question.first, question.second)])
        vectors = self.embeddings(distinct, device)
        pairs = np.array(sides, dtype=np.int64).reshape(-1, 2)
        for start in range(0, len(pairs), _AT_ONCE):
            first, second = vectors[pairs[start : start + _AT_ONCE].T]
            chances = np.asarray(expit(embedding_logits(first, second, 1.0, self.divisor)))
            yield list(enumerate(chances.tolist(), start))

    def embeddings(self, questions: Sequence[Question], device: torch.device) -> Array:
        """Return v of each question's first response, (N, 2k)."""
        tokenizer = load_tokenizer(self._folder, trust_remote_code=self._trust)
        vectors: Array = np.empty((len(questions), int(self._config.num_labels)))
        for some in batches.answers(
            self.sequences(tokenizer, questions),
            name=self.name,
            load=self._load,
            read=_read,
            batch_size=self._batch_size,
            device=device,
            padding=tokenizer.pad_token_id,
        ):
            for place, vector in some:
                vectors[place] = vector
        return vectors

    def _load(self) -> PreTrainedModel:
        network, spare = AutoModelForSequenceClassification, ("lm_head.",)
        how: dict[str, Any] = {"dtype": self._dtype, "trust_remote_code": self._trust}
        return load_whole(network, self._folder, head="embedding head", spare=spare, **how)

    def _check(self) -> None:
        architectures = list(self._config.architectures or [])
        if not any(name.endswith("ForSequenceClassification") for name in architectures):
            raise ValueError(
                f"{self._said} {self.name}: found the architecture {', '.join(architectures) or 'unnamed'}; an "
                "embedding model is a *ForSequenceClassification"
            )
        if self._config.num_labels % 2:
            raise ValueError(
                f"{self._said} {self.name} has {self._config.num_labels} outputs; an embedding has an even number"
            )

    @property
    def _said(self) -> str:
        return "embedding model"


def _read(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    found: Tensor = model(input_ids=ids, attention_mask=mask).logits
    return found.cpu().double()
