"""Judgments as token ids, as the oracle that is fitted will read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mnpo.llm.config import ATTRIBUTES, Data, OracleFit
from mnpo.llm.data import schema
from mnpo.llm.data.encoding import tokenizer_digest
from mnpo.llm.data.formats import Malformed, asked
from mnpo.llm.data.judgments import Judgment, read_judgments
from mnpo.llm.data.kept import Encodings, Table
from mnpo.llm.data.pairs import BLOCK, Block, Report, check_any
from mnpo.llm.data.sources import content_of
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.embedding import EmbeddingModel
from mnpo.llm.oracles.pairwise import PairwiseModel
from mnpo.llm.oracles.reward import RewardModel

#: More than the judgments of a row, and than the pairs of a pool: numbers are (row, judgment, pair) in this base.
_MANY = 2**12

#: Gives the token ids of questions.
Reads = Callable[[Sequence[Question]], Iterable[list[int]]]


def reader(fit: OracleFit, folder: Path, trust_remote_code: bool, max_length: int | None) -> Any:
    """Return the oracle whose network lies in a folder, fitted or not: as it reads, it is fitted.

    Raises:
        ValueError: a template or a model that does not fit.
    """
    how: dict[str, Any] = {
        "model": str(folder),
        "trust_remote_code": trust_remote_code,
        "max_length": max_length,
    }
    how["name"] = "fit-oracle"
    if fit.oracle_kind == "pairwise":
        return PairwiseModel(**how, template=fit.pairwise_template)
    if fit.oracle_kind == "embedding":
        return EmbeddingModel(**how)
    return RewardModel(**how, output=0)


def encoded_judgments(
    kept: Encodings, data: Data, fit: OracleFit, oracle: Any, tokenizer: Any, name: str, split: str | None
) -> Table:
    """Return the judgments of a source as token ids, encoded once.

    Args:
        kept: where.
        data: how they are read and cut.
        fit: what is fitted.
        oracle: how it reads, `reader`.
        tokenizer: the oracle's.
        name, split: the source.

    Raises:
        ValueError: bad data, or no judgment that can be used.
    """
    drop, config = data.overlong == "drop", data.dataset_config_name

    def key() -> dict[str, Any]:
        return {
            "judgments": content_of(name, config, split),
            "read": [data.max_samples, data.columns, fit.rated],
            "tokenizer": tokenizer_digest(tokenizer),
            "by": [fit.oracle_kind, fit.pairwise_template, data.max_length, drop],
        }

    def encode(share: tuple[int, int]) -> Iterator[Block]:
        judgments = read_judgments(
            name,
            config=config,
            split=split,
            limit=data.max_samples,
            columns=data.columns,
            attributes=fit.rated,
            bounded=ATTRIBUTES,
        )
        longest = data.max_length if drop else None

        def reads(questions: Sequence[Question]) -> Iterable[list[int]]:
            found: Iterable[list[int]] = oracle.sequences(tokenizer, questions)
            return found

        return encode_blocks(judgments, reads, fit.oracle_kind == "pairwise", longest, share)

    return kept.table(key, schema.JUDGMENTS, encode, check=check_any)


def encode_blocks(
    judgments: Iterable[Judgment | tuple[int, Malformed]],
    reads: Reads,
    pairwise: bool,
    longest: int | None = None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Block]:
    """Encode judgments, so many at once.

    Args:
        judgments: from `mnpo.llm.data.judgments.read_judgments`; all are read.
        reads: gives the token ids of questions.
        pairwise: whether both responses are read together, in both orders; then a pool becomes its pairs.
        longest: tokens of a sequence; judgments of longer ones are dropped.
        share: which of the blocks, and of how many.

    Yields:
        Rows with all columns of `mnpo.llm.data.schema.JUDGMENTS`, and what became of them.
    """
    (mine, world), source = share, _numbered(judgments)
    for place in count():
        batch = list(islice(source, BLOCK))
        if not batch:
            return
        if place % world == mine:
            yield _encoded(batch, reads, pairwise, longest)


def _numbered(
    judgments: Iterable[Judgment | tuple[int, Malformed]],
) -> Iterator[tuple[int, Judgment | tuple[int, Malformed]]]:
    last, place = 0, 0
    for one in judgments:
        number = one.number if isinstance(one, Judgment) else one[0]
        place = place + 1 if number == last else 0
        last = number
        yield (number * _MANY + place) * _MANY, one


def _encoded(
    batch: Sequence[tuple[int, Judgment | tuple[int, Malformed]]],
    reads: Reads,
    pairwise: bool,
    longest: int | None,
) -> Block:
    report = Report(read=len(batch))
    usable: list[tuple[int, Judgment]] = []
    for number, one in batch:
        if not isinstance(one, Judgment):
            report.drop("malformed", one[0], str(one[1]))
        elif not all(text.strip() for text in one.responses):
            report.drop("empty", one.number, "empty response")
        elif len({text.strip() for text in one.responses}) == 1 < len(one.responses):
            report.drop("identical", one.number, "identical responses")
        else:
            usable.append((number, one))
    entries = []
    for (number, one), sequences in zip(usable, _read(usable, reads, pairwise, report), strict=True):
        if sequences is None:
            continue
        if longest is not None and any(len(ids) > longest for some in sequences for ids in some):
            report.drop("too long", one.number, "too long")
            continue
        if any(len(set(map(tuple, some))) == 1 < len(some) for some in sequences):
            report.drop("identical when cut", one.number, "identical when cut")
            continue
        parts = _pairs_of(one) if pairwise else [one]
        for place, (part, ids) in enumerate(zip(parts, sequences, strict=True)):
            entries.append(_entry(number + place, part, ids))
    report.kept = len(entries)
    return pa.Table.from_pylist(entries, schema=schema.arrow_schema(schema.JUDGMENTS)), report


def _read(
    usable: Sequence[tuple[int, Judgment]], reads: Reads, pairwise: bool, report: Report
) -> list[list[list[list[int]]] | None]:
    """Return the sequences of each judgment, of a pairwise oracle those of each of its pairs; None if refused."""
    asked_of = [_questions(one, pairwise) for _, one in usable]
    every = [question for parts in asked_of for part in parts for question in part]
    try:
        ids = iter(list(reads(every)))
        return [[[next(ids) for _ in part] for part in parts] for parts in asked_of]
    except ValueError:
        pass
    found: list[list[list[list[int]]] | None] = []
    for (_, one), parts in zip(usable, asked_of, strict=True):
        try:
            found.append([list(reads(part)) for part in parts])
        except ValueError as error:
            report.drop(
                "malformed", one.number, str(error).partition("question ")[2].partition(": ")[2] or str(error)
            )
            found.append(None)
    return found


def _questions(one: Judgment, pairwise: bool) -> list[list[Question]]:
    if not pairwise:
        return [[Question(one.prompt, text) for text in one.responses]]
    return [
        [Question(one.prompt, *part.responses), Question(one.prompt, *reversed(part.responses))]
        for part in _pairs_of(one)
    ]


def _pairs_of(one: Judgment) -> list[Judgment]:
    """Return a pool's pairs of different rank, which count together as the pool does; a pair is itself."""
    if one.ranks is None:
        return [one] if one.is_pair else []
    pairs = [(i, j) for i, j in combinations(range(len(one.ranks)), 2) if one.ranks[i] != one.ranks[j]]
    return [
        replace(
            one,
            responses=(one.responses[i], one.responses[j]),
            ranks=None,
            preference=float(one.ranks[i] < one.ranks[j]),
            weight=one.weight / len(pairs),
        )
        for i, j in pairs
    ]


def _entry(number: int, one: Judgment, sequences: Sequence[Sequence[int]]) -> dict[str, Any]:
    lengths = [len(ids) for ids in sequences]
    return {
        "row": one.number, "prompt": json.dumps(asked(one.prompt)), "responses": list(one.responses),
        "annotator": one.annotator, "preference": one.preference, "strength": one.strength,
        "ranks": None if one.ranks is None else list(one.ranks),
        "ratings": None if one.ratings is None else [list(rated) for rated in one.ratings],
        "weight": one.weight, "sequences": sequences, "judgment": number, "count": len(one.responses),
        "shared": _alike(sequences), "longest": max(lengths), "tokens": sum(lengths),
    }  # fmt: skip


def _alike(sequences: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all sequences begin with; each has at least one more."""
    room = min(map(len, sequences)) - 1
    tables = np.array([list(ids[:room]) for ids in sequences]).reshape(len(sequences), room)
    differ = np.flatnonzero((tables != tables[0]).any(0))
    return int(differ[0]) if len(differ) else room
