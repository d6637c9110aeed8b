"""The pairs that a fit trains on and those that it holds out: rows of encoded tables, which are not copied."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from mnpo.common.digests import SIZE, bytes_digest, data_digest
from mnpo.llm.config import Data, Prompts
from mnpo.llm.data import schema
from mnpo.llm.data.encoding import tokenizer_digest
from mnpo.llm.data.formats import asked
from mnpo.llm.data.kept import Encodings, Table
from mnpo.llm.data.pairs import Block, Cut, Report, check_any, encode_blocks
from mnpo.llm.data.prompts import in_part, read_prompts
from mnpo.llm.data.sources import content_of, read
from mnpo.llm.data.tables import batches, open_table
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import vocabulary_fingerprint
from mnpo.llm.stages.records import NO_PAIRS, NO_SPLITS, PREFERENCES, EncodedPairs
from mnpo.llm.storage.store import Digests, Places, as_digests
from mnpo.llm.training.columns import check_columns
from mnpo.llm.training.further import following, needs_different, prompt_digests
from mnpo.llm.training.tasks import Task


@dataclass(frozen=True, eq=False)
class Split:
    """Some of the rows of a table of pairs.

    Attributes:
        table: all rows, mapped.
        digest: of the table's content.
        places: which rows, in order; None for all of them.
    """

    table: Dataset
    digest: str
    places: Places | None = None

    def __len__(self) -> int:
        return len(self.table) if self.places is None else len(self.places)

    def take(self, places: Places) -> Split:
        """Return those at some places, in that order."""
        return replace(self, places=places if self.places is None else self.places[places])

    def rows(self) -> Dataset:
        """Return the rows."""
        return self.table if self.places is None else self.table.select(self.places)

    def content(self) -> str:
        """Return a digest of the rows, in hexadecimal."""
        chosen = None if self.places is None else bytes_digest(self.places.astype("<i8").tobytes()).hex()
        return data_digest(self.digest, chosen)

    def others(self, task: Task) -> dict[str, Places]:
        """Return whose response, of these rows, each prompt has besides its own, by the estimate's name.

        Raises:
            ValueError: pairs that all have the same prompt.
        """
        found = {}
        for estimate in task.estimated:
            others = following(prompt_digests(self.rows()))
            if others is None:
                raise ValueError(needs_different(task, estimate.name))
            found[estimate.name] = others
        return found


def read_splits(
    job: Job, task: Task, data: Data, prompts: Prompts, tokenizer: Any
) -> tuple[dict[str, Split], dict[str, Report]]:
    """Return the pairs to train on, "train", and those that are held out, "eval", if there are; with what became of
    the rows that were read.

    Raises:
        ValueError: bad data, or columns that the task needs and that are not there.
    """
    seed = job.compute.seed
    source = data.dataset_name or str(job.home / PREFERENCES)
    if data.dataset_name is None and not is_encoded(Path(source)):
        raise ValueError(NO_PAIRS)
    train, report = _read(job, data, source, data.dataset_split, tokenizer)
    if prompts.prompt_part is not None and prompts.prompt_dataset_name in (None, data.dataset_name):
        train = _of_this_part(job, data, prompts, tokenizer, train, report)
    splits, reports = {"train": train}, {"train": report}
    if data.eval_dataset_name is not None or data.eval_split is not None:
        name = data.eval_dataset_name or source
        if data.eval_split is not None and is_encoded(Path(name)):
            raise ValueError(NO_SPLITS)
        splits["eval"], reports["eval"] = _read(job, data, name, data.eval_split, tokenizer)
    elif data.eval_size:
        held = int(data.eval_size if data.eval_size >= 1 else round(data.eval_size * len(train)))
        if not 1 <= held < len(train):
            raise ValueError(f"eval_size must leave pairs to train on; found {held} of {len(train)} pairs")
        order = np.random.default_rng(seed).permutation(len(train))
        splits = {"train": train.take(np.sort(order[held:])), "eval": train.take(np.sort(order[:held]))}
    columns = {name: split.table.column_names for name, split in splits.items()}
    for found in columns.values():
        check_columns(task, found)
    for column in ("preference", "weight"):
        known = {name: column in found for name, found in columns.items()}
        if len(set(known.values())) > 1:
            raise ValueError(
                f"the column {column} must be in both the training and the held-out pairs or in neither: {known}"
            )
    return splits, reports


def is_encoded(folder: Path) -> bool:
    """Tell whether a folder holds pairs as token ids, as `annotate` leaves them."""
    return (folder / EncodedPairs.FILE).is_file()


def read_encoded(folder: Path, tokenizer: Any, max_length: int) -> tuple[Split, Report]:
    """Read pairs whose token ids are those that were sampled.

    Raises:
        ValueError: ids of another tokenizer, longer pairs than allowed, or no record of what they are.
    """
    record = EncodedPairs.read(folder)
    if record is None:
        raise ValueError(f"{folder / EncodedPairs.FILE} cannot be read; annotate again")
    if record.tokenizer != vocabulary_fingerprint(tokenizer):
        raise ValueError(f"the pairs in {folder} are token ids of another tokenizer than the policy's")
    if record.longest > max_length:
        raise ValueError(
            f"the pairs in {folder} have up to {record.longest} tokens; max_length is {max_length}"
        )
    return Split(open_table(folder), record.digest), Report.from_dict(record.report)


def encoded_pairs(kept: Encodings, data: Data, name: str, split: str | None, tokenizer: Any) -> Table:
    """Return the pairs of a source as token ids, encoded once.

    Args:
        kept: where.
        data: how they are read and cut.
        name, split: the source.
        tokenizer: the policy's.

    Raises:
        ValueError: bad data, or no row that can be used.
    """
    cut = Cut(data.max_length, data.max_prompt_length, data.overlong == "drop")
    config = data.dataset_config_name

    def key() -> dict[str, Any]:
        return {
            "pairs": content_of(name, config, split),
            "read": [data.max_samples, data.columns],
            "tokenizer": tokenizer_digest(tokenizer),
            "cut": [cut.max_length, cut.max_prompt_length, cut.drop_overlong],
        }

    def encode(share: tuple[int, int]) -> Iterator[Block]:
        rows = read(name, config=config, split=split, limit=data.max_samples, columns=data.columns)
        return encode_blocks(rows, tokenizer, cut, share)

    return kept.table(key, schema.PAIRS, encode, check=check_any)


def _read(job: Job, data: Data, name: str, split: str | None, tokenizer: Any) -> tuple[Split, Report]:
    if is_encoded(Path(name)):
        return read_encoded(Path(name), tokenizer, data.max_length)
    found = encoded_pairs(job.encodings, data, name, split, tokenizer)
    return Split(found.rows, found.digest), found.report


def _of_this_part(
    job: Job, data: Data, prompts: Prompts, tokenizer: Any, train: Split, report: Report
) -> Split:
    """Keep the pairs whose prompts are this iteration's; the others', and held-out ones, are not trained on."""
    assert prompts.prompt_part is not None
    every = replace(prompts, prompt_part=None)
    whole = read_prompts(data, every, tokenizer, job.compute.seed, job.encodings)[0]
    known = {
        "prompt of another iteration": _contents(whole["train"].texts()),
        "held-out prompt": _contents(whole["eval"].texts()),
    }
    own = _contents(in_part(whole["train"], prompts.prompt_part).texts())
    contents = _contents(rows.column(0).to_pylist() for rows in batches(train.rows(), ["prompt"]))
    kept = np.isin(contents, own)
    reasons = np.full(len(contents), "prompt that is not sampled for", dtype=object)
    for reason, digests in known.items():
        reasons[np.isin(contents, digests)] = reason
    others = Counter(reasons[~kept].tolist())
    if not kept.any():
        raise ValueError(
            f"no pair of {data.dataset_name} has a prompt of this iteration: "
            + ", ".join(f"{count} {reason}" for reason, count in others.items())
            + "; prompt_use=all trains every iteration on all pairs"
        )
    report.dropped.update(others)
    report.kept = int(kept.sum())
    return train.take(np.flatnonzero(kept))


def _contents(prompts: Iterator[Sequence[str]]) -> Digests:
    """Return digests of what prompts ask, whether they stand as texts or as the turn of a user: (N,)."""
    return as_digests(
        [
            hashlib.blake2b(
                json.dumps(asked(json.loads(text)), sort_keys=True).encode(), digest_size=SIZE
            ).digest()
            for some in prompts
            for text in some
        ]
    )
