"""The stage that evaluates: a policy against others on held-out prompts, under every oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from mnpo.common.files import clear_partials, whole_folder
from mnpo.common.progress import Progress
from mnpo.llm.config import REFERENCE, Compute, Data, Evaluation, Folders, Judging, Models, Prompts, Sampling
from mnpo.llm.data import schema
from mnpo.llm.data.batches import Request
from mnpo.llm.data.blocks import Blocks
from mnpo.llm.data.formats import Text
from mnpo.llm.data.prompts import Prompt, as_json, check_held_out, read_prompts
from mnpo.llm.data.tables import TableWriter
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.asking import Asking, judge
from mnpo.llm.oracles.panel import Panel, panels_of
from mnpo.llm.sampling.drawing import Responses, responses
from mnpo.llm.sampling.responses import Sample
from mnpo.llm.stages.annotate import answered_record
from mnpo.llm.stages.records import HELD_OUT, Evaluated, Interval, Scored
from mnpo.llm.stages.sample import drawn_record
from mnpo.llm.training.scores import log_probs
from mnpo.numerics import Array

#: Confidence of the intervals.
LEVEL = 0.95
#: Prompts that are looked at together.
_AT_ONCE = 128
#: The player's name in the seeds of held-out responses.
STREAM = "held-out"


def evaluate(
    folders: Folders,
    model: Models,
    data: Data,
    prompts: Prompts,
    sampling: Sampling,
    judging: Judging,
    evaluation: Evaluation,
    compute: Compute,
    progress: Progress | None = None,
) -> Evaluated:
    """Compare the policy that was trained with others.

    Args:
        folders: `<output_dir>/model` is tested, unless `evaluation` says which.
        model: the reference, and where training started.
        data: the lengths of prompts and responses.
        prompts: the held-out ones.
        sampling: how responses are drawn.
        judging: who judges, unless `evaluation` says.
        evaluation: what is tested, against whom, under which oracles.
        compute: seed, device and precision.
        progress: called as the work goes on.

    Raises:
        ValueError: fewer than two held-out prompts, or bad models or oracles.
    """
    panels = panels_of(judging.oracle, evaluation.eval_oracles, trust_remote_code=model.trust_remote_code)
    job = Job.start(folders, model, compute, progress)
    tokenizer = job.tokenizer()
    if job.processes.first:
        clear_partials(job.home)
    asked = read_prompts(data, prompts, tokenizer, compute.seed, job.encodings)[0]["eval"]
    check_held_out(asked, data.max_length, prompts.eval_prompts)
    trained = job.home / "model"
    policy = evaluation.eval_model or (str(trained) if trained.is_dir() else model.model_name_or_path)
    rivals = _opponents(model, evaluation)
    count = evaluation.eval_generations
    homes = {"policy": job.find(policy)} | {name: job.find(named) for name, named in rivals.items()}
    reference = job.find(model.reference)
    found = {
        name: responses(job, sampling, data.max_length, name, home, tokenizer, asked, STREAM, count)
        for name, home in homes.items()
    }
    chances, taken = _chances(job, panels, asked, list(found.values()), count)
    win_rate = {
        rival: {name: interval(_means(wins, place, count)) for name, wins in chances.items()}
        for place, rival in enumerate(rivals, start=1)
    }
    own = found["policy"]
    ratios, scored = _log_ratios(job, homes["policy"], reference, asked, own.samples)

    def write() -> Evaluated:
        record = Evaluated(
            model=str(homes["policy"]),
            folder=str(job.home / HELD_OUT),
            prompts=len(asked),
            win_rate=win_rate,
            length=own.length,
            ended=own.ended,
            kl=float(ratios.mean()),
            kl_error=float(ratios.mean(1).std(ddof=1) / np.sqrt(len(ratios))),
            models=[drawn_record(name, homes[name], drawn) for name, drawn in found.items()],
            oracles=[answered_record(asking) for asking in taken],
            scores=scored,
        )
        _write(job.home / HELD_OUT, asked, {name: drawn.samples for name, drawn in found.items()})
        record.write(job.home)
        return record

    return job.processes.agree(write)


def interval(means: Array, level: float = LEVEL) -> Interval:
    """Return the mean of prompts' win rates and its confidence interval.

    Args:
        means: (prompts,), at least two.
        level: of confidence, by Student's t; cut to [0, 1].
    """
    mean = float(means.mean())
    error = float(means.std(ddof=1) / np.sqrt(means.size))
    reach = float(student.ppf((1 + level) / 2, means.size - 1)) * error
    return Interval(mean=mean, low=max(0.0, mean - reach), high=min(1.0, mean + reach))


def _opponents(model: Models, evaluation: Evaluation) -> Mapping[str, str]:
    if evaluation.eval_opponents:
        return evaluation.eval_opponents
    others = dict(zip(model.names_of_opponents(), model.opponent_models, strict=True))
    return {REFERENCE: model.reference, "previous": model.model_name_or_path, **others}


def _chances(
    job: Job, panels: Mapping[str, Panel], asked: Sequence[Prompt], everybody: Sequence[Responses], count: int
) -> tuple[dict[str, Array], list[Asking]]:
    """Return the policy's win probabilities by oracle, (prompts, K, K · policies), and what asking took."""

    def read(start: int, stop: int) -> list[tuple[Text, list[str]]]:
        said = [found.samples[start:stop] for found in everybody]
        return [
            (prompt.text, [answer.text for answers in one for answer in answers])
            for prompt, *one in zip(asked[start:stop], *said, strict=True)
        ]

    texts = Blocks(len(asked), read)
    # An oracle of pairs is asked about responses one to one; rewards compare all of them at no cost.
    meetings = [(k, count * rival + k) for rival in range(1, len(everybody)) for k in range(count)]
    chances: dict[str, Array] = {}
    taken: list[Asking] = []
    for name, panel in panels.items():
        judged, asking = judge(job, panel, texts, count, meetings)
        taken += asking
        rows = [
            [one.matrix(count) for one in answers]
            for start in range(0, len(asked), _AT_ONCE)
            for answers in judged.between(start, start + _AT_ONCE)
        ]
        parts = [np.array(matrices) for matrices in zip(*rows, strict=True)]
        weights = [member.weight for member in panel.members]
        chances[name] = np.sum([w * part for w, part in zip(weights, parts, strict=True)], axis=0)
        if len(parts) > 1:
            members = [f"{name}/{member.oracle.name}" for member in panel.members]
            chances |= dict(zip(members, parts, strict=True))
    return chances, taken


def _means(wins: Array, rival: int, count: int) -> Array:
    """Each prompt's mean win rate against a rival's responses, of those that met: (prompts,)."""
    block = wins[:, :, count * rival : count * (rival + 1)]
    return np.asarray(np.nanmean(block, axis=(1, 2)))


def _log_ratios(
    job: Job, policy: Path, reference: Path, prompts: Sequence[Prompt], answers: Sequence[Sequence[Sample]]
) -> tuple[Array, list[Scored]]:
    """Return log π/π_ref of every response, (prompts, K), and what was scored."""
    requests: list[Request] = [
        (prompt.ids, answer.ids) for prompt, found in zip(prompts, answers, strict=True) for answer in found
    ]
    parts, records = [], []
    for name, folder in (("policy", policy), (REFERENCE, reference)):
        found = log_probs(job, name, folder, requests)
        parts.append(found.values)
        records.append(
            Scored(
                anchor=name,
                model=str(folder),
                scored=found.scored,
                reused=found.reused,
                seconds=found.seconds,
            )
        )
    return (parts[0] - parts[1]).reshape(len(prompts), -1), records


def _write(
    folder: Path, prompts: Sequence[Prompt], answers: Mapping[str, Sequence[Sequence[Sample]]]
) -> None:
    """Write down who answered what."""
    with (
        whole_folder(folder) as partial,
        TableWriter(partial, schema.HELD_OUT, ["row", "prompt", *answers]) as writer,
    ):
        for start in range(0, len(prompts), _AT_ONCE):
            some = prompts[start : start + _AT_ONCE]
            said = {name: found[start : start + len(some)] for name, found in answers.items()}
            writer.append(
                [
                    {"row": prompt.number, "prompt": as_json(prompt.text)}
                    | {name: [answer.text for answer in found[place]] for name, found in said.items()}
                    for place, prompt in enumerate(some)
                ]
            )
