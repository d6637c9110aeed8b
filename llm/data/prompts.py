"""Prompts to sample responses for: read in any known format, checked, split over the iterations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from mnpo.common.digests import SIZE
from mnpo.llm.config import Data, Prompts
from mnpo.llm.data.blocks import Lazy
from mnpo.llm.data.encoding import Encoder, tokenizer_digest
from mnpo.llm.data.formats import Malformed, Text, as_row, asked
from mnpo.llm.data.ids import ids_digests, list_lengths
from mnpo.llm.data.kept import Encodings, Table
from mnpo.llm.data.pairs import BLOCK, Block, Report, describe
from mnpo.llm.data.schema import PROMPTS, arrow_schema
from mnpo.llm.data.sources import Raw, content_of, raw_rows
from mnpo.llm.data.tables import batches
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.storage.store import Digests, Places, as_digests

#: Columns that may hold a prompt, in this order.
COLUMNS = ("prompt", "messages", "turns", "instruction", "question")


@dataclass(frozen=True)
class Prompt:
    """What is asked.

    Attributes:
        number: its place in the source, counted from 1.
        text: a text, or messages where the policy has a chat template.
        ids: token ids, up to where the response begins.
    """

    number: int
    text: Text
    ids: tuple[int, ...]


class PromptList(Lazy[Prompt]):
    """Prompts that lie in a table; each comes into being when it is looked at.

    Args:
        table: `mnpo.llm.data.schema.PROMPTS`.
        places: which rows, in this order; all unless given.
    """

    def __init__(self, table: Dataset, places: Places | None = None) -> None:
        self._table = table
        self._rows = table.with_format("arrow")
        self._places = np.arange(len(table)) if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    def one(self, place: int) -> Prompt:
        """See `Lazy`."""
        return next(self._prompts(self._places[[place]]))

    def some(self, places: range) -> PromptList:
        """See `Lazy`."""
        return self.take(np.array(places, dtype=np.int64))

    def __iter__(self) -> Iterator[Prompt]:
        for start in range(0, len(self), BLOCK):
            yield from self._prompts(self._places[start : start + BLOCK])
            let_go()

    def take(self, places: Places) -> PromptList:
        """Return those at some places, in that order."""
        return PromptList(self._table, self._places[places])

    def digests(self) -> Digests:
        """Return a digest of the token ids of each, (N,)."""
        ids = batches(self._table, ["prompt_ids"])
        found = [ids_digests(table.column(0)) for table in ids]
        return (np.concatenate(found) if found else as_digests([]))[self._places]

    def texts(self) -> Iterator[list[str]]:
        """Yield the prompts' texts as they stand in data sets, some at a time."""
        for start in range(0, len(self), BLOCK):
            rows = self._rows[self._places[start : start + BLOCK].tolist()]
            yield rows.column("prompt").to_pylist()
            let_go()

    def lengths(self) -> Places:
        """Return how many tokens each has, (N,)."""
        found = [list_lengths(table.column(0)) for table in batches(self._table, ["prompt_ids"])]
        return np.concatenate(found)[self._places] if found else np.empty(0, dtype=np.int64)

    def _prompts(self, places: Places) -> Iterator[Prompt]:
        rows = self._rows[places.tolist()].to_pylist()
        return (Prompt(row["row"], json.loads(row["prompt"]), tuple(row["prompt_ids"])) for row in rows)


def read_prompts(
    data: Data, wanted: Prompts, tokenizer: Any, seed: int, encodings: Encodings | None = None
) -> tuple[dict[str, PromptList], dict[str, Report]]:
    """Return the prompts of this iteration, "train", and the held-out ones, "eval".

    Texts become user turns if the tokenizer has a chat template. What is empty, malformed, repeated or longer than
    max_prompt_length is left out and counted.

    Args:
        data: where prompts come from unless `wanted` says, and how long they may be.
        wanted: which prompts.
        tokenizer: the policy's.
        seed: of the choice of held-out ones.
        encodings: where they are kept as token ids; in memory unless given.

    Raises:
        ValueError: no prompts to be had, or too few for what is asked of them.
    """
    name, *own = _source(data, wanted)
    sources = {"train": (name, own[0], own[1])}
    if wanted.eval_prompt_dataset_name or wanted.eval_prompt_dataset_split:
        held = wanted.eval_prompt_dataset_name or name
        sources["eval"] = (held, own[0], wanted.eval_prompt_dataset_split)
    kept = encodings or Encodings()
    read = {
        part: _read(data, wanted.max_prompts, source, tokenizer, kept) for part, source in sources.items()
    }
    prompts = {part: PromptList(found.rows) for part, found in read.items()}
    if "eval" not in prompts:
        prompts |= _hold_out(wanted.eval_prompts, prompts["train"], seed)
    else:
        if wanted.eval_prompts >= 1:
            prompts["eval"] = prompts["eval"].some(range(len(prompts["eval"]))[: int(wanted.eval_prompts)])
        tested = np.isin(prompts["train"].digests(), prompts["eval"].digests())
        prompts["train"] = prompts["train"].take(np.flatnonzero(~tested))
    if wanted.prompt_part is not None:
        prompts["train"] = in_part(prompts["train"], wanted.prompt_part)
    return prompts, {part: found.report for part, found in read.items()}


def prompt_texts(data: Data, wanted: Prompts) -> tuple[list[Text], Report]:
    """Return all prompts as conversations, whoever is asked; what is empty, malformed or repeated is left out.

    Args:
        data: where prompts come from unless `wanted` says.
        wanted: which prompts.

    Raises:
        ValueError: no prompts to be had.
    """
    name, config, split = _source(data, wanted)
    report, found = Report(), dict[str, Text]()
    for number, raw in islice(raw_rows(name, config, split), wanted.max_prompts):
        report.read += 1
        try:
            if isinstance(raw, Malformed):
                raise raw
            text = _prompt_of(raw, data.columns.get("prompt"), chat=True)
        except Malformed as reason:
            report.drop("empty" if str(reason).startswith("empty") else "malformed", number, str(reason))
            continue
        if as_json(text) in found:
            report.dropped["repeated"] += 1
        found[as_json(text)] = text
    report.kept = len(found)
    if not found:
        raise ValueError(f"dataset {name} has no prompt that can be used: {describe(report)}")
    return list(found.values()), report


def _source(data: Data, wanted: Prompts) -> tuple[str, str | None, str | None]:
    """Return where prompts come from: a name, a configuration and a split.

    Raises:
        ValueError: nobody says.
    """
    name = wanted.prompt_dataset_name or data.dataset_name
    if name is None:
        raise ValueError("the configuration lacks prompt_dataset_name, the prompts to sample responses for")
    own = (wanted.prompt_dataset_config_name, wanted.prompt_dataset_split)
    if wanted.prompt_dataset_name in (None, data.dataset_name) and own == (None, None):
        own = (data.dataset_config_name, data.dataset_split)
    return name, *own


def in_part(prompts: PromptList, place: Sequence[int]) -> PromptList:
    """Return those of one iteration.

    Args:
        prompts: all that are not held out.
        place: which part, from 1, and of how many.

    Raises:
        ValueError: fewer prompts than parts.
    """
    part, parts = place
    if len(prompts) < parts:
        raise ValueError(
            f"{len(prompts)} prompts cannot be split over {parts} iterations; give prompt_use=all"
        )
    return prompts.some(range(len(prompts) * (part - 1) // parts, len(prompts) * part // parts))


def lengths_of(prompts: Sequence[Prompt]) -> Sequence[int]:
    """Return how many tokens each has."""
    if isinstance(prompts, PromptList):
        found: list[int] = prompts.lengths().tolist()
        return found
    return [len(prompt.ids) for prompt in prompts]


def check_room(prompts: Sequence[Prompt], max_length: int) -> None:
    """Refuse prompts that leave no room for a response.

    Raises:
        ValueError: names the first.
    """
    for place, length in enumerate(lengths_of(prompts)):
        if length >= max_length:
            prompt = prompts[place]
            raise ValueError(
                f"prompt {prompt.number} has {len(prompt.ids)} tokens, which leaves no room within max_length "
                f"{max_length}"
            )


def check_held_out(prompts: Sequence[Prompt], max_length: int, asked: float) -> None:
    """Refuse held-out prompts that are too few for an interval, or too long for a response.

    Raises:
        ValueError: says how many are left of `asked`, the key eval_prompts.
    """
    if len(prompts) < 2:
        raise ValueError(
            f"an evaluation needs at least 2 held-out prompts: eval_prompts={asked:g} leaves {len(prompts)}"
        )
    check_room(prompts, max_length)


def _hold_out(share: float, prompts: PromptList, seed: int) -> dict[str, PromptList]:
    held = int(share if share >= 1 else round(share * len(prompts)))
    if held >= len(prompts):
        raise ValueError(f"eval_prompts must leave prompts to train on; found {held} of {len(prompts)}")
    order = np.random.default_rng(seed).permutation(len(prompts))
    return {"eval": prompts.take(np.sort(order[:held])), "train": prompts.take(order[held:])}


def _read(
    data: Data, most: int | None, source: tuple[str, str | None, str | None], tokenizer: Any, kept: Encodings
) -> Table:
    column, chat = data.columns.get("prompt"), tokenizer.chat_template is not None

    def key() -> dict[str, Any]:
        return {
            "prompts": content_of(*source),
            "read": [most, column],
            "tokenizer": tokenizer_digest(tokenizer),
            "max_prompt_length": data.max_prompt_length,
        }

    def encode(share: tuple[int, int]) -> Iterator[Block]:
        rows, (mine, world) = iter(islice(raw_rows(*source), most)), share
        encoder = Encoder(tokenizer)
        for place in count():
            batch = list(islice(rows, BLOCK))
            if not batch:
                return
            if place % world == mine:
                yield _encoded(batch, encoder, column, chat, data.max_prompt_length)

    seen: set[bytes] = set()

    def once(rows: pa.Table, report: Report) -> pa.Table:
        first = []
        for digest in ids_digests(rows.column("prompt_ids")).view(f"V{SIZE}").tolist():
            first.append(digest not in seen)
            seen.add(digest)
        if not all(first):
            report.dropped["repeated"] += len(first) - sum(first)
        return rows.filter(pa.array(first, pa.bool_()))

    def check(report: Report) -> None:
        if not report.kept:
            raise ValueError(f"dataset {source[0]} has no prompt that can be used: {describe(report)}")

    return kept.table(key, PROMPTS, encode, sift=once, check=check)


def _encoded(batch: Sequence[Raw], encoder: Encoder, column: str | None, chat: bool, longest: int) -> Block:
    report, usable = Report(read=len(batch)), []
    for number, raw in batch:
        try:
            if isinstance(raw, Malformed):
                raise raw
            text = _prompt_of(raw, column, chat)
            usable.append((number, text, encoder.render(text, [])))
            report.spelled += encoder.spells(text)
        except Malformed as reason:
            report.drop("empty" if str(reason).startswith("empty") else "malformed", number, str(reason))
    found = encoder.tokens([rendered for _, _, rendered in usable])
    entries = [
        {"row": number, "prompt": as_json(text), "prompt_ids": ids}
        for (number, text, _), (ids, _) in zip(usable, found, strict=True)
        if len(ids) <= longest
    ]
    if len(entries) < len(usable):
        report.dropped["too long"] += len(usable) - len(entries)
    return pa.Table.from_pylist(entries, schema=arrow_schema(PROMPTS)), report


def _prompt_of(raw: Mapping[str, Any], column: str | None, chat: bool) -> Text:
    """Return the prompt of a row: a text, messages up to the last user turn, or what a preference pair begins with.

    Raises:
        Malformed: a row without one.
    """
    name = column or next((known for known in COLUMNS if raw.get(known) is not None), None)
    if name is None:
        if raw.get("chosen") is None:
            raise Malformed(f"none of the columns {', '.join(COLUMNS)}")
        text = as_row(0, raw).prompt
        return asked(text) if chat else text
    value = raw.get(name)
    if isinstance(value, list) and value and all(isinstance(turn, str) for turn in value):
        value = value[0]  # the first of several turns of a user
    if isinstance(value, str):
        further = raw.get("input") if name == "instruction" else None
        text = f"{value}\n{further}" if further and isinstance(further, str) else value
        if not text.strip():
            raise Malformed("empty prompt")
        return asked(text) if chat else text
    messages = asked(value)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise Malformed("empty prompt")
    if not chat:
        raise Malformed("a conversation, for which the tokenizer has no chat template")
    return messages


def as_json(text: Text) -> str:
    """Return a prompt as it stands in data sets."""
    return json.dumps(text)
