"""Models of preference: two responses in, the probability out that the first is preferred."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from mnpo.llm.data.formats import Text, asked
from mnpo.llm.data.literal import MARK, Literal
from mnpo.llm.models.loading import load_tokenizer
from mnpo.llm.models.weights import load_whole
from mnpo.llm.oracles import batches, texts
from mnpo.llm.oracles.base import Answers, Question
from mnpo.llm.oracles.networks import ModelOracle

#: What RLHFlow/pair-preference-model-LLaMA3-8B was trained to answer with A or B.
TEMPLATE = "[CONTEXT] {context} [RESPONSE A] {first} [RESPONSE B] {second} \n"
#: What it was trained to answer.
CHOICES = ("A", "B")
_PLACES = ("context", "first", "second")
_PLACE = re.compile(r"\{(" + "|".join(_PLACES) + r")\}")


class PairwiseModel(ModelOracle):
    """A preference model in transformers' format, with its own tokenizer.

    A causal language model is asked for one of two choices: the probability is the first one's share of the two
    (pair preference models, arXiv:2405.07863). A sequence classifier with one output z gives σ(z), with two the
    share of the first.
    """

    kind = "pairwise"
    both_orders = True

    def __init__(
        self,
        *,
        name: str,
        model: str,
        template: str | None = None,
        choices: Sequence[str] | None = None,
        scale: float | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        dtype: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Prepare a preference model; of a folder the configuration is read, and a hub is not asked yet.

        Args:
            name: how results call it.
            model: a folder, or a name on the hub.
            template: the question, with the places {context}, {first} and {second}; it becomes the user's turn of
                the chat template where the tokenizer has one. Unless given, `TEMPLATE`, written as the card of
                RLHFlow's model does: turns of the context marked <turn>, and no BOS.
            choices: what a causal model answers if the first, or the second, is preferred; one token each. A and B
                unless given.
            scale: divides the logit; 1 unless given. Of a fitted model its card says these, and max_length.
            batch_size: questions in one batch.
            max_length: tokens of a question; never more than the model has positions for. A longer one loses the
                beginning of its context, and nothing else.
            dtype: of the weights in memory, one of `DTYPES`; unless given, bfloat16 with a GPU and float32 without.
            trust_remote_code: whether code in the folder may run.

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
        lacking = [place for place in _PLACES if template is not None and f"{{{place}}}" not in template]
        if lacking:
            raise ValueError(
                f"template must have {{context}}, {{first}} and {{second}}; found no {{{lacking[0]}}}"
            )
        if choices is not None and (
            isinstance(choices, str) or len(choices) != 2 or choices[0] == choices[1]
        ):
            raise ValueError(f"choices must be two texts that differ; found {choices!r}")
        self._asked_template, self._asked_choices = template, choices
        if self._is_here:
            _ = self._causal

    def key(self) -> dict[str, Any]:
        """Return what answers depend on; where the model lies is no part of it."""
        scaled = {"scale": self.divisor} if self.divisor != 1 else {}
        return {**self._read_by(), "template": self._template, "choices": self._choices, **scaled}

    def answer(self, questions: Sequence[Question], device: torch.device) -> Iterator[Answers]:
        """Yield probabilities, a batch at a time; see `TextOracle.answer`."""
        tokenizer = load_tokenizer(self._folder, trust_remote_code=self._trust)
        choices = self.choice_ids(tokenizer) if self._causal else []

        def read(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
            logits = (
                _last_logits(model, ids, mask)[:, choices]
                if choices
                else model(input_ids=ids, attention_mask=mask).logits
            )
            logits = logits.cpu().double() / self.divisor
            return logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 0]

        yield from batches.answers(
            self.sequences(tokenizer, questions),
            name=self.name,
            load=self._load,
            read=read,
            batch_size=self._batch_size,
            device=device,
            padding=tokenizer.pad_token_id,
        )

    def choice_ids(self, tokenizer: Any) -> list[int]:
        """Return the token ids of both answers of a causal model.

        Raises:
            ValueError: one that is not one token.
        """
        found = [tokenizer(choice, add_special_tokens=False)["input_ids"] for choice in self._choices]
        for choice, ids in zip(self._choices, found, strict=True):
            if len(ids) != 1:
                raise ValueError(
                    f"pairwise model {self.name}: each of choices must be one token; {choice!r} is {len(ids)}"
                )
        return [ids[0] for ids in found]

    def sequences(self, tokenizer: Any, questions: Sequence[Question]) -> Iterator[list[int]]:
        """Yield the token ids of each question, both responses in the template, as the model reads them.

        Raises:
            ValueError: a question that cannot be written or that is too long without its context; names it.
        """
        longest = texts.longest(self._config, self._max_length)
        rendered = (self._rendered(tokenizer, *numbered) for numbered in enumerate(questions))
        for place, ids in enumerate(self._ids(tokenizer, rendered)):
            if longest is not None and len(ids) > longest:
                ids = self._shortened(tokenizer, place, questions[place], len(ids), longest)
            yield ids

    def _shortened(
        self, tokenizer: Any, place: int, question: Question, length: int, longest: int
    ) -> list[int]:
        """Return the token ids of a question without the beginning of its context."""
        context = tokenizer(self._context(question.prompt), add_special_tokens=False)["input_ids"]
        while context:
            context = context[length - longest :]
            text = tokenizer.decode(context, clean_up_tokenization_spaces=False)
            ids = next(self._ids(tokenizer, [self._rendered(tokenizer, place, question, text)]))
            if len(ids) <= longest:
                return ids
            length = len(ids)
        raise ValueError(
            f"pairwise model {self.name}: question {place} has {length} tokens without its context; at most "
            f"{longest} are read (max_length, or the model's positions)"
        )

    def _rendered(self, tokenizer: Any, place: int, question: Question, context: str | None = None) -> str:
        if question.second is None:
            raise ValueError(f"pairwise model {self.name}: question {place} has no second response")
        if context is None:
            context = self._context(question.prompt)
        try:
            mark = Literal(tokenizer).marked
            parts = {"context": mark(context), "first": mark(question.first), "second": mark(question.second)}
            # In one pass: what looks like a place in a text is part of the text.
            text = _PLACE.sub(lambda found: parts[found[1]], self._template or TEMPLATE)
            if tokenizer.chat_template is None:
                return texts.checked(text)
            turn = {"role": "user", "content": text}
            return texts.written(tokenizer, [turn], marked=True, add_generation_prompt=self._causal)
        except ValueError as error:
            raise ValueError(f"pairwise model {self.name}: question {place}: {error}") from None

    def _context(self, prompt: Text) -> str:
        return _turns(prompt) if self._template is None else texts.plain(prompt)

    def _ids(self, tokenizer: Any, rendered: Iterable[str]) -> Iterator[list[int]]:
        if tokenizer.chat_template is None:
            literal = Literal(tokenizer)
            return (
                tokenizer.build_inputs_with_special_tokens(literal.ids(text))
                if MARK in text
                else tokenizer(text, verbose=False)["input_ids"]
                for text in rendered
            )
        return texts.token_ids(tokenizer, rendered, begin=self._template is not None)

    def _load(self) -> PreTrainedModel:
        how: dict[str, Any] = {"dtype": self._dtype, "trust_remote_code": self._trust}
        if self._causal:
            return load_whole(AutoModelForCausalLM, self._folder, **how)
        network, spare = AutoModelForSequenceClassification, ("lm_head.",)
        return load_whole(network, self._folder, head="classifier", spare=spare, **how)

    @property
    def _template(self) -> str | None:
        return self._card.template if self._asked_template is None else self._asked_template

    @property
    def _choices(self) -> list[str]:
        chosen = self._card.choices if self._asked_choices is None else self._asked_choices
        return [str(choice) for choice in (CHOICES if chosen is None else chosen)]

    @cached_property
    def _causal(self) -> bool:
        """Whether the model is a causal language model, and not a sequence classifier."""
        architectures = list(self._config.architectures or [])
        if any(name.endswith("ForSequenceClassification") for name in architectures):
            if self._config.num_labels not in (1, 2):
                raise ValueError(
                    f"pairwise model {self.name} has {self._config.num_labels} outputs; it needs 1 or 2"
                )
            return False
        if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures):
            return True
        raise ValueError(
            f"pairwise model {self.name}: found the architecture {', '.join(architectures) or 'unnamed'}; known "
            "are *ForCausalLM, *LMHeadModel and *ForSequenceClassification"
        )


def _turns(prompt: Text) -> str:
    """Write a prompt as the card of RLHFlow's model does."""
    return "\n" + "".join(f"\n<turn> {turn['role']}\n {turn['content']}" for turn in asked(prompt)) + "\n"


def _last_logits(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the logits (B, vocabulary) after each question."""
    last, rows = mask.sum(1) - 1, torch.arange(len(ids), device=ids.device)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        # Only where some question ends: those of a whole batch may not fit in memory.
        return model(input_ids=ids, attention_mask=mask, logits_to_keep=last).logits[rows, rows]
    return model(input_ids=ids, attention_mask=mask).logits[rows, last]
