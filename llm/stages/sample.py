"""The stage that samples: responses of the policy, and of those that it is compared with."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset

from mnpo.common.files import clear_partials
from mnpo.common.progress import Progress
from mnpo.llm.config import Compute, Data, Folders, Judging, Models, Prompts, Sampling, Update
from mnpo.llm.data import schema
from mnpo.llm.data.prompts import as_json, read_prompts
from mnpo.llm.data.tables import content_digest
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import vocabulary_fingerprint
from mnpo.llm.oracles.panel import build
from mnpo.llm.preferences.recipes import check, sampled_models
from mnpo.llm.sampling.drawing import Responses, responses
from mnpo.llm.stages.records import SAMPLES, Drawn, Samples, SamplesManifest
from mnpo.llm.storage.datasets import keep_dataset


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
    rows = [
        {
            "row": prompt.number,
            "prompt": as_json(prompt.text),
            "prompt_ids": list(prompt.ids),
            "responses": [answer._asdict() for answer in found["policy"].samples[place]],
            "opponents": [[answer._asdict() for answer in found[name].samples[place]] for name in others],
        }
        for place, prompt in enumerate(asked)
    ]
    dataset = Dataset(schema.as_table(rows, schema.SAMPLES))
    manifest = SamplesManifest(
        samples=content_digest(dataset), opponents=list(others), tokenizer=vocabulary_fingerprint(tokenizer)
    )
    target = job.home / SAMPLES
    record = Samples(
        folder=str(target),
        manifest=manifest,
        prompts={part: report.as_dict() for part, report in reports.items()},
        used={part: len(kept) for part, kept in split.items()},
        models=[drawn_record(name, home, found[name]) for name, home, _, _ in everybody],
    )
    if job.processes.first:
        keep_dataset(dataset, target, "manifest.json", manifest.as_dict())
        record.write(job.home)
    job.processes.wait()
    return record


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
