"""Preference pairs as token ids: rows encoded, cut to length, counted and stored as Arrow."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset
from jinja2 import TemplateError

from mnpo.llm.formats import NUMBERS, Malformed, Row, Text
from mnpo.llm.storage import whole_folder

#: Malformed rows that a report names.
NAMED = 5


@dataclass(frozen=True)
class Encoded:
    """A prompt and one response as token ids.

    Attributes:
        prompt: as the model reads it, with its template and one BOS.
        response: with the token that ends the turn.
        text: the response's text.
    """

    prompt: list[int]
    response: list[int]
    text: str


class Encoder:
    """Encodes rows with a tokenizer and its own chat template.

    Conversations go through the chat template, which writes the special tokens; plain texts get the tokenizer's BOS
    and an EOS after the response. What a template puts after the token that ends a turn is not part of a response.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = tuple(tokenizer.all_special_tokens)

    def encode(self, prompt: Text, response: Text, *, ended: bool = True) -> Encoded:
        """Encode one response to a prompt.

        Args:
            prompt: a text or messages.
            response: a text or messages, of the same kind.
            ended: whether the response is whole; if not, it gets no end.

        Raises:
            Malformed: an empty prompt or response, or a conversation that the chat template refuses.
            ValueError: a conversation where the tokenizer has no chat template.
        """
        text = response if isinstance(response, str) else "\n".join(turn["content"] for turn in response)
        if not text.strip():
            raise Malformed("empty response")
        if isinstance(prompt, str) and isinstance(response, str):
            if not prompt.strip():
                raise Malformed("empty prompt")
            ids = self._ids(prompt, True)
            rest = self._continuation(prompt, response, ids, True)
            end = [self._tokenizer.eos_token_id] if ended and self._tokenizer.eos_token_id is not None else []
            return Encoded(ids, rest + end, text)
        if isinstance(prompt, str) or isinstance(response, str):
            raise Malformed("a text with a conversation")
        if not any(turn["content"].strip() for turn in prompt):
            raise Malformed("empty prompt")
        start, after = self._templated(prompt, response)
        if not ended:
            after = after[: after.rfind(text.strip()) + len(text.strip())]
        ids = self._ids(start, False)
        return Encoded(ids, self._continuation(start, after, ids, False), text)

    def _templated(self, prompt: list[dict[str, str]], response: list[dict[str, str]]) -> tuple[str, str]:
        if self._tokenizer.chat_template is None:
            raise ValueError("the data are conversations and the tokenizer has no chat template")
        try:
            start = self._tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            whole = self._tokenizer.apply_chat_template([*prompt, *response], tokenize=False)
        except (TemplateError, ValueError) as error:
            raise Malformed(f"the chat template refuses it: {error}") from None
        if not whole.startswith(start):
            raise Malformed("the chat template changes the prompt when a response follows")
        after = whole[len(start) :]
        if after.rstrip().endswith(self._special):
            return start, after.rstrip()
        return start, after + (self._tokenizer.eos_token or "")

    def _continuation(self, start: str, after: str, ids: list[int], special: bool) -> list[int]:
        """Tokens of a text that follows another, without those tokens changing."""
        both = self._ids(start + after, special)
        return both[len(ids) :] if both[: len(ids)] == ids else self._ids(after, False)

    def _ids(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        begin, end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        if (
            special
            and len(ids) > 1
            and ids[-1] == end
            and end != begin
            and not text.endswith(str(self._tokenizer.eos_token))
        ):
            ids = ids[:-1]
        return ids[1:] if begin is not None and ids[:2] == [begin, begin] else ids


@dataclass
class Report:
    """What became of the rows of a data set.

    Attributes:
        read, kept: numbers of rows.
        dropped: reason -> number of rows: malformed, empty, identical, too long.
        truncated: what -> number of rows: prompt, chosen, rejected.
        malformed: the first malformed rows: (row number, reason).
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    malformed: list[tuple[int, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "truncated": dict(self.truncated),
            "malformed": [list(entry) for entry in self.malformed],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that `as_dict` was made of."""
        counts = {name: Counter(data[name]) for name in ("dropped", "truncated")}
        return cls(data["read"], data["kept"], **counts, malformed=[(n, why) for n, why in data["malformed"]])


_COLUMNS = {
    "row": pa.int64(),
    "prompt": pa.string(),
    "chosen": pa.string(),
    "rejected": pa.string(),
    "chosen_cut": pa.bool_(),
    "rejected_cut": pa.bool_(),
    "prompt_ids": pa.list_(pa.int32()),
    "chosen_ids": pa.list_(pa.int32()),
    "rejected_ids": pa.list_(pa.int32()),
    **dict.fromkeys(NUMBERS, pa.float64()),
}


def encode_rows(
    rows: Iterable[Row | tuple[int, Malformed]],
    tokenizer: Any,
    *,
    max_length: int,
    max_prompt_length: int,
    drop_overlong: bool = False,
) -> tuple[Dataset, Report]:
    """Encode rows into a data set of token ids.

    Args:
        rows: from `mnpo.llm.formats.read`.
        tokenizer: the policy's.
        max_length: tokens of prompt and response; a longer response loses its end.
        max_prompt_length: a longer prompt loses its beginning, but for BOS.
        drop_overlong: drop what is too long instead.

    Returns:
        The data set, with the columns row (its number in the source), prompt (JSON: a text or messages), chosen and
        rejected (texts, as far as they were kept), chosen_cut and rejected_cut, prompt_ids, chosen_ids,
        rejected_ids and the numbers of `NUMBERS` that any row has; and the report.

    Raises:
        ValueError: lengths that leave no room for a response, or no row that can be used.
    """
    if not 1 <= max_prompt_length < max_length:
        raise ValueError(
            f"max_prompt_length must be at least 1 and below max_length; found {max_prompt_length} and {max_length}"
        )
    encoder, report, kept = Encoder(tokenizer), Report(), []
    for row in rows:
        report.read += 1
        if isinstance(row, tuple):
            _drop(report, "malformed", row[0], str(row[1]))
            continue
        if _stripped(row.chosen) == _stripped(row.rejected):
            report.dropped["identical"] += 1
            continue
        try:
            sides = [encoder.encode(row.prompt, side) for side in (row.chosen, row.rejected)]
        except Malformed as reason:
            kind = "empty" if str(reason).startswith("empty") else "malformed"
            _drop(report, kind, row.number, str(reason))
            continue
        prompt, cut_prompt = _cut_prompt(sides[0].prompt, max_prompt_length, tokenizer.bos_token_id)
        room = max_length - len(prompt)
        cut = [len(side.response) > room for side in sides]
        if drop_overlong and (cut_prompt or any(cut)):
            report.dropped["too long"] += 1
            continue
        report.truncated.update(
            what for what, was in (("prompt", cut_prompt), ("chosen", cut[0]), ("rejected", cut[1])) if was
        )
        ids = [side.response[:room] for side in sides]
        if ids[0] == ids[1]:
            report.dropped["identical when cut"] += 1
            continue
        texts = [
            tokenizer.decode(kept_ids, skip_special_tokens=True) if was else side.text
            for kept_ids, was, side in zip(ids, cut, sides, strict=True)
        ]
        kept.append(
            {
                "row": row.number, "prompt": json.dumps(row.prompt), "chosen": texts[0], "rejected": texts[1],
                "chosen_cut": cut[0], "rejected_cut": cut[1],
                "prompt_ids": prompt, "chosen_ids": ids[0], "rejected_ids": ids[1], **row.numbers,
            }
        )  # fmt: skip
    report.kept = len(kept)
    if not kept:
        raise ValueError(f"no row of the data can be used: {describe(report)}")
    present = set().union(*(entry.keys() for entry in kept))
    schema = pa.schema([(name, kind) for name, kind in _COLUMNS.items() if name in present])
    return Dataset(pa.Table.from_pylist(kept, schema=schema)), report


def describe(report: Report) -> str:
    """Return one line on what was read, dropped and truncated."""
    parts = [f"{report.read} rows read, {report.kept} kept"]
    parts += [f"{count} dropped: {reason}" for reason, count in sorted(report.dropped.items())]
    parts += [f"{count} truncated: {what}" for what, count in sorted(report.truncated.items())]
    if report.malformed:
        named = "; ".join(f"row {number}: {reason}" for number, reason in report.malformed)
        parts.append(f"({named}{'; ..' if report.dropped['malformed'] > NAMED else ''})")
    return ", ".join(parts)


def content_digest(pairs: Dataset) -> str:
    """Return a digest of all rows."""
    digest = hashlib.blake2b(digest_size=16)
    for row in pairs:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def store(pairs: Dataset, folder: Path) -> None:
    """Write a data set; the folder appears whole."""
    with whole_folder(folder) as partial:
        pairs.save_to_disk(str(partial))


def _drop(report: Report, kind: str, number: int, reason: str) -> None:
    report.dropped[kind] += 1
    if kind == "malformed" and len(report.malformed) < NAMED:
        report.malformed.append((number, reason))


def _stripped(text: Text) -> Any:
    return text.strip() if isinstance(text, str) else [(t["role"], t["content"].strip()) for t in text]


def _cut_prompt(ids: list[int], longest: int, begin: int | None) -> tuple[list[int], bool]:
    if len(ids) <= longest:
        return ids, False
    keeps_begin = begin is not None and ids[0] == begin and longest > 1
    return ([ids[0], *ids[len(ids) - longest + 1 :]] if keeps_begin else ids[-longest:]), True
