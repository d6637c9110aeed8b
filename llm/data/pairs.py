"""Preference pairs as token ids: rows encoded, cut to length, counted and stored as Arrow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
from datasets import Dataset

from mnpo.llm.data.batches import Request
from mnpo.llm.data.encoding import Encoder, Rendered, text_of
from mnpo.llm.data.formats import Malformed, Row
from mnpo.llm.data.schema import PAIRS, arrow_schema, present

#: Malformed rows that a report keeps, and that its one line names.
_KEPT, _NAMED = 1000, 5
#: Rows that are encoded at once.
_BATCH = 256


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

    def drop(self, kind: str, number: int, reason: str) -> None:
        """Count a row that cannot be used."""
        self.dropped[kind] += 1
        if kind == "malformed" and len(self.malformed) < _KEPT:
            self.malformed.append((number, reason))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that `as_dict` was made of."""
        counts = {name: Counter(data[name]) for name in ("dropped", "truncated")}
        return cls(data["read"], data["kept"], **counts, malformed=[(n, why) for n, why in data["malformed"]])


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
        rows: from `mnpo.llm.data.sources.read`.
        tokenizer: the policy's.
        max_length: tokens of prompt and response; a longer response loses its end.
        max_prompt_length: a longer prompt loses its beginning, but for BOS.
        drop_overlong: drop what is too long instead.

    Returns:
        The data set, with the columns of `mnpo.llm.data.schema.PAIRS`, and the report.

    Raises:
        ValueError: lengths that leave no room for a response, or no row that can be used.
    """
    if not 1 <= max_prompt_length < max_length:
        raise ValueError(
            f"max_prompt_length must be at least 1 and below max_length; found {max_prompt_length} and {max_length}"
        )
    encoder, report, tables, schema = Encoder(tokenizer), Report(), [], arrow_schema(PAIRS)
    source = iter(rows)
    while batch := list(islice(source, _BATCH)):
        report.read += len(batch)
        usable = _rendered(batch, encoder, report)
        entries = []
        for (row, _), (prompt, responses) in zip(
            usable, encoder.tokens([text for _, text in usable]), strict=True
        ):
            cut_prompt = len(prompt) > max_prompt_length
            prompt = _cut_prompt(prompt, max_prompt_length, tokenizer.bos_token_id)
            room = max_length - len(prompt)
            cut = [len(ids) > room for ids in responses]
            if drop_overlong and (cut_prompt or any(cut)):
                report.dropped["too long"] += 1
                continue
            chosen, rejected = (ids[:room] for ids in responses)
            texts = [
                _beginning(tokenizer, ids[:room], text_of(side)) if was else text_of(side)
                for ids, was, side in zip(responses, cut, (row.chosen, row.rejected), strict=True)
            ]
            if chosen == rejected or not all(texts):
                kind = "identical" if chosen == rejected else "empty"
                report.dropped[f"{kind} when cut" if any(cut) else kind] += 1
                continue
            truncated = {"prompt": cut_prompt, "chosen": cut[0], "rejected": cut[1]}
            report.truncated.update(what for what, was in truncated.items() if was)
            entries.append(
                {
                    "row": row.number, "prompt": json.dumps(row.prompt), "chosen": texts[0], "rejected": texts[1],
                    "chosen_cut": cut[0], "rejected_cut": cut[1],
                    "prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected, **row.numbers,
                }
            )  # fmt: skip
        tables.append(pa.Table.from_pylist(entries, schema=schema))
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    report.kept = len(table)
    if not report.kept:
        raise ValueError(f"no row of the data can be used: {describe(report)}")
    return Dataset(present(table, PAIRS)), report


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
        except Malformed as reason:
            number = row[0] if isinstance(row, tuple) else row.number
            report.drop("empty" if str(reason).startswith("empty") else "malformed", number, str(reason))
    return usable


def as_read_by(encoder: Encoder, row: Mapping[str, Any], side: str) -> Request:
    """Return a pair's prompt and one response as the token ids of another model.

    Args:
        encoder: of the model's tokenizer.
        row: of an encoded data set.
        side: "chosen" or "rejected".

    Raises:
        ValueError: a conversation that the model's chat template refuses; names the row.
    """
    prompt, text = json.loads(row["prompt"]), row[side]
    response = text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
    try:
        found = encoder.encode(prompt, response, ended=not row[f"{side}_cut"])
    except Malformed as reason:
        raise ValueError(
            f"row {row['row']} of the data cannot be read by an external model: {reason}"
        ) from None
    return found.prompt, found.response


def describe(report: Report) -> str:
    """Return one line on what was read, dropped and truncated."""
    parts = [f"{report.read} rows read, {report.kept} kept"]
    parts += [f"{count} dropped: {reason}" for reason, count in sorted(report.dropped.items())]
    parts += [f"{count} truncated: {what}" for what, count in sorted(report.truncated.items())]
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
