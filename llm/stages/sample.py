"""The stage that samples: responses of the policy, and of those that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mnpo.common.files import clear_partials, whole_folder
from mnpo.common.progress import Progress
from mnpo.llm.config import Compute, Data, Folders, Judging, Models, Prompts, Sampling, Update
from mnpo.llm.data import schema
from mnpo.llm.data.prompts import Prompt, as_json, read_prompts
from mnpo.llm.data.tables import TableWriter
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import vocabulary_fingerprint
from mnpo.llm.oracles.panel import build
from mnpo.llm.preferences.recipes import check, sampled_models
from mnpo.llm.sampling.drawing import Responses, responses
from mnpo.llm.sampling.responses import Found
from mnpo.llm.stages.records import SAMPLES, Drawn, Samples, SamplesManifest
from mnpo.llm.storage.manifests import write_manifest
from mnpo.llm.storage.mapped import let_go

_IDS = pa.list_(pa.int32())
#: Prompts that are written at once.
_AT_ONCE = 128


def sample(
    folders: Folders,
    model: Models,
    data: Data,
    prompts: Prompts,
    sampling: Sampling,
    judging: Judging,
    update: Update,
    compute: Compute,
    progress: Progress | None = None,
) -> Samples:
    """Sample responses to this iteration's prompts.

    Args:
        folders: everything is written below `output_dir`.
        model: the policy, and its opponents.
        data: the lengths of prompts and responses.
        prompts: what is asked.
        sampling: how responses are drawn.
        judging, update: what they are for, which says whose responses it takes.
        compute: seed, device and precision.
        progress: called as the work goes on.

    Raises:
        ValueError: bad prompts or models, or a configuration that cannot be annotated or fitted.
    """
    if judging.oracle is not None:
        panel = build(judging.oracle, trust_remote_code=model.trust_remote_code)
        check(model, sampling, judging, update, panel)
    job = Job.start(folders, model, compute, progress)
    policy, tokenizer = job.policy(), job.tokenizer()
    if job.processes.first:
        clear_partials(job.home)
    split, reports = read_prompts(data, prompts, tokenizer, compute.seed, job.encodings)
    asked = split["train"]
    if not asked:
        raise ValueError("no prompt is left to sample responses for: all of them are held out")
    others = sampled_models(model, update)
    # Who is sampled: name, folder, name in the seeds, and how many responses.
    rivals = sampling.opponent_generations or sampling.num_generations
    everybody = [("policy", policy, sampling.stream, sampling.num_generations)]
    everybody += [(name, job.find(named), name, rivals) for name, named in others.items()]
    found = {
        name: responses(job, sampling, data.max_length, name, home, tokenizer, asked, stream, count)
        for name, home, stream, count in everybody
    }

    def write() -> Samples:
        target = job.home / SAMPLES
        with whole_folder(target) as partial:
            digest = _write(partial, asked, [found[name].samples for name, *_ in everybody])
            tokens = vocabulary_fingerprint(tokenizer)
            manifest = SamplesManifest(samples=digest, opponents=list(others), tokenizer=tokens)
            write_manifest(partial, manifest.as_dict())
        record = Samples(
            folder=str(target),
            manifest=manifest,
            prompts={part: report.as_dict() for part, report in reports.items()},
            used={part: len(kept) for part, kept in split.items()},
            models=[drawn_record(name, home, found[name]) for name, home, _, _ in everybody],
        )
        record.write(job.home)
        return record

    return job.processes.agree(write)


def _write(folder: Path, asked: Sequence[Prompt], samples: Sequence[Found]) -> str:
    """Write prompts with the responses of the policy and of its opponents; return a digest of the content."""
    with TableWriter(folder, schema.SAMPLES) as writer:
        for start in range(0, len(asked), _AT_ONCE):
            prompts = asked[start : start + _AT_ONCE]
            found = [one.arrow(start, start + len(prompts)) for one in samples]
            ids = [prompt.ids for prompt in prompts]
            columns = {
                "row": pa.array([prompt.number for prompt in prompts]),
                "prompt": pa.array([as_json(prompt.text) for prompt in prompts]),
                "prompt_ids": pa.array(ids, _IDS),
                "responses": _cut(found[0], len(prompts)),
                "opponents": _by_prompt([_cut(one, len(prompts)) for one in found[1:]], len(prompts)),
            }
            writer.append_table(pa.table(columns))
            let_go()
    return writer.digest


def _cut(items: pa.Array, count: int) -> pa.ListArray:
    """Cut an array into as many equally long lists."""
    size = len(items) // count
    return pa.ListArray.from_arrays(pa.array(np.arange(count + 1) * size, pa.int32()), items)


def _by_prompt(lists: Sequence[pa.ListArray], count: int) -> pa.ListArray:
    """Put the lists of each prompt, one of every opponent, into one list."""
    everything = pa.concat_arrays(lists) if lists else pa.array([], pa.list_(schema.RESPONSE))
    order = np.arange(len(lists) * count).reshape(len(lists), count).T.ravel()
    return _cut(everything.take(pa.array(order)), count)


def drawn_record(name: str, folder: Path, found: Responses) -> Drawn:
    """Return the record of one model's responses."""
    return Drawn(
        name=name,
        model=str(folder),
        drawn=found.drawn,
        reused=found.reused,
        tokens=found.tokens,
        seconds=found.seconds,
        tokens_per_second=found.tokens / found.seconds if found.drawn else None,
        length=found.length,
        ended=found.ended,
    )
