"""Prompts and responses as token ids, as a model with its own tokenizer and chat template reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from jinja2 import TemplateError

from mnpo.llm.data.formats import Malformed, Message, Text, first_line


@dataclass(frozen=True)
class Encoded:
    """A prompt and one response as token ids.

    Attributes:
        prompt: as the model reads it, with its template and one BOS.
        response: with the token that ends the turn.
    """

    prompt: list[int]
    response: list[int]


class Rendered(NamedTuple):
    """A prompt and what follows it as texts, all special tokens written out but for the BOS of a plain prompt."""

    start: str
    after: list[str]
    plain: bool


class Encoder:
    """Encodes rows with a tokenizer and its own chat template.

    Conversations go through the chat template, which writes the special tokens; plain texts get a BOS where the
    tokenizer adds one itself, and an EOS after the response. What a template puts after the token that ends a turn
    is not part of a response.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        marked = [str(t) for t in getattr(tokenizer, "added_tokens_decoder", {}).values() if t.special]
        self._special = (*tokenizer.all_special_tokens, *marked)
        self._eos = str(tokenizer.eos_token or "")
        begin = tokenizer("a")["input_ids"][:1]
        self._begin = begin if begin == [tokenizer.bos_token_id] else []

    def encode(self, prompt: Text, response: Text, *, ended: bool = True) -> Encoded:
        """Encode one response to a prompt.

        Args:
            prompt: a text or messages.
            response: a text or one message, of the same kind.
            ended: whether the response is whole; if not, it gets no end.

        Raises:
            Malformed: an empty prompt or response, or a conversation that the chat template refuses.
            ValueError: a conversation where the tokenizer has no chat template.
        """
        ids, (after,) = self.tokens([self.render(prompt, [response], ended=ended)])[0]
        return Encoded(ids, after)

    def render(self, prompt: Text, responses: Sequence[Text], *, ended: bool = True) -> Rendered:
        """Write out a prompt and its responses; arguments and errors as for `encode`."""
        plain = isinstance(prompt, str)
        turns = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
        texts = [text_of(response) for response in responses]
        if not all(text.strip() for text in texts):
            raise Malformed("empty response")
        if not any(text.strip() for text in turns):
            raise Malformed("empty prompt")
        if any(isinstance(response, str) != plain for response in responses):
            raise Malformed("a text with a conversation")
        start, after = (prompt, texts) if isinstance(prompt, str) else self._templated(prompt, responses)
        try:
            "".join((start, *after)).encode()
        except UnicodeEncodeError:
            raise Malformed("a text that is not valid Unicode") from None
        finish = self._with_end if ended else _without_end
        return Rendered(start, [finish(*both) for both in zip(after, texts, strict=True)], plain)

    def tokens(self, rendered: Sequence[Rendered]) -> list[tuple[list[int], list[list[int]]]]:
        """Return token ids of each prompt and its responses; a prompt's do not depend on what follows."""
        texts = [text for r in rendered for text in (r.start, *(r.start + after for after in r.after))]
        ids = iter(self._ids(texts) if texts else [])
        found = []
        for _, after, plain in rendered:
            prompt = next(ids)
            both = [next(ids) for _ in after]
            responses = [
                whole[len(prompt) :] if whole[: len(prompt)] == prompt else self._ids([text])[0]
                for whole, text in zip(both, after, strict=True)
            ]
            if plain:
                prompt = self._begin + prompt
            doubled = prompt[:2] == [self._tokenizer.bos_token_id] * 2
            found.append((prompt[1:] if doubled else prompt, responses))
        return found

    def _templated(self, prompt: list[Message], responses: Sequence[Text]) -> tuple[str, list[str]]:
        if self._tokenizer.chat_template is None:
            raise ValueError("the data are conversations and the tokenizer has no chat template")
        template = partial(self._tokenizer.apply_chat_template, tokenize=False)
        try:
            start = template(prompt, add_generation_prompt=True)
            whole = [template([*prompt, *response]) for response in responses]
        except (TemplateError, ValueError, TypeError) as error:
            raise Malformed(f"the chat template refuses it: {first_line(error)}") from None
        if not all(text.startswith(start) for text in whole):
            raise Malformed("the chat template changes the prompt when a response follows")
        return start, [text[len(start) :] for text in whole]

    def _with_end(self, after: str, _: str) -> str:
        """End a response with the special token that its template ends a turn with, or else with EOS."""
        ended = after.rstrip()
        return ended if ended.endswith(self._special) else after + self._eos

    def _ids(self, texts: list[str]) -> list[list[int]]:
        plainly = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
        return self._tokenizer(texts, **plainly)["input_ids"]


def text_of(response: Text) -> str:
    """Return the text of a response."""
    return response if isinstance(response, str) else response[0]["content"]


def _without_end(after: str, text: str) -> str:
    place = after.rfind(text.strip())
    return after if place < 0 else after[: place + len(text.strip())]
