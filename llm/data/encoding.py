"""Prompts and responses as token ids, as a model with its own tokenizer and chat template reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from mnpo.common.digests import data_digest, file_digest
from mnpo.llm.data import templates
from mnpo.llm.data.formats import Malformed, Message, Text, first_line
from mnpo.llm.data.literal import ALLOWED, MARK, Literal

#: Rows on which a short way of tokenising is compared with the whole one.
_TRIED = 64


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
    is not part of a response. Control tokens that a turn of a conversation spells are read as text
    (`mnpo.llm.data.literal`); plain texts are read as they are.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        marked = [str(t) for t in getattr(tokenizer, "added_tokens_decoder", {}).values() if t.special]
        self._special = (*tokenizer.all_special_tokens, *marked)
        self._eos = str(tokenizer.eos_token or "")
        begin = tokenizer("a")["input_ids"][:1]
        self._begin = begin if begin == [tokenizer.bos_token_id] else []
        self._marks = Marks(tokenizer)
        self._literal = Literal(tokenizer)
        self._backend = getattr(tokenizer, "backend_tokenizer", None) if self._marks.any else None
        self._untried = _TRIED

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
        if isinstance(prompt, str):  # as it is: people publish texts with a template written around them
            start, after = prompt, texts
        else:
            said = [self._literal.turns(response) for response in responses if not isinstance(response, str)]
            texts = [text_of(response) for response in said]
            start, after = self._templated(self._literal.turns(prompt), said)
        try:
            "".join((start, *after)).encode()
        except UnicodeEncodeError:
            raise Malformed("a text that is not valid Unicode") from None
        finish = self._with_end if ended else _without_end
        return Rendered(start, [finish(*both) for both in zip(after, texts, strict=True)], plain)

    def spells(self, *texts: Text) -> bool:
        """Tell whether one of some texts or conversations spells a control token."""
        turns = [
            text if isinstance(text, str) else "\n".join(turn["content"] for turn in text) for text in texts
        ]
        return any(map(self._literal.spells, turns))

    def tokens(self, rendered: Sequence[Rendered]) -> list[tuple[list[int], list[list[int]]]]:
        """Return token ids of each prompt and its responses; a prompt's do not depend on what follows.

        A prompt is tokenised once, and its responses from its last mark on. The first rows are tokenised as a whole
        as well: where that differs, all others are too.
        """
        tried, self._untried = rendered[: self._untried], max(0, self._untried - len(rendered))
        if tried and self._backend is not None and self._tokens(tried) != self._tokens(tried, whole=True):
            self._backend = None
        return self._tokens(rendered, whole=self._backend is None)

    def _tokens(
        self, rendered: Sequence[Rendered], whole: bool = False
    ) -> list[tuple[list[int], list[list[int]]]]:
        starts = list(dict.fromkeys(r.start for r in rendered))
        prompts = dict(zip(starts, self._ids(starts, whole), strict=True))
        marks = {text: (0, 0) if whole else self._marks.last(text, ids) for text, ids in prompts.items()}
        texts = [r.start[marks[r.start][0] :] + after for r in rendered for after in r.after]
        ids = iter(self._ids(texts, whole))
        found = []
        for start, after, plain in rendered:
            prompt = prompts[start]
            tail = prompt[marks[start][1] :]
            responses = []
            for text in after:
                both = next(ids)
                joined = both[: len(tail)] == tail
                responses.append(both[len(tail) :] if joined else self._ids([text], whole)[0])
            if plain:
                prompt = self._begin + prompt
            doubled = prompt[:2] == [self._tokenizer.bos_token_id] * 2
            found.append((prompt[1:] if doubled else prompt, responses))
        return found

    def _templated(self, prompt: list[Message], responses: Sequence[Text]) -> tuple[str, list[str]]:
        if self._tokenizer.chat_template is None:
            raise ValueError("the data are conversations and the tokenizer has no chat template")
        template = partial(templates.render, self._tokenizer)
        try:
            start = template(prompt, add_generation_prompt=True)
            whole = [template([*prompt, *response]) for response in responses]
        except templates.Unbounded:
            raise
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise Malformed(f"the chat template refuses it: {first_line(error)}") from None
        if not all(text.startswith(start) for text in whole):
            raise Malformed("the chat template changes the prompt when a response follows")
        return start, [text[len(start) :] for text in whole]

    def _with_end(self, after: str, _: str) -> str:
        """End a response with the special token that its template ends a turn with, or else with EOS."""
        ended = after.rstrip()
        return ended if ended.endswith(self._special) else after + self._eos

    def _ids(self, texts: list[str], whole: bool) -> list[list[int]]:
        if not texts:
            return []
        if any(MARK in text for text in texts):
            return [
                self._literal.ids(text) if MARK in text else self._ids([text], whole)[0] for text in texts
            ]
        if not whole and self._backend is not None:
            self._backend.no_truncation()  # whoever used the tokenizer before may have left some
            self._backend.no_padding()
            found = self._backend.encode_batch_fast(texts, add_special_tokens=False)
            return [one.ids for one in found]
        plainly = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
        ids: list[list[int]] = self._tokenizer(texts, **plainly)["input_ids"]
        return ids


class Marks:
    """Special tokens at which a tokenizer cuts a text before it does anything else.

    What comes before such a token, and what comes after it, is tokenised on its own: the ids of a text are those of
    its beginning up to the last of them, and those of the rest from it on. That holds for added special tokens that
    are found in the text as it is, take no space from what is beside them and do not overlap with others.
    """

    def __init__(self, tokenizer: Any) -> None:
        fast = bool(getattr(tokenizer, "is_fast", False))
        self._added = tokenizer.added_tokens_decoder if fast else {}
        self._known: dict[int, str | None] = {}

    @property
    def any(self) -> bool:
        """Whether there are added tokens at all."""
        return bool(self._added)

    def last(self, text: str, ids: Sequence[int]) -> tuple[int, int]:
        """Return where a text's last mark begins: which letter, and which of its token ids; (0, 0) without one."""
        tried: set[int] = set()
        for place in range(len(ids) - 1, -1, -1):
            token = ids[place]
            mark = None if token in tried else self._mark(token)
            # Each time that it is written it was read as itself, and no other time: then the last is the last.
            if mark is not None and text.count(mark) == list(ids).count(token):
                return text.rfind(mark), place
            tried.add(token)
        return 0, 0

    def _mark(self, token: int) -> str | None:
        if token not in self._added:
            return None
        if token not in self._known:
            self._known[token] = self._checked(self._added[token])
        return self._known[token]

    def _checked(self, added: Any) -> str | None:
        text = str(added.content)
        greedy = added.lstrip or added.rstrip or added.single_word or added.normalized
        if not added.special or greedy or not text:
            return None
        inside = sum(text in str(other.content) for other in self._added.values())
        overlaps = any(text[:size] == text[-size:] for size in range(1, len(text)))
        return text if inside == 1 and not overlaps else None


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a digest of all that token ids depend on: vocabulary, rules, special tokens and chat template."""
    described = [
        type(tokenizer).__name__,
        tokenizer("a")["input_ids"],  # whether it adds BOS or EOS
        bool(getattr(tokenizer, "split_special_tokens", False)),
        bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
        tokenizer.chat_template,
        ["control tokens in texts", bool(getattr(tokenizer, ALLOWED, False))],
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        sorted((place, str(token), token.special) for place, token in tokenizer.added_tokens_decoder.items()),
    ]
    if getattr(tokenizer, "is_fast", False):
        return data_digest(*described, tokenizer.backend_tokenizer.to_str())
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        return data_digest(*described, [[file.name, file_digest(file)] for file in files])


def text_of(response: Text) -> str:
    """Return the text of a response."""
    return response if isinstance(response, str) else response[0]["content"]


def _without_end(after: str, text: str) -> str:
    place = after.rfind(text.strip())
    return after if place < 0 else after[: place + len(text.strip())]
