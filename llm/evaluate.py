"""The stage that evaluates: a policy against others on held-out prompts, under every oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.stats import t as student

from mnpo.llm.annotate import judge
from mnpo.llm.config import Config
from mnpo.llm.locate import Progress, model_folder, policy_tokenizer
from mnpo.llm.oracles.panel import build
from mnpo.llm.processes import Group, join
from mnpo.llm.prompts import Prompt, as_json, read_prompts
from mnpo.llm.recipes import opponent_names
from mnpo.llm.sample import check_room, responses
from mnpo.llm.sampling import Sample
from mnpo.llm.score import log_probs
from mnpo.llm.scores import Request
from mnpo.llm.scores import digest as digest_of
from mnpo.llm.storage import sweep, whole_folder, write_json
from mnpo.numerics import Array

#: The stage's record and its data set of responses, in the output folder.
RECORD = "evaluation.json"
HELD_OUT = "held-out"
#: Confidence of the intervals.
LEVEL = 0.95
#: The player's name in the seeds of held-out responses.
STREAM = "held-out"


def evaluate(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """Compare the policy that was trained with others.

    Args:
        config: the run; `eval_model` is tested, or `<output_dir>/model`, or the policy itself.
        progress: called as the work goes on.

    Returns:
        The record that stands in `<output_dir>/evaluation.json`: `model`; `folder`, which holds the prompts and
        everybody's responses to them, to read; `prompts`, how many; `win_rate`,
        opponent -> oracle -> mean, low and high, a 95% interval over prompts (Student's t); `length` in tokens,
        `ended`; `kl`, the mean of log π/π_ref over the responses, and its standard error `kl_error`; `models`,
        `oracles` and `scores`, what was drawn, asked and scored.

    Raises:
        ValueError: fewer than two held-out prompts, or bad models or oracles.
    """
    processes = join(bool(config.training.get("use_cpu")))
    trust = config.trust_remote_code
    given = config.eval_oracles or {"": config.oracle}
    panels = [build(spec, trust_remote_code=trust) for spec in given.values()]
    names = [name or panel.name for name, panel in zip(given, panels, strict=True)]
    tokenizer = policy_tokenizer(config, processes)
    if processes.first:
        sweep(config.folder)
    prompts = read_prompts(config, tokenizer)[0]["eval"]
    check_held_out(config, prompts)
    trained = config.folder / "model"
    policy = Path(config.eval_model) if config.eval_model else trained if trained.is_dir() else None
    home = model_folder(config, str(policy or config.model_name_or_path), processes)
    reference = model_folder(
        config, config.reference_model_name_or_path or config.model_name_or_path, processes
    )

    def held_out(name: str, folder: Path) -> list[list[Sample]]:
        found, record = responses(
            config, name, folder, tokenizer, prompts, STREAM, config.eval_generations, processes, progress
        )
        drawn.append(record)
        return found

    drawn: list[dict[str, Any]] = []
    own = held_out("policy", home)
    rivals = {name: held_out(name, model_folder(config, model, processes))
              for name, model in _opponents(config).items()}  # fmt: skip
    texts = [
        (prompt.text, [answer.text for found in (own, *rivals.values()) for answer in found[place]])
        for place, prompt in enumerate(prompts)
    ]
    count = config.eval_generations
    chances: dict[str, Array] = {}
    asked = []
    for name, panel in zip(names, panels, strict=True):
        # An oracle of pairs is asked about responses one to one; rewards compare all of them at no cost.
        meetings = [(k, count * rival + k) for rival in range(1, len(rivals) + 1) for k in range(count)]
        judged, records = judge(config, panel, texts, count, meetings, processes, progress)
        asked += records
        parts = [
            np.array([answers[m].matrix(count) for answers in judged]) for m in range(len(panel.members))
        ]
        weights = [member.weight for member in panel.members]
        chances[name] = np.sum([w * part for w, part in zip(weights, parts, strict=True)], axis=0)
        if len(parts) > 1:
            members = [f"{name}/{member.oracle.name}" for member in panel.members]
            chances |= dict(zip(members, parts, strict=True))
    win_rate = {
        rival: {name: interval(_means(wins, place, count)) for name, wins in chances.items()}
        for place, rival in enumerate(rivals, start=1)
    }
    ratios, scored = _log_ratios(config, home, reference, prompts, own, processes, progress)
    record = {
        "model": str(home),
        "folder": str(config.folder / HELD_OUT),
        "prompts": len(prompts),
        "win_rate": win_rate,
        "length": drawn[0]["length"],
        "ended": drawn[0]["ended"],
        "kl": float(ratios.mean()),
        "kl_error": float(ratios.mean(1).std(ddof=1) / np.sqrt(len(ratios))),
        "models": drawn,
        "oracles": asked,
        "scores": scored,
    }
    if processes.first:
        _write(config.folder / HELD_OUT, prompts, {"policy": own, **rivals})
        write_json(config.folder / RECORD, record)
    processes.wait()
    return record


def check_held_out(config: Config, prompts: Sequence[Prompt]) -> None:
    """Refuse held-out prompts that are too few for an interval, or too long for a response.

    Raises:
        ValueError: as said.
    """
    if len(prompts) < 2:
        raise ValueError(
            f"an evaluation needs at least 2 held-out prompts: eval_prompts={config.eval_prompts:g} leaves "
            f"{len(prompts)}"
        )
    check_room(config, prompts)


def interval(means: Array, level: float = LEVEL) -> dict[str, float]:
    """Return the mean of prompts' win rates and its confidence interval.

    Args:
        means: (prompts,), at least two.
        level: of confidence, by Student's t; cut to [0, 1].
    """
    mean = float(means.mean())
    error = float(means.std(ddof=1) / np.sqrt(means.size))
    reach = float(student.ppf((1 + level) / 2, means.size - 1)) * error
    return {"mean": mean, "low": max(0.0, mean - reach), "high": min(1.0, mean + reach)}


def _write(
    folder: Path, prompts: Sequence[Prompt], answers: Mapping[str, Sequence[Sequence[Sample]]]
) -> None:
    """Write down who answered what."""
    rows = [
        {"row": prompt.number, "prompt": as_json(prompt.text)}
        | {name: [answer.text for answer in found[place]] for name, found in answers.items()}
        for place, prompt in enumerate(prompts)
    ]
    with whole_folder(folder) as partial:
        Dataset.from_list(rows).save_to_disk(str(partial))


def _opponents(config: Config) -> Mapping[str, str]:
    if config.eval_opponents:
        return config.eval_opponents
    others = dict(zip(opponent_names(config), config.opponent_models, strict=True))
    reference = config.reference_model_name_or_path or config.model_name_or_path
    return {"reference": reference, "previous": config.model_name_or_path, **others}


def _means(wins: Array, rival: int, count: int) -> Array:
    """Each prompt's mean win rate against a rival's responses, of those that met: (prompts,)."""
    block = wins[:, :, count * rival : count * (rival + 1)]
    return np.asarray(np.nanmean(block, axis=(1, 2)))


def _log_ratios(
    config: Config,
    policy: Path,
    reference: Path,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Sample]],
    processes: Group,
    progress: Progress | None,
) -> tuple[Array, list[dict[str, Any]]]:
    """Return log π/π_ref of every response, (prompts, K), and what was scored."""
    requests: list[Request] = [
        (prompt.ids, answer.ids) for prompt, found in zip(prompts, answers, strict=True) for answer in found
    ]
    parts, records = [], []
    for name, folder in (("policy", policy), ("reference", reference)):
        known, record = log_probs(config, name, folder, requests, processes, progress)
        parts.append(np.array([known[digest_of(*request)] for request in requests]))
        records.append({"name": name, **record})
    return (parts[0] - parts[1]).reshape(len(prompts), -1), records
