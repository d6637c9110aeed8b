"""The stage that annotates: oracles judge the sampled responses, and preference pairs are made of their answers."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, load_from_disk

from mnpo.common.digests import data_digest
from mnpo.common.files import clear_partials
from mnpo.common.progress import Progress
from mnpo.llm.config import Compute, Folders, Judging, Models, Sampling, Update
from mnpo.llm.data import schema
from mnpo.llm.data.pairs import Report
from mnpo.llm.data.tables import content_digest
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.asking import Asking, judge
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.oracles.panel import Panel, build
from mnpo.llm.preferences.pairing import Pair, comparisons, make_pairs
from mnpo.llm.preferences.recipes import check, recipe, sampled_models, taught
from mnpo.llm.stages.records import (
    ANNOTATIONS,
    PREFERENCES,
    SAMPLES,
    Annotations,
    Answered,
    EncodedPairs,
    PairsManifest,
    Samples,
)
from mnpo.llm.storage.datasets import keep_dataset
from mnpo.llm.training.tasks import Task

Rows = Sequence[Mapping[str, Any]]


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
        update: what the pairs are for.
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
    rows = list(load_from_disk(str(job.home / SAMPLES)))
    if len(rows[0]["responses"]) != own:
        raise ValueError(
            f"the samples in {job.home} are {len(rows[0]['responses'])} responses to each prompt, "
            f"num_generations is {own}; sample again"
        )
    pool = [[*row["responses"], *itertools.chain(*row["opponents"])] for row in rows]
    counts = [len(found) for found in rows[0]["opponents"]]
    how = recipe(model, sampling, judging, update, _places(asked_for, counts, own))
    texts = [(json.loads(row["prompt"]), [answer["text"] for answer in found])
             for row, found in zip(rows, pool, strict=True)]  # fmt: skip
    judged, taken = judge(job, panel, texts, own, sorted(comparisons(how)))
    pairs = []
    for row, answers in zip(rows, judged, strict=True):
        drawn = [answer["ids"] for answer in row["responses"]]
        seed = int(data_digest(compute.seed, sampling.stream, row["prompt_ids"], drawn)[:16], 16)
        pairs.append(make_pairs(how, answers, np.random.default_rng(seed)))
    data, report = _encoded(rows, pool, pairs)
    manifest = PairsManifest(
        samples=sampled.manifest.samples,
        oracles=[[m.weight, m.oracle.scale, data_digest(m.oracle.key())] for m in panel.members],
        recipe=repr(how),
        seed=[compute.seed, sampling.stream],
    )
    record = Annotations(
        folder=str(job.home / ANNOTATIONS),
        pairs=str(job.home / PREFERENCES),
        manifest=manifest,
        made=len(data),
        dropped=dict(report.dropped),
        teaches=taught(Task.configured(update), judging, sampling),
        oracles=[answered_record(asking) for asking in taken],
    )
    if job.processes.first:
        answers_of = _answers(rows, judged, panel)
        keep_dataset(answers_of, job.home / ANNOTATIONS, "manifest.json", manifest.as_dict())
        encoded = _described(data, report, manifest, sampled.manifest.tokenizer)
        keep_dataset(data, job.home / PREFERENCES, EncodedPairs.FILE, encoded.as_dict())
        record.write(job.home)
    job.processes.wait()
    return record


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


def _encoded(rows: Rows, pool: Sequence[Rows], pairs: Sequence[Sequence[Pair]]) -> tuple[Dataset, Report]:
    """Return the pairs as token ids, as they were sampled."""
    entries: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    total = 0
    for row, answers, made in zip(rows, pool, pairs, strict=True):
        dropped["prompt whose responses all tie"] += not made
        total += len(made)
        for pair in made:
            chosen, rejected = answers[pair.chosen], answers[pair.rejected]
            if chosen["ids"] == rejected["ids"]:
                dropped["identical"] += 1
                continue
            entries.append(
                {
                    "row": len(entries) + 1, "source": row["row"], "prompt": row["prompt"],
                    "chosen": chosen["text"], "rejected": rejected["text"],
                    "chosen_cut": not chosen["ended"], "rejected_cut": not rejected["ended"],
                    "prompt_ids": row["prompt_ids"], "chosen_ids": chosen["ids"], "rejected_ids": rejected["ids"],
                    **pair.numbers,
                }
            )  # fmt: skip
    if not entries:
        raise ValueError(
            f"no pair can be made: of {len(rows)} prompts the responses all tie or are identical; "
            "sample more responses, or at a higher temperature"
        )
    return Dataset(schema.as_table(entries, schema.PAIRS)), Report(total, len(entries), dropped=+dropped)


def _answers(rows: Rows, judged: Sequence[Sequence[Judged]], panel: Panel) -> Dataset:
    """Return what the oracles said, to read."""
    entries = []
    for row, answers in zip(rows, judged, strict=True):
        entry: dict[str, Any] = {"row": row["row"]}
        for (oracle, _), one in zip(panel.members, answers, strict=True):
            entry[f"wins {oracle.name}"] = one.matrix(len(row["responses"])).tolist()
            if one.rewards is not None:
                entry[f"rewards {oracle.name}"] = (one.rewards * oracle.scale).tolist()
        entries.append(entry)
    return Dataset(schema.as_table(entries, schema.ANNOTATIONS))


def _described(data: Dataset, report: Report, manifest: PairsManifest, tokenizer: str) -> EncodedPairs:
    pairs = zip(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"], strict=True)
    return EncodedPairs(
        digest=content_digest(data),
        manifest=manifest,
        tokenizer=tokenizer,
        longest=max(len(prompt) + max(len(first), len(second)) for prompt, first, second in pairs),
        report=report.as_dict(),
    )
