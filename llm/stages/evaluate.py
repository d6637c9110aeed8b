"""The stage that evaluates: a policy against others on held-out prompts, under every oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from mnpo.common.files import clear_partials, whole_folder
from mnpo.common.progress import Progress
from mnpo.llm.config import (
    REFERENCE,
    Compute,
    Data,
    Evaluation,
    Folders,
    Judging,
    Models,
    Prompts,
    Sampling,
    Update,
)
from mnpo.llm.data import schema
from mnpo.llm.data.blocks import Blocks
from mnpo.llm.data.formats import Text
from mnpo.llm.data.prompts import Prompt, as_json, check_held_out, read_prompts
from mnpo.llm.data.tables import TableWriter
from mnpo.llm.models.folders import MODEL, fingerprint
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.asking import Asking, Judgments, judge
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.oracles.panel import Panel, panels_of
from mnpo.llm.sampling.drawing import HELD_OUT_STREAM, Responses, responses
from mnpo.llm.sampling.responses import Sample
from mnpo.llm.stages.annotate import answered_record
from mnpo.llm.stages.gaps import Gaps, Sides, plans
from mnpo.llm.stages.log_ratios import log_ratios
from mnpo.llm.stages.records import HELD_OUT, Evaluated, Interval
from mnpo.llm.stages.sample import drawn_record
from mnpo.llm.storage.mapped import let_go
from mnpo.numerics import Array

#: Confidence of the intervals.
LEVEL = 0.95
#: Prompts that are looked at together.
_AT_ONCE = 128


def evaluate(
    folders: Folders,
    model: Models,
    data: Data,
    prompts: Prompts,
    sampling: Sampling,
    judging: Judging,
    update: Update,
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
        update: its rule's τ is that of the game whose gap is estimated.
        evaluation: what is tested, against whom, under which oracles.
        compute: seed, device and precision.
        progress: called as the work goes on.

    Raises:
        ValueError: fewer than two held-out prompts, bad models or oracles, or a gap that cannot be estimated.
    """
    panels = panels_of(judging.oracle, evaluation.eval_oracles, trust_remote_code=model.trust_remote_code)
    job = Job.start(folders, model, compute, progress)
    tokenizer = job.tokenizer()
    if job.processes.first:
        clear_partials(job.home)
    asked = read_prompts(data, prompts, tokenizer, compute.seed, job.encodings)[0]["eval"]
    check_held_out(asked, data.max_length, prompts.eval_prompts)
    trained = job.home / MODEL
    policy = evaluation.eval_model or (str(trained) if trained.is_dir() else model.model_name_or_path)
    rivals = _opponents(model, evaluation)
    count = evaluation.eval_generations
    wanted = plans(model, sampling, judging, update, evaluation, panels)
    homes = {"policy": job.find(policy)} | {name: job.find(named) for name, named in rivals.items()}
    reference = job.find(model.reference)

    def drawn(name: str, home: Path, stream: str) -> Responses:
        return responses(job, sampling, data.max_length, name, home, tokenizer, asked, stream, count)

    found = {name: drawn(name, home, HELD_OUT_STREAM) for name, home in homes.items()}
    roles, again = _independent(homes, reference, [name for plan in wanted.values() for name in plan.others])
    more = (
        {name: drawn(name, home, f"{HELD_OUT_STREAM}-{name}") for name, home in again.items()}
        if wanted
        else {}
    )
    everybody = found | more
    own = found["policy"]
    scored_of = [own, everybody[roles[REFERENCE]]] if wanted else [own]
    ratios, scored = log_ratios(job, homes["policy"], reference, asked, scored_of)
    place = {name: range(k * count, (k + 1) * count) for k, name in enumerate(everybody)}
    gaps = {
        name: Gaps(
            plan,
            Sides(place["policy"], place[roles[REFERENCE]], {who: place[roles[who]] for who in plan.others}),
            ratios,
        )
        for name, plan in wanted.items()
    }
    texts = _texts(asked, list(everybody.values()))
    judged = {
        name: _ask(job, panel, texts, count, len(rivals), gaps.get(name)) for name, panel in panels.items()
    }

    sizes = count, len(rivals)

    def write() -> Evaluated:
        rates = {
            name: means
            for panel, (said, _) in judged.items()
            for name, means in _read(panel, panels[panel], said, len(asked), sizes, gaps.get(panel)).items()
        }
        own_ratios = ratios[:, :count]
        record = Evaluated(
            model=str(homes["policy"]),
            folder=str(job.home / HELD_OUT),
            prompts=len(asked),
            win_rate={
                rival: {name: interval(means[k]) for name, means in rates.items()}
                for k, rival in enumerate(rivals)
            },
            length=own.length,
            ended=own.ended,
            kl=float(own_ratios.mean()),
            kl_error=float(own_ratios.mean(1).std(ddof=1) / np.sqrt(len(asked))),
            gap={
                name: gaps[name].bracket(np.random.default_rng(compute.seed)) if name in gaps else None
                for name in panels
            },
            models=[drawn_record(name, (homes | again)[name], one) for name, one in everybody.items()],
            oracles=[answered_record(asking) for _, taken in judged.values() for asking in taken],
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


def _independent(
    homes: Mapping[str, Path], reference: Path, others: Sequence[str]
) -> tuple[dict[str, str], dict[str, Path]]:
    """Say whose responses a gap is estimated from.

    Models of the same content that draw under the same name give the same responses, and a response must not meet
    itself: all but the first draw again.

    Returns:
        The reference's and the other players' names -> a name of `homes` or of those that draw again; and these.
    """
    roles: dict[str, str] = {}
    again: dict[str, Path] = {}
    seen = {fingerprint(homes["policy"])}
    for role, home in {REFERENCE: reference, **{name: homes[name] for name in others}}.items():
        content = fingerprint(home)
        there = [name for name, one in homes.items() if name != "policy" and fingerprint(one) == content]
        if there and content not in seen:
            roles[role] = there[0]
        else:
            roles[role] = f"{role}-again"
            again[roles[role]] = home
        seen.add(content)
    return roles, again


def _texts(asked: Sequence[Prompt], everybody: Sequence[Responses]) -> Blocks[tuple[Text, list[str]]]:
    """Prompts with everybody's responses, the policy's first."""

    def read(start: int, stop: int) -> list[tuple[Text, list[str]]]:
        said = [found.samples[start:stop] for found in everybody]
        return [
            (prompt.text, [answer.text for answers in one for answer in answers])
            for prompt, *one in zip(asked[start:stop], *said, strict=True)
        ]

    return Blocks(len(asked), read)


def _ask(
    job: Job,
    panel: Panel,
    texts: Blocks[tuple[Text, list[str]]],
    count: int,
    rivals: int,
    gap: Gaps | None,
) -> tuple[Judgments, list[Asking]]:
    """Have a panel judge who meets whom; win matrices have a row for every response where there is a gap."""
    meetings = set(_one_to_one(count, rivals))
    if gap is None:
        return judge(job, panel, texts, count, sorted(meetings))
    return judge(job, panel, texts, len(texts[0][1]), sorted(meetings | gap.meetings()))


def _one_to_one(count: int, rivals: int) -> list[tuple[int, int]]:
    """Which of the policy's and a rival's responses meet for a win rate, where that costs a question."""
    return [(k, count * rival + k) for rival in range(1, rivals + 1) for k in range(count)]


def _read(
    name: str,
    panel: Panel,
    judged: Judgments,
    prompts: int,
    sizes: tuple[int, int],
    gap: Gaps | None,
) -> dict[str, Array]:
    """Read what a panel says, some prompts at a time, and hand it on to the gap.

    Args:
        name: of the panel.
        panel: who judges.
        judged: what they say.
        prompts: how many.
        sizes: K, and how many rivals.
        gap: what gathers its estimates, where there is one.

    Returns:
        Win rates by oracle, (rivals, prompts): the panel's, and where it has several members theirs. Those of an
        oracle of pairs are of responses one to one, so that they are the same with a gap and without; rewards
        compare all.
    """
    names = [name]
    if len(panel.members) > 1:
        names += [f"{name}/{member.oracle.name}" for member in panel.members]
    found: dict[str, list[Array]] = {one: [] for one in names}
    start = 0
    while start < prompts:
        rows = judged.between(start, min(prompts, start + judged.at_once))
        by_member = list(zip(*rows, strict=True))
        parts = [np.array([_met(one, *sizes) for one in said]) for said in by_member]  # (prompts, K, N) each
        mean = np.sum([said[0].weight * part for said, part in zip(by_member, parts, strict=True)], axis=0)
        for one, wins in zip(names, [mean, *parts], strict=False):
            found[one].append(_means(wins, *sizes))
        if gap is not None:
            gap.add(start, by_member)
        start += len(rows)
        let_go()
    return {one: np.concatenate(blocks, axis=1) for one, blocks in found.items()}


def _met(judged: Judged, count: int, rivals: int) -> Array:
    """Return the policy's win probabilities, (K, K · policies), NaN where responses do not meet for a win rate."""
    wins = judged.matrix(count)[:count, : count * (rivals + 1)]
    if judged.rewards is not None:
        return wins
    kept = np.full_like(wins, np.nan)
    first, second = np.array(_one_to_one(count, rivals)).T
    kept[first, second] = wins[first, second]
    return kept


def _means(wins: Array, count: int, rivals: int) -> Array:
    """Each prompt's mean win rate against each rival's responses, of those that met: (rivals, prompts)."""
    blocks = np.split(wins, rivals + 1, axis=2)[1:]
    return np.array([np.nanmean(block, axis=(1, 2)) for block in blocks])


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
