"""Text is text: what people write is never read as a control token, whatever it spells.

Tokenizers look for special tokens in a text before all else, so that a user who writes `<end_of_turn>` would end
the turn. Here such words are marked before a chat template writes its own around them; what lies between the
template's is then tokenised as if there were no special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from mnpo.llm.data.formats import Malformed, Message

#: Set on a tokenizer whose user wants control tokens in texts to be read as such.
ALLOWED = "mnpo_control_tokens_in_text"
#: No character, by Unicode's rule: it comes after the first letter of a word that spells a control token.
MARK = "\ufdd0"
#: Texts that tell whether a tokenizer's pieces, each by itself, are those of the whole.
_TRIALS = ("a{0}b", "{0} a b{0}\nc {0}", " a{0}{0}b ")


class Literal:
    """Marks texts for a tokenizer, and tokenises what was marked."""

    def __init__(self, tokenizer: Any) -> None:
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._added = {str(token): token for token in added.values()}
        special = {str(token) for token in added.values() if token.special} | set(
            tokenizer.all_special_tokens
        )
        self._words = sorted((word for word in special if len(word) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._words)) or r"(?!)")
        self._tokenizer = tokenizer
        self._on = not getattr(tokenizer, ALLOWED, False)
        self._exact: bool | None = None

    def marked(self, text: str) -> str:
        """Return a text whose control tokens are marked.

        Raises:
            Malformed: a text with the mark, or one that this tokenizer cannot read as text.
        """
        if not self._on:
            return text
        if MARK in text:
            raise Malformed(f"a text with U+{ord(MARK):04X}, which is no character")
        found = self._pattern.sub(lambda word: word[0][0] + MARK + word[0][1:], text)
        if found != text and not self._reads_pieces():
            raise Malformed(
                "a text that spells a control token, which this tokenizer reads as such; with "
                "special_tokens_in_text=allow it may"
            )
        return found

    def spells(self, text: str) -> bool:
        """Tell whether a text spells a control token."""
        return self._pattern.search(text) is not None

    def turns(self, messages: Sequence[Message]) -> list[Message]:
        """Return a conversation with marked contents; errors as for `marked`."""
        return [{**turn, "content": self.marked(turn["content"])} for turn in messages]

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a marked text in which the template has written its own control tokens."""
        found: list[int] = []
        place, before = 0, None
        for control in [*self._pattern.finditer(text), None]:
            piece = text[place : None if control is None else control.start()]
            if getattr(before, "rstrip", False):  # such tokens take the space beside them
                piece = piece.lstrip()
            before = None if control is None else self._added.get(control[0])
            if getattr(before, "lstrip", False):
                piece = piece.rstrip()
            found += self._plain(piece, first=place == 0)
            if control is not None:
                found.append(self._tokenizer.convert_tokens_to_ids(control[0]))
                place = control.end()
        return found

    def _plain(self, text: str, *, first: bool) -> list[int]:
        text = text.replace(MARK, "")
        if not text:
            return []
        if not first and self._later is not None:
            return list(self._later.encode(text, add_special_tokens=False).ids)
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        before = None if backend is None else backend.encode_special_tokens
        try:
            ids: list[int] = self._tokenizer(
                text, add_special_tokens=False, split_special_tokens=True, verbose=False
            )["input_ids"]
        finally:
            if backend is not None:  # the tokenizer would keep it, for whoever uses it next
                backend.encode_special_tokens = before
        return ids

    @cached_property
    def _later(self) -> Any:
        """The tokenizer for all pieces but a text's first, where it writes a space before that one only."""
        backend: Any = getattr(self._tokenizer, "backend_tokenizer", None)
        written = "" if backend is None else backend.to_str()
        if '"prepend_scheme":"first"' not in written:
            return None
        found = type(backend).from_str(
            written.replace('"prepend_scheme":"first"', '"prepend_scheme":"never"')
        )
        found.encode_special_tokens = True
        found.no_truncation()
        found.no_padding()
        return found

    def _reads_pieces(self) -> bool:
        """Whether pieces by themselves have the ids that they have in a whole."""
        if self._exact is None:
            self._exact = all(
                self.ids(trial.format(word))
                == self._tokenizer(trial.format(word), add_special_tokens=False, verbose=False)["input_ids"]
                for word in self._words
                for trial in _TRIALS
            )
        return self._exact
