"""Conversations as texts and as token ids, as those who judge them read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from mnpo.common.digests import bytes_digest
from mnpo.llm.data import templates
from mnpo.llm.data.formats import Malformed, Message, Text, asked, first_line
from mnpo.llm.data.literal import MARK, Literal

#: What a tokenizer is made of, as far as a folder holds it.
_TOKENIZER_FILES = (
    "tokenizer*",
    "vocab*",
    "merges*",
    "*.model",
    "special_tokens_map*",
    "added_tokens*",
    "*.jinja",
)
#: Texts that are tokenised at once.
_AT_ONCE = 1000


def plain(prompt: Text) -> str:
    """Write a prompt as its text, or a longer conversation with the name of who speaks."""
    turns = asked(prompt)
    if [turn["role"] for turn in turns] == ["user"]:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


def written(tokenizer: Any, messages: list[Message], *, marked: bool = False, **options: Any) -> str:
    """Write a conversation out with a tokenizer's chat template; control tokens that it spells are marked as text.

    Args:
        tokenizer: a model's.
        messages: the conversation.
        marked: whether that has been done.
        options: of the template.

    Raises:
        ValueError: no chat template, a conversation that it refuses, or a text that is not valid Unicode.
    """
    if tokenizer.chat_template is None:
        raise ValueError("the tokenizer has no chat template")
    try:
        said = messages if marked else Literal(tokenizer).turns(messages)
        text = templates.render(tokenizer, said, **options)
    except Malformed as error:
        raise ValueError(str(error)) from None
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the chat template refuses it: {first_line(error)}") from None
    return checked(text)


def checked(text: str) -> str:
    """Return a text that can be tokenised.

    Raises:
        ValueError: not valid Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text that is not valid Unicode") from None
    return text


def token_ids(tokenizer: Any, texts: Iterable[str], *, begin: bool = True) -> Iterator[list[int]]:
    """Yield the token ids of texts in which special tokens are written out, never with more than one BOS.

    A tokenizer that begins texts with BOS gives each text one, whether or not the template wrote it: Skywork's
    templates leave it to the tokenizer, others write it.

    Args:
        tokenizer: a model's.
        texts: any number.
        begin: whether texts may have a BOS at all.
    """
    bos = tokenizer.bos_token_id
    itself = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    plainly = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    source = iter(texts)
    literal = Literal(tokenizer)
    while piece := list(islice(source, _AT_ONCE)):
        for text, plain in zip(piece, tokenizer(piece, **plainly)["input_ids"], strict=True):
            ids = literal.ids(text) if MARK in text else plain
            first = next((place for place, token in enumerate(ids) if token != bos), len(ids))
            yield [bos] * (begin and (itself or first > 0)) + ids[first:]


def cut(ids: list[int], longest: int | None, bos: int | None) -> list[int]:
    """Return the last tokens of a text that is too long, after its BOS if it has one."""
    if longest is None or len(ids) <= longest:
        return ids
    kept = ids[len(ids) - longest :]
    return [ids[0], *kept[1:]] if ids[0] == bos else kept


def longest(config: Any, max_length: int | None) -> int | None:
    """Return how many tokens are read: as many as asked for, and no more than the model has positions for."""
    limits = [max_length, getattr(config.get_text_config(), "max_position_embeddings", None)]
    return min((limit for limit in limits if limit is not None and limit > 0), default=None)


def tokenizer_digest(folder: Path) -> str:
    """Return a digest of the files that make a folder's tokenizer, its chat template among them."""
    files = sorted({file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern) if file.is_file()})
    contents = [(file.name, file.read_bytes()) for file in files]
    return bytes_digest(
        b"".join(f"{name}\n{len(content)}\n".encode() + content for name, content in contents)
    ).hex()
