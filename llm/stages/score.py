"""The stage that scores: pairs from data, and their log-probabilities under every anchor."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, DatasetDict, load_from_disk

from mnpo.common.digests import bytes_digest
from mnpo.common.files import clear_partials
from mnpo.common.progress import Progress
from mnpo.llm.config import REFERENCE, Compute, Data, Folders, Models, Prompts, Update
from mnpo.llm.data.batches import Request
from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.formats import Text, asked
from mnpo.llm.data.pairs import Report, as_read_by, encode_rows
from mnpo.llm.data.prompts import in_part, read_prompts
from mnpo.llm.data.sources import read
from mnpo.llm.data.tables import content_digest
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import load_tokenizer, vocabulary_fingerprint
from mnpo.llm.stages.records import (
    NO_PAIRS,
    NO_SPLITS,
    PAIRS,
    PREFERENCES,
    SCORED,
    EncodedPairs,
    EncodedSplits,
    Scored,
    Scores,
    ScoresManifest,
)
from mnpo.llm.storage.datasets import keep_dataset
from mnpo.llm.training.anchors import is_external
from mnpo.llm.training.columns import check_columns
from mnpo.llm.training.further import with_further_responses
from mnpo.llm.training.scores import log_probs, request_digest
from mnpo.llm.training.tasks import Task

_SIDES = ("chosen", "rejected")

Splits = dict[str, Dataset]


def score(
    folders: Folders,
    model: Models,
    data: Data,
    prompts: Prompts,
    update: Update,
    compute: Compute,
    progress: Progress | None = None,
) -> Scores:
    """Encode the data and compute every anchor's log-probabilities that are not known yet.

    One anchor model is in memory at a time; with several processes each scores its share.

    Args:
        folders: everything is written below `output_dir`.
        model: the policy and its anchors.
        data: the pairs.
        prompts: which of them an iteration trains on.
        update: which anchors and columns are needed.
        compute: device, precision and batch size.
        progress: called as the work goes on.

    Raises:
        ValueError: bad data or models; nothing that was computed is lost.
    """
    datasets.disable_progress_bars()
    task = Task.configured(update)
    job = Job.start(folders, model, compute, progress)
    named = model.policies()
    anchors = {name: job.find(named[name]) for name in task.anchors(named)}
    tokenizer = job.tokenizer()
    for name, folder in anchors.items():
        if not is_external(name):
            job.check_tokens(tokenizer, name, folder)
    splits, encoded = _pairs(job, task, data, prompts, tokenizer)
    records, digests = [], {}
    for name, folder in anchors.items():
        one, digests[name], splits = _with_scores(job, name, folder, splits)
        records.append(one)
    manifest = ScoresManifest(pairs=encoded.digests, anchors=digests)
    target = job.home / SCORED
    record = Scores(folder=str(target), manifest=manifest, rows=encoded.rows, anchors=records)
    if job.processes.first:
        keep_dataset(DatasetDict(splits), target, "manifest.json", manifest.as_dict())
        record.write(job.home)
    job.processes.wait()
    return record


# --- pairs ----------------------------------------------------------------------------------------------------


def _pairs(
    job: Job, task: Task, data: Data, prompts: Prompts, tokenizer: Any
) -> tuple[Splits, EncodedSplits]:
    """Return the encoded splits, written by the first process and read by all."""
    target = job.home / PAIRS
    if job.processes.first:
        clear_partials(job.home)
        splits, reports = _encode(job, task, data, prompts, tokenizer)
        record = EncodedSplits(
            rows={name: report.as_dict() for name, report in reports.items()},
            digests={name: content_digest(split) for name, split in splits.items()},
        )
        keep_dataset(DatasetDict(splits), target, EncodedSplits.FILE, record.as_dict())
    job.processes.wait()
    written = EncodedSplits.read(target)
    assert written is not None
    return dict(load_from_disk(str(target))), written


def _encode(
    job: Job, task: Task, data: Data, prompts: Prompts, tokenizer: Any
) -> tuple[Splits, dict[str, Report]]:
    def encoded(name: str, split: str | None) -> tuple[Dataset, Report]:
        if is_encoded(Path(name)):
            return read_encoded(Path(name), tokenizer, data.max_length)
        rows = read(
            name,
            config=data.dataset_config_name,
            split=split,
            limit=data.max_samples,
            columns=data.columns,
        )
        return encode_rows(
            rows,
            tokenizer,
            max_length=data.max_length,
            max_prompt_length=data.max_prompt_length,
            drop_overlong=data.overlong == "drop",
        )

    seed = job.compute.seed
    source = data.dataset_name or str(job.home / PREFERENCES)
    if data.dataset_name is None and not is_encoded(Path(source)):
        raise ValueError(NO_PAIRS)
    train, report = encoded(source, data.dataset_split)
    if prompts.prompt_part is not None and prompts.prompt_dataset_name in (None, data.dataset_name):
        train = _of_this_part(data, prompts, tokenizer, seed, train, report)
    splits, reports = {"train": train}, {"train": report}
    if data.eval_dataset_name is not None or data.eval_split is not None:
        name = data.eval_dataset_name or source
        if data.eval_split is not None and is_encoded(Path(name)):
            raise ValueError(NO_SPLITS)
        splits["eval"], reports["eval"] = encoded(name, data.eval_split)
    elif data.eval_size:
        held = int(data.eval_size if data.eval_size >= 1 else round(data.eval_size * len(train)))
        if not 1 <= held < len(train):
            raise ValueError(f"eval_size must leave pairs to train on; found {held} of {len(train)} pairs")
        order = np.random.default_rng(seed).permutation(len(train))
        splits = {"train": train.select(np.sort(order[held:])), "eval": train.select(np.sort(order[:held]))}
    splits = {name: with_further_responses(task, split, data.max_length) for name, split in splits.items()}
    for split in splits.values():
        check_columns(task, split.column_names)
    for column in ("preference", "weight"):
        known = {name: column in split.column_names for name, split in splits.items()}
        if len(set(known.values())) > 1:
            raise ValueError(
                f"the column {column} must be in both the training and the held-out pairs or in neither: {known}"
            )
    return splits, reports


def _of_this_part(
    data: Data, prompts: Prompts, tokenizer: Any, seed: int, train: Dataset, report: Report
) -> Dataset:
    """Keep the pairs whose prompts are this iteration's; the others', and held-out ones, are not trained on."""
    assert prompts.prompt_part is not None
    whole = read_prompts(data, replace(prompts, prompt_part=None), tokenizer, seed)[0]
    known = {_content(prompt.text): "prompt of another iteration" for prompt in whole["train"]}
    known |= {_content(prompt.text): "held-out prompt" for prompt in whole["eval"]}
    own = {_content(prompt.text) for prompt in in_part(whole["train"], prompts.prompt_part)}
    contents = [_content(json.loads(text)) for text in train["prompt"]]
    kept = [place for place, content in enumerate(contents) if content in own]
    others = Counter(known.get(content, "prompt that is not sampled for") for content in contents)
    others.subtract(Counter(known[contents[place]] for place in kept))
    if not kept:
        raise ValueError(
            f"no pair of {data.dataset_name} has a prompt of this iteration: "
            + ", ".join(f"{count} {reason}" for reason, count in (+others).items())
            + "; prompt_use=all trains every iteration on all pairs"
        )
    report.dropped.update(+others)
    report.kept = len(kept)
    return train.select(kept)


def _content(text: Text) -> str:
    """What a prompt asks, whether it stands as a text or as the turn of a user."""
    return json.dumps(asked(text), sort_keys=True)


def is_encoded(folder: Path) -> bool:
    """Tell whether a folder holds pairs as token ids, as `annotate` leaves them."""
    return (folder / EncodedPairs.FILE).is_file()


def read_encoded(folder: Path, tokenizer: Any, max_length: int) -> tuple[Dataset, Report]:
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
    return load_from_disk(str(folder)), Report.from_dict(record.report)


# --- scores ---------------------------------------------------------------------------------------------------


def _with_scores(job: Job, name: str, folder: Path, splits: Splits) -> tuple[Scored, str, Splits]:
    """Return what was done, a digest of the scores, and the splits with the anchor's columns."""
    encoder = None
    if is_external(name):
        encoder = Encoder(load_tokenizer(folder, trust_remote_code=job.model.trust_remote_code))
    requests = {
        split: dict(_requests(name, rows, encoder)) for split, rows in splits.items()
    }  # split -> column -> requests
    everything = [
        request for columns in requests.values() for wanted in columns.values() for request in wanted
    ]
    found = log_probs(job, name, folder, everything)
    keys: list[bytes] = []
    means: dict[str, float] = {}
    for split, columns in requests.items():
        for column, wanted in columns.items():
            digests = [request_digest(*request) for request in wanted]
            keys += digests
            values = [found.known[digest] for digest in digests]
            splits[split] = splits[split].add_column(column, values)
            if split == "train":
                means[column] = float(np.mean(values))
    record = Scored(
        anchor=name,
        model=str(folder),
        scored=found.scored,
        reused=found.reused,
        seconds=found.seconds,
        mean_chosen=means[f"{name}_chosen"],
        mean_rejected=means[f"{name}_rejected"],
    )
    return record, bytes_digest(found.key.encode() + b"".join(keys)).hex(), splits


def _requests(name: str, rows: Dataset, encoder: Encoder | None) -> Iterator[tuple[str, list[Request]]]:
    """Yield columns of scores with token ids of prompts and responses, as the anchor reads them."""
    for side in _SIDES:
        if encoder is None:
            yield f"{name}_{side}", list(zip(rows["prompt_ids"], rows[f"{side}_ids"], strict=True))
        else:
            yield f"{name}_{side}", [as_read_by(encoder, row, side) for row in rows]
    if name == REFERENCE:
        own = {"prompt_ids", *(f"{side}_ids" for side in _SIDES)}
        for column in rows.column_names:
            if column.endswith("_ids") and column not in own:
                further = list(zip(rows["prompt_ids"], rows[column], strict=True))
                yield f"{name}_{column.removesuffix('_ids')}", further
