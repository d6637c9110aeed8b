"""Preference pairs as token ids: rows encoded, cut to length, counted and stored as Arrow."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from datasets import Dataset

from mnpo.llm.data.encoding import Encoder, Rendered, text_of
from mnpo.llm.data.formats import Malformed, Row
from mnpo.llm.data.schema import PAIRS, READ_BY, arrow_schema, present
from mnpo.llm.data.tables import batches

#: Malformed rows that a report keeps, and that its one line names.
_KEPT, _NAMED = 1000, 5
#: Rows that are encoded at once.
BLOCK = 256
#: The responses of a pair.
SIDES = ("chosen", "rejected")


@dataclass
class Report:
    """What became of the rows of a data set.

    Attributes:
        read, kept: numbers of rows.
        dropped: reason -> number of rows: malformed, empty, identical, too long.
        truncated: what -> number of rows: prompt, chosen, rejected.
        malformed: the first malformed rows: (row number, reason).
        spelled: how many usable rows have a text that spells a control token (`mnpo.llm.data.literal`).
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    malformed: list[tuple[int, str]] = field(default_factory=list)
    spelled: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "truncated": dict(self.truncated),
            "malformed": [list(entry) for entry in self.malformed],
            "spelled": self.spelled,
        }

    def add(self, other: Report) -> None:
        """Count the rows that follow."""
        self.read += other.read
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.truncated.update(other.truncated)
        self.malformed = [*self.malformed, *other.malformed][:_KEPT]
        self.spelled += other.spelled

    def drop(self, kind: str, number: int, reason: str) -> None:
        """Count a row that cannot be used."""
        self.dropped[kind] += 1
        if kind == "malformed" and len(self.malformed) < _KEPT:
            self.malformed.append((number, reason))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that `as_dict` was made of."""
        counts = {name: Counter(data[name]) for name in ("dropped", "truncated")}
        malformed = [(n, why) for n, why in data["malformed"]]
        return cls(data["read"], data["kept"], **counts, malformed=malformed, spelled=data.get("spelled", 0))


#: Rows that were encoded together, and what became of them.
Block = tuple[pa.Table, Report]


@dataclass(frozen=True)
class Cut:
    """How long pairs may be.

    Attributes:
        max_length: tokens of prompt and response; a longer response loses its end.
        max_prompt_length: a longer prompt loses its beginning, but for BOS.
        drop_overlong: drop what is too long instead.

    Raises:
        ValueError: lengths that leave no room for a response.
    """

    max_length: int
    max_prompt_length: int
    drop_overlong: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.max_prompt_length < self.max_length:
            raise ValueError(
                f"max_prompt_length must be at least 1 and below max_length; found {self.max_prompt_length} and "
                f"{self.max_length}"
            )


def encode_rows(
    rows: Iterable[Row | tuple[int, Malformed]],
    tokenizer: Any,
    *,
    max_length: int,
    max_prompt_length: int,
    drop_overlong: bool = False,
) -> tuple[Dataset, Report]:
    """Encode rows into a data set of token ids, in memory.

    Args:
        rows: from `mnpo.llm.data.sources.read`.
        tokenizer: the policy's.
        max_length, max_prompt_length, drop_overlong: see `Cut`.

    Returns:
        The data set, with the columns of `mnpo.llm.data.schema.PAIRS`, and the report.

    Raises:
        ValueError: lengths that leave no room for a response, or no row that can be used.
    """
    cut = Cut(max_length, max_prompt_length, drop_overlong)
    tables, report = [], Report()
    for table, part in encode_blocks(rows, tokenizer, cut):
        tables.append(table)
        report.add(part)
    check_any(report)
    return Dataset(present(pa.concat_tables(tables), PAIRS)), report


def encode_blocks(
    rows: Iterable[Row | tuple[int, Malformed]], tokenizer: Any, cut: Cut, share: tuple[int, int] = (0, 1)
) -> Iterator[Block]:
    """Encode rows, so many at once.

    Args:
        rows: from `mnpo.llm.data.sources.read`; all are read.
        tokenizer: the policy's.
        cut: how long pairs may be.
        share: which of the blocks, and of how many: process 1 of 3 encodes the second, the fifth and so on.

    Yields:
        Rows with all columns of `mnpo.llm.data.schema.PAIRS`, and what became of them.
    """
    encoder, source, (mine, world) = Encoder(tokenizer), iter(rows), share
    for place in itertools.count():
        batch = list(itertools.islice(source, BLOCK))
        if not batch:
            return
        if place % world == mine:
            yield _encoded(batch, encoder, tokenizer, cut)


def check_any(report: Report) -> None:
    """Refuse data of which no row can be used.

    Raises:
        ValueError: says what became of them.
    """
    if not report.kept:
        raise ValueError(f"no row of the data can be used: {describe(report)}")


def _encoded(
    batch: Sequence[Row | tuple[int, Malformed]], encoder: Encoder, tokenizer: Any, cut: Cut
) -> Block:
    report = Report(read=len(batch))
    usable = _rendered(batch, encoder, report)
    entries = []
    for (row, _), (ids, responses) in zip(usable, encoder.tokens([text for _, text in usable]), strict=True):
        prompt = _cut_prompt(ids, cut.max_prompt_length, tokenizer.bos_token_id)
        room = cut.max_length - len(prompt)
        longer = [len(ids) > cut.max_prompt_length, *(len(response) > room for response in responses)]
        if cut.drop_overlong and any(longer):
            report.dropped["too long"] += 1
            continue
        chosen, rejected = (response[:room] for response in responses)
        texts = [
            _beginning(tokenizer, response[:room], text_of(side)) if was else text_of(side)
            for response, was, side in zip(responses, longer[1:], (row.chosen, row.rejected), strict=True)
        ]
        if chosen == rejected or not all(texts):
            kind = "identical" if chosen == rejected else "empty"
            report.dropped[f"{kind} when cut" if any(longer[1:]) else kind] += 1
            continue
        report.truncated.update(what for what, was in zip(("prompt", *SIDES), longer, strict=True) if was)
        entries.append(
            {
                "row": row.number, "prompt": json.dumps(row.prompt), "chosen": texts[0], "rejected": texts[1],
                "chosen_cut": longer[1], "rejected_cut": longer[2],
                "prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected, **row.numbers,
            }
        )  # fmt: skip
    report.kept = len(entries)
    return pa.Table.from_pylist(entries, schema=arrow_schema(PAIRS)), report


def _rendered(
    batch: Sequence[Row | tuple[int, Malformed]], encoder: Encoder, report: Report
) -> list[tuple[Row, Rendered]]:
    """Return the usable rows with their texts; count the others."""
    usable = []
    for row in batch:
        try:
            if isinstance(row, tuple):
                raise row[1]
            if text_of(row.chosen).strip() == text_of(row.rejected).strip():
                report.dropped["identical"] += 1
                continue
            usable.append((row, encoder.render(row.prompt, [row.chosen, row.rejected])))
            report.spelled += encoder.spells(row.prompt, row.chosen, row.rejected)
        except Malformed as reason:
            number = row[0] if isinstance(row, tuple) else row.number
            report.drop("empty" if str(reason).startswith("empty") else "malformed", number, str(reason))
    return usable


def read_by(encoder: Encoder, pairs: Dataset) -> Dataset:
    """Return pairs as the token ids of another model, in memory.

    Args:
        encoder: of the model's tokenizer.
        pairs: encoded ones.

    Returns:
        Token ids, with the columns of `mnpo.llm.data.schema.READ_BY`.

    Raises:
        ValueError: a conversation that the model's chat template refuses; names the row.
    """
    return Dataset(pa.concat_tables(rows for rows, _ in blocks_read_by(encoder, pairs)))


def blocks_read_by(encoder: Encoder, pairs: Dataset, share: tuple[int, int] = (0, 1)) -> Iterator[Block]:
    """Encode pairs for another model, so many at once; see `read_by` and `encode_blocks`."""
    columns = ["row", "prompt", *(f"{side}{end}" for side in SIDES for end in ("", "_cut"))]
    mine, world = share
    for place, rows in enumerate(batches(pairs, columns, BLOCK)):
        if place % world == mine:
            found = encoder.tokens([one for row in rows.to_pylist() for one in _rendered_for(encoder, row)])
            entries = [
                {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
                for (prompt, (chosen,)), (_, (rejected,)) in zip(found[::2], found[1::2], strict=True)
            ]
            yield pa.Table.from_pylist(entries, schema=arrow_schema(READ_BY)), Report(len(rows), len(rows))


def _rendered_for(encoder: Encoder, row: Mapping[str, Any]) -> Iterator[Rendered]:
    """Write out a pair's prompt with each response, which ends only where it was not cut."""
    prompt = json.loads(row["prompt"])
    for side in SIDES:
        text = row[side]
        response = text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
        try:
            yield encoder.render(prompt, [response], ended=not row[f"{side}_cut"])
        except Malformed as reason:
            raise ValueError(
                f"row {row['row']} of the data cannot be read by an external model: {reason}"
            ) from None


def describe(report: Report) -> str:
    """Return one line on what was read, dropped and truncated."""
    parts = [f"{report.read} rows read, {report.kept} kept"]
    parts += [f"{count} dropped: {reason}" for reason, count in sorted(report.dropped.items())]
    parts += [f"{count} truncated: {what}" for what, count in sorted(report.truncated.items())]
    if report.spelled:
        parts.append(f"{report.spelled} spell a control token")
    if report.malformed:
        named = "; ".join(f"row {number}: {reason}" for number, reason in report.malformed[:_NAMED])
        parts.append(f"({named}{'; ..' if report.dropped['malformed'] > _NAMED else ''})")
    return ", ".join(parts)


def _cut_prompt(ids: list[int], longest: int, begin: int | None) -> list[int]:
    keeps_begin = len(ids) > longest > 1 and ids[0] == begin
    return [ids[0], *ids[len(ids) - longest + 1 :]] if keeps_begin else ids[-longest:]


def _beginning(tokenizer: Any, ids: list[int], text: str) -> str:
    """Return the beginning of a text that its first tokens stand for; "" if they stand for no letter."""
    known = tokenizer.decode(ids, skip_special_tokens=True).strip().rstrip("\N{REPLACEMENT CHARACTER}")
    return text[: len(text) - len(text.lstrip()) + len(known)] if known else ""
