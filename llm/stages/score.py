"""The stage that scores: pairs from data, and their log-probabilities under every anchor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from mnpo.common.digests import data_digest
from mnpo.common.files import clear_partials, whole_folder
from mnpo.common.progress import Progress
from mnpo.llm.config import REFERENCE, Compute, Data, Folders, Models, Prompts, Update
from mnpo.llm.data import schema
from mnpo.llm.data.encoding import Encoder, tokenizer_digest
from mnpo.llm.data.ids import Ids
from mnpo.llm.data.pairs import SIDES, Block, blocks_read_by
from mnpo.llm.data.tables import TableWriter, batches, mark_splits
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import load_tokenizer
from mnpo.llm.stages.records import SCORED, Scored, Scores, ScoresManifest
from mnpo.llm.stages.splits import Split, read_splits
from mnpo.llm.storage.manifests import write_manifest
from mnpo.llm.training.anchors import is_external
from mnpo.llm.training.further import other_responses
from mnpo.llm.training.requests import Requests
from mnpo.llm.training.scores import LogProbs, log_probs, store_of
from mnpo.llm.training.tasks import Task

#: Column -> log-probabilities, (N,).
Columns = dict[str, npt.NDArray[np.float64]]


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

    One anchor model is in memory at a time; with several processes each encodes and scores its share. Where the
    output folder holds the same pairs with the same anchors' scores, nothing is read or written.

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
    anchors = {name: Anchor.of(job, name, named[name]) for name in task.anchors(named)}
    tokenizer = job.tokenizer()
    for name, anchor in anchors.items():
        if anchor.tokenizer is None:
            job.check_tokens(tokenizer, name, anchor.folder)
    if job.processes.first:
        clear_partials(job.home)
    job.processes.wait()
    splits, reports = read_splits(job, task, data, prompts, tokenizer)
    further = [[estimate.name, data.max_length] for estimate in task.estimated]
    manifest = ScoresManifest(
        pairs={name: data_digest(split.content(), further) for name, split in splits.items()},
        anchors={name: anchor.content(job) for name, anchor in anchors.items()},
    )
    rows = {name: report.as_dict() for name, report in reports.items()}
    there = job.processes.agree(lambda: _there(job, manifest))
    if there is not None:
        found = [replace(one, model=str(anchors[one.anchor].folder)) for one in there]
    else:
        scoring = _Scoring(job, task, data.max_length, splits)
        found = [scoring.add(anchor) for anchor in anchors.values()]
        if job.processes.first:
            scoring.write(manifest)
    record = Scores(folder=str(job.home / SCORED), manifest=manifest, rows=rows, anchors=found)
    if job.processes.first:
        record.write(job.home)
    job.processes.wait()
    return record


@dataclass(frozen=True)
class Anchor:
    """Whose log-probabilities are computed.

    Attributes:
        name: what the model is called.
        folder: of the model.
        tokenizer: its own, if it is external.
    """

    name: str
    folder: Path
    tokenizer: Any = None

    @classmethod
    def of(cls, job: Job, name: str, named: str) -> Anchor:
        """Find the model of an anchor."""
        folder = job.find(named)
        trusted = job.model.trust_remote_code
        own = load_tokenizer(folder, trust_remote_code=trusted) if is_external(name) else None
        return cls(name, folder, own)

    def content(self, job: Job) -> str:
        """Return a digest of what its log-probabilities depend on besides the pairs, in hexadecimal."""
        key = store_of(job.folders.store("scores"), job.computed_by(self.folder)).key
        return data_digest(key, None if self.tokenizer is None else tokenizer_digest(self.tokenizer))


def scored_record(name: str, folder: Path, found: LogProbs) -> Scored:
    """Return the record of one model's log-probabilities."""
    return Scored(
        anchor=name,
        model=str(folder),
        scored=found.scored,
        reused=found.reused,
        seconds=found.seconds,
    )


def _there(job: Job, manifest: ScoresManifest) -> list[Scored] | None:
    """Return the anchors' records if the output folder holds what is wanted: all of it is reused."""
    known = Scores.read(job.home)
    if known is None or known.manifest != manifest:
        return None
    if not known.intact(job.home):  # what is damaged is written again
        return None
    return [replace(one, scored=0, reused=one.scored + one.reused, seconds=0.0) for one in known.anchors]


class _Scoring:
    """The scores of all splits, one anchor after the other."""

    def __init__(self, job: Job, task: Task, max_length: int, splits: Mapping[str, Split]) -> None:
        self._job, self._max_length = job, max_length
        self._splits = splits
        self._rows = {name: split.rows() for name, split in splits.items()}
        self._others = {name: split.others(task) for name, split in splits.items()}
        self._requests: dict[str, dict[str, Requests]] = {}
        self._found: dict[str, Columns] = {name: {} for name in splits}

    def add(self, anchor: Anchor) -> Scored:
        """Compute one anchor's log-probabilities."""
        wanted = {
            split: dict(self._wanted(anchor, split, rows)) for split, rows in self._rows.items()
        }  # split -> column -> requests
        parts = [requests for columns in wanted.values() for requests in columns.values()]
        found = log_probs(self._job, anchor.name, anchor.folder, Requests.joined(parts))
        values = iter(np.split(found.values, np.cumsum([len(part) for part in parts])[:-1]))
        for split, columns in wanted.items():
            for column in columns:
                self._found[split][column] = next(values)
        means = {side: float(np.mean(self._found["train"][f"{anchor.name}_{side}"])) for side in SIDES}
        record = scored_record(anchor.name, anchor.folder, found)
        return replace(record, mean_chosen=means["chosen"], mean_rejected=means["rejected"])

    def write(self, manifest: ScoresManifest) -> None:
        """Write the pairs with all columns of scores, some rows at a time."""
        with whole_folder(self._job.home / SCORED) as partial:
            for name in self._splits:
                self._write_split(partial / name, name)
            mark_splits(partial, list(self._splits))
            write_manifest(partial, manifest.as_dict())

    def _write_split(self, folder: Path, name: str) -> None:
        data, others, scores = self._rows[name], self._others[name], self._found[name]
        further = [f"{estimate}_ids" for estimate in others]
        answers = Ids(data, "chosen_ids") if others else None
        start = 0
        with TableWriter(folder, schema.SCORED, [*data.column_names, *further, *scores]) as writer:
            for rows in batches(data):
                here = slice(start, start + len(rows))
                for estimate, places in others.items():
                    assert answers is not None
                    ids = other_responses(rows.column("prompt_ids"), answers, places[here], self._max_length)
                    rows = rows.append_column(f"{estimate}_ids", ids)
                for column, values in scores.items():
                    rows = rows.append_column(column, pa.array(values[here]))
                writer.append_table(rows)
                start = here.stop

    def _wanted(self, anchor: Anchor, name: str, rows: Dataset) -> Iterator[tuple[str, Requests]]:
        """Yield columns of scores with the prompts and responses, as the anchor reads them."""
        if anchor.tokenizer is not None:
            read = self._read_by(anchor, name, rows)
            for side in SIDES:
                yield f"{anchor.name}_{side}", Requests.in_table(read, f"{side}_ids")
            return
        own = self._requests.setdefault(name, {})
        for side in SIDES:
            if side not in own:
                own[side] = Requests.in_table(rows, f"{side}_ids")
            yield f"{anchor.name}_{side}", own[side]
        if anchor.name == REFERENCE:
            for estimate, others in self._others[name].items():
                further = Requests.in_table(rows, "chosen_ids", others, self._max_length)
                yield f"{anchor.name}_{estimate}", further

    def _read_by(self, anchor: Anchor, name: str, rows: Dataset) -> Dataset:
        """Return the pairs as token ids of an external anchor, encoded once."""
        split = self._splits[name]
        encoder = Encoder(anchor.tokenizer)

        def key() -> dict[str, Any]:
            return {"pairs read": split.content(), "tokenizer": tokenizer_digest(anchor.tokenizer)}

        def encode(share: tuple[int, int]) -> Iterator[Block]:
            return blocks_read_by(encoder, rows, share)

        return self._job.encodings.table(key, schema.READ_BY, encode).rows
