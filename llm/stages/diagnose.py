"""The stage that diagnoses: what a game could gain on the reference's samples, before anything is trained."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mnpo.common.cycles import Cycles, shortened
from mnpo.common.diagnosis_figure import diagnosis_figure
from mnpo.common.files import clear_partials, whole_file
from mnpo.common.ornaments import add_figures
from mnpo.common.progress import Progress
from mnpo.cyclicity import check_size
from mnpo.diagnosis import Annotator, Diagnosing
from mnpo.llm.config import (
    REFERENCE,
    Compute,
    Data,
    Evaluation,
    Folders,
    Judging,
    Loop,
    Models,
    Prompts,
    Sampling,
    Update,
)
from mnpo.llm.data.blocks import Blocks
from mnpo.llm.data.formats import Text
from mnpo.llm.data.prompts import Prompt, as_json, read_prompts
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.asking import Judgments, judge
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.sampling.drawing import Responses, responses
from mnpo.llm.stages.annotate import answered_record
from mnpo.llm.stages.annotators import annotators
from mnpo.llm.stages.records import Diagnosed
from mnpo.llm.stages.sample import drawn_record
from mnpo.llm.storage.mapped import let_go

#: τ of the games where the configuration names none.
TAU = 0.1
#: Prompts that are looked at together.
_AT_ONCE = 128


def diagnose(
    folders: Folders,
    model: Models,
    data: Data,
    prompts: Prompts,
    sampling: Sampling,
    judging: Judging,
    update: Update,
    evaluation: Evaluation,
    loop: Loop,
    compute: Compute,
    progress: Progress | None = None,
) -> Diagnosed:
    """Say what a Nash method, and more players, could gain on this model's samples under these oracles.

    Args:
        folders: everything is written below `output_dir`.
        model: the reference is sampled.
        data: the lengths of prompts and responses.
        prompts: what is asked.
        sampling: how responses are drawn; K is `num_generations`. Training finds them in the store.
        judging: who judges; members of a population are annotators.
        update: its rule's τ is that of the games, unless `evaluation` has one.
        evaluation: τ, if `eval_tau` is given.
        loop: players with oracles of their own are annotators.
        compute: seed, device and precision.
        progress: called as the work goes on.

    Raises:
        ValueError: bad prompts, models or oracles, fewer than three responses, or none that differ.
    """
    check_size(sampling.num_generations)
    names, panel = annotators(judging, loop, trust_remote_code=model.trust_remote_code)
    job = Job.start(folders, model, compute, progress)
    tokenizer = job.tokenizer()
    if job.processes.first:
        clear_partials(job.home)
    asked = read_prompts(data, prompts, tokenizer, compute.seed, job.encodings)[0]["train"]
    if not asked:
        raise ValueError("no prompt is left to sample responses for: all of them are held out")
    home, count = job.find(model.reference), sampling.num_generations
    found = responses(
        job, sampling, data.max_length, REFERENCE, home, tokenizer, asked, sampling.stream, count
    )
    texts = _texts(asked, found)
    judgments, taken = judge(job, panel, texts, count, list(itertools.combinations(range(count), 2)))

    def write() -> Diagnosed:
        gathering, cycles = Diagnosing(_tau(update, evaluation), compute.seed), Cycles()
        dropped = _gather(gathering, cycles, texts, judgments, names)
        record = Diagnosed(
            model=str(home),
            diagnosis=gathering.finish().as_dict(),
            cycles=cycles.found(),
            dropped=dropped,
            models=[drawn_record(REFERENCE, home, found)],
            oracles=[answered_record(asking) for asking in taken],
        )
        with whole_file(job.home / "diagnosis.md") as partial:
            partial.write_text(_page(record), encoding="utf-8", errors="replace")
        record.write(job.home)
        add_figures(lambda: {"diagnosis": diagnosis_figure(record.diagnosis)}, job.home)
        return record

    return job.processes.agree(write)


def _tau(update: Update, evaluation: Evaluation) -> float:
    if evaluation.eval_tau is not None:
        return evaluation.eval_tau
    rule = update.the_rule()
    tau = 0.0 if rule is None else float(np.asarray(rule.tau).flat[0])
    return tau if tau > 0 else TAU


def _texts(asked: Sequence[Prompt], found: Responses) -> Blocks[tuple[Text, list[str]]]:
    def read(start: int, stop: int) -> list[tuple[Text, list[str]]]:
        pairs = zip(asked[start:stop], found.samples[start:stop], strict=True)
        return [(prompt.text, [answer.text for answer in answers]) for prompt, answers in pairs]

    return Blocks(len(asked), read)


def _gather(
    gathering: Diagnosing,
    cycles: Cycles,
    texts: Blocks[tuple[Text, list[str]]],
    judgments: Judgments,
    names: Sequence[str],
) -> dict[str, int]:
    """Take in all prompts, some at a time; return reason -> how many say nothing."""
    dropped: Counter[str] = Counter()
    kept = 0
    for start in range(0, len(texts), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(texts))
        rows = list(zip(texts[start:stop], judgments.between(start, stop), strict=True))
        used = []
        for (prompt, answers), said in rows:
            reason = _useless(answers, said)
            if reason:
                dropped[reason] += 1
            else:
                used.append((prompt, answers, said))
        if used:
            parts = _parts(names, [said for _, _, said in used])
            gathering.add(parts)
            wins = np.tensordot([part.weight for part in parts], [part.matrix() for part in parts], axes=1)
            for (prompt, answers, _), matrix in zip(used, wins, strict=True):
                cycles.add(_said(prompt), answers, matrix)
        kept += len(used)
        let_go()
    if not kept:
        reason, _ = dropped.most_common(1)[0]
        raise ValueError(
            f"no prompt can be diagnosed: {reason}; sample more responses, or at a higher temperature"
        )
    return dict(dropped)


def _useless(answers: Sequence[str], said: Sequence[Judged]) -> str:
    """Why a prompt says nothing of preferences; nothing if it does."""
    if len(set(answers)) == 1:
        return "all responses to it are the same"
    count = len(answers)
    even = all((one.matrix(count)[:, :count] == 0.5).all() for one in said)
    return "all responses to it tie for everybody" if even else ""


def _parts(names: Sequence[str], judged: Sequence[Sequence[Judged]]) -> list[Annotator]:
    parts = []
    for name, said in zip(names, zip(*judged, strict=True), strict=True):
        rewards = [one.rewards for one in said if one.rewards is not None]
        if rewards:
            parts.append(Annotator(name, said[0].weight, utilities=np.stack(rewards)))
        else:
            wins = [one.wins for one in said if one.wins is not None]
            parts.append(Annotator(name, said[0].weight, wins=np.stack([w[:, : len(w)] for w in wins])))
    return parts


def _said(prompt: Text) -> str:
    """The last thing that was said, of messages."""
    return prompt if isinstance(prompt, str) else str(prompt[-1].get("content", as_json(prompt)))


def _page(record: Diagnosed) -> str:
    """A few prompts with their cycles, to read."""
    advice = record.diagnosis["recommendation"]
    lines = ["# Diagnosis", "", *(f"* {name}: {reason}" for name, reason in advice["reasons"].items()), ""]
    if not record.cycles:
        lines += ["No prompt has a cycle: everywhere the population orders its responses.", ""]
    for found in record.cycles:
        lines += [f"## {shortened(found['prompt'], 80)}", "", found["prompt"], ""]
        for place, step in enumerate(found["cycle"], 1):
            following = place % len(found["cycle"]) + 1
            lines.append(f"{place}. beats {following} with {step['beats_next']:.2f}: {step['response']}")
        lines.append("")
    return "\n".join(lines)
