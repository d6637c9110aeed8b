"""The stage that annotates: oracles judge the sampled responses, and preference pairs are made of their answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from mnpo.common.digests import data_digest
from mnpo.common.files import clear_partials, whole_folder
from mnpo.common.progress import Progress
from mnpo.llm.config import Compute, Folders, Judging, Models, Sampling, Update
from mnpo.llm.data import schema
from mnpo.llm.data.blocks import Blocks
from mnpo.llm.data.formats import Text
from mnpo.llm.data.pairs import Report
from mnpo.llm.data.tables import TableWriter, open_table
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.asking import Asking, Judgments, judge
from mnpo.llm.oracles.panel import Panel, build
from mnpo.llm.preferences.implicit import credited
from mnpo.llm.preferences.pairing import Recipe, comparisons, make_pairs
from mnpo.llm.preferences.recipes import check, recipe, sampled_models, taught
from mnpo.llm.preferences.rows import Pool, annotation_rows, columns_of
from mnpo.llm.stages.records import (
    ANNOTATIONS,
    PREFERENCES,
    SAMPLES,
    Annotations,
    Answered,
    EncodedPairs,
    PairsManifest,
    Samples,
    Weights,
)
from mnpo.llm.stages.weights import Weighed, weigh
from mnpo.llm.storage.manifests import write_manifest
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.training.tasks import Task

#: Prompts whose pairs are made at once.
_AT_ONCE = 128
#: Prompts whose weights collapsed that a record names.
MOST_NAMED = 20


def annotate(
    folders: Folders,
    model: Models,
    sampling: Sampling,
    judging: Judging,
    update: Update,
    compute: Compute,
    progress: Progress | None = None,
) -> Annotations:
    """Let the oracles judge what `sample` left in the output folder, and make preference pairs.

    Args:
        folders: where the samples stand, and where answers are kept.
        model, sampling: whose samples they are, and how many.
        judging: who judges, and how pairs are made.
        update: what the pairs are for; of an implicit step the anchors' log-probabilities are computed first.
        compute: seed and device.
        progress: called as the work goes on.

    Raises:
        ValueError: no samples, or an oracle that does not answer; its answers so far are kept.
    """
    panel = build(judging.oracle, trust_remote_code=model.trust_remote_code)
    check(model, sampling, judging, update, panel)
    job = Job.start(folders, model, compute, progress)
    own, asked_for = sampling.num_generations, list(sampled_models(model, update))
    sampled = Samples.read(job.home)
    if sampled is None:
        raise ValueError(f"{job.home} holds no samples; mnpo llm sample draws them")
    if sampled.manifest.opponents != asked_for:
        raise ValueError(
            f"the samples in {job.home} are of the opponents {sampled.manifest.opponents}, the "
            f"configuration asks for {asked_for}; sample again"
        )
    if job.processes.first:
        clear_partials(job.home)
    rows = open_table(job.home / SAMPLES).with_format("arrow")[:]
    first = rows.slice(0, 1).to_pylist()[0]
    if len(first["responses"]) != own:
        raise ValueError(
            f"the samples in {job.home} are {len(first['responses'])} responses to each prompt, "
            f"num_generations is {own}; sample again"
        )
    counts = [len(found) for found in first["opponents"]]
    how = recipe(model, sampling, judging, update, _places(asked_for, counts, own))
    weighed = None if how.strength is None else weigh(job, model, sampling, update, rows, own)
    judgments, taken = judge(
        job, panel, Blocks(len(rows), partial(_texts, rows)), own, sorted(comparisons(how))
    )
    manifest = PairsManifest(
        samples=sampled.manifest.samples,
        oracles=[[m.weight, m.oracle.scale, data_digest(m.oracle.key())] for m in panel.members],
        recipe=repr(how),
        seed=[compute.seed, sampling.stream],
        anchors={} if weighed is None else weighed.anchors,
    )

    def write() -> Annotations:
        with whole_folder(job.home / ANNOTATIONS) as said, whole_folder(job.home / PREFERENCES) as pairs:
            encoded, weights = _write(
                rows,
                judgments,
                panel,
                how,
                weighed,
                manifest,
                sampled.manifest.tokenizer,
                said=said,
                pairs=pairs,
            )
            write_manifest(said, manifest.as_dict())
            encoded.write(pairs)
        record = Annotations(
            folder=str(job.home / ANNOTATIONS),
            pairs=str(job.home / PREFERENCES),
            manifest=manifest,
            made=encoded.report["kept"],
            dropped=encoded.report["dropped"],
            teaches=taught(Task.configured(update), judging, sampling),
            oracles=[answered_record(asking) for asking in taken],
            scores=[] if weighed is None else weighed.scores,
            weights=weights,
        )
        record.write(job.home)
        return record

    return job.processes.agree(write)


def answered_record(asking: Asking) -> Answered:
    """Return the record of the questions put to one oracle."""
    return Answered(
        oracle=asking.oracle.name,
        kind=asking.oracle.kind,
        asked=asking.asked,
        reused=asking.reused,
        seconds=asking.seconds,
    )


def _places(names: Sequence[str], counts: Sequence[int], own: int) -> dict[str, range]:
    ends = np.cumsum([own, *counts]).tolist()
    return {name: range(ends[j], ends[j + 1]) for j, name in enumerate(names)}


def _texts(rows: pa.Table, start: int, stop: int) -> list[tuple[Text, list[str]]]:
    """Return prompts with the texts of all responses to them."""
    some = rows.slice(start, stop - start)
    prompts = map(json.loads, some["prompt"].to_pylist())
    return list(zip(prompts, Pool(some).texts(), strict=True))


def _write(
    rows: pa.Table,
    judgments: Judgments,
    panel: Panel,
    how: Recipe,
    weighed: Weighed | None,
    manifest: PairsManifest,
    tokenizer: str,
    *,
    said: Path,
    pairs: Path,
) -> tuple[EncodedPairs, Weights | None]:
    """Write what the oracles said, and the pairs as token ids, as they were sampled; return what these are."""
    dropped: Counter[str] = Counter()
    total = longest = 0
    worth, fallen = np.empty(len(rows)), np.zeros(len(rows), dtype=bool)
    with (
        TableWriter(said, schema.ANNOTATIONS, columns_of(panel, weighed=weighed is not None)) as answers,
        TableWriter(pairs, schema.PAIRS) as written,
    ):
        for start in range(0, len(rows), _AT_ONCE):
            some = rows.slice(start, _AT_ONCE)
            pool, judged = Pool(some), judgments.between(start, start + len(some))
            made, here, credits = [], slice(start, start + len(some)), None
            if weighed is not None:
                credits, worth[here], fallen[here] = credited(how, judged, weighed.logs[here])
            for prompt, found in enumerate(judged):
                seed = int(data_digest(*manifest.seed, *pool.drawn(prompt))[:16], 16)
                own = None if credits is None else credits[prompt]
                made.append(make_pairs(how, found, np.random.default_rng(seed), own))
                dropped["prompt whose responses all tie"] += not made[-1]
            encoded = pool.encoded(made, number=written.rows + 1)
            dropped["identical"] += encoded.pairs - len(encoded.rows)
            total, longest = total + encoded.pairs, max(longest, encoded.longest)
            effective = None if weighed is None else worth[here]
            answers.append_table(annotation_rows(some["row"].to_pylist(), judged, panel, how.own, effective))
            written.append_table(encoded.rows)
            let_go()
        if not written.rows:
            raise ValueError(
                f"no pair can be made: of {len(rows)} prompts the responses all tie or are identical; "
                "sample more responses, or at a higher temperature"
            )
    report = Report(total, written.rows, dropped=+dropped)
    weights = None
    if weighed is not None:
        lost = np.flatnonzero(fallen)
        weights = Weights(
            responses=how.own,
            effective=float(worth.mean()),
            least=float(worth.min()),
            collapsed=len(lost),
            rows=rows["row"].take(pa.array(lost[:MOST_NAMED])).to_pylist(),
        )
    encoded_pairs = EncodedPairs(
        digest=written.digest,
        manifest=manifest,
        tokenizer=tokenizer,
        longest=longest,
        report=report.as_dict(),
    )
    return encoded_pairs, weights
