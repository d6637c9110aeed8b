"""The stage that samples: responses of the policy, and of those that it is compared with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from mnpo.llm import sampling
from mnpo.llm.config import Config
from mnpo.llm.locate import (
    Progress,
    autocast_dtype,
    computed_by,
    model_folder,
    part_of,
    policy_folder,
    policy_tokenizer,
    release,
    text_digest,
)
from mnpo.llm.models import vocabulary_fingerprint
from mnpo.llm.oracles.panel import build
from mnpo.llm.pairs import content_digest
from mnpo.llm.processes import Group, join
from mnpo.llm.prompts import Prompt, as_json, read_prompts
from mnpo.llm.recipes import check, sampled_models
from mnpo.llm.samplers import load_sampler
from mnpo.llm.sampling import Asked, Drawing, Sample
from mnpo.llm.storage import keep_dataset, sweep, write_json

#: The stage's record and its data set, in the output folder.
RECORD = "samples.json"
SAMPLES = "prompts-and-responses"


def sample(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """Sample responses to this iteration's prompts.

    Args:
        config: the run; everything is written below its `output_dir`.
        progress: called as the work goes on.

    Returns:
        The record that stands in `<output_dir>/samples.json`: `folder`, which holds the data set with the columns
        row, prompt (JSON), prompt_ids, responses and opponents (for each opponent its responses); `manifest`;
        `prompts`, what became of the prompts; `models`, for each who was sampled how many responses were drawn
        and reused, tokens, seconds, mean length and the share that ended.

    Raises:
        ValueError: bad prompts or models, or a configuration that cannot be annotated or fitted.
    """
    processes = join(bool(config.training.get("use_cpu")))
    if config.oracle is not None:
        check(config, build(config.oracle, trust_remote_code=config.trust_remote_code))
    folder, tokenizer = policy_folder(config, processes, progress), policy_tokenizer(config, processes)
    if processes.first:
        sweep(config.folder)
    prompts, reports = read_prompts(config, tokenizer)
    asked = prompts["train"]
    own, record = responses(
        config, "policy", folder, tokenizer, asked, config.stream, config.num_generations, processes, progress
    )
    records = [record]
    others: list[list[list[Sample]]] = []
    for name, model in sampled_models(config).items():
        home = model_folder(config, model, processes)
        count = config.opponent_generations or config.num_generations
        found, record = responses(config, name, home, tokenizer, asked, name, count, processes, progress)
        others.append(found)
        records.append(record)
    rows = [
        {
            "row": prompt.number,
            "prompt": as_json(prompt.text),
            "prompt_ids": list(prompt.ids),
            "responses": [answer._asdict() for answer in own[place]],
            "opponents": [[answer._asdict() for answer in found[place]] for found in others],
        }
        for place, prompt in enumerate(asked)
    ]
    data = Dataset.from_list(rows)
    manifest = {
        "samples": content_digest(data),
        "opponents": list(sampled_models(config)),
        "tokenizer": vocabulary_fingerprint(tokenizer),
    }
    target = config.folder / SAMPLES
    record = {
        "folder": str(target),
        "manifest": manifest,
        "prompts": {part: report.as_dict() for part, report in reports.items()},
        "used": {part: len(found) for part, found in prompts.items()},
        "models": records,
    }
    if processes.first:
        keep_dataset(data, target, "manifest.json", manifest)
        write_json(config.folder / RECORD, record)
    processes.wait()
    return record


def responses(
    config: Config,
    name: str,
    folder: Path,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    stream: str,
    count: int,
    processes: Group,
    progress: Progress | None,
) -> tuple[list[list[Sample]], dict[str, Any]]:
    """Return `count` responses of a model to each prompt, drawing those that are not in the store.

    Args:
        config: how they are drawn, and where they are kept.
        name: what the model is called.
        folder: of the model.
        tokenizer: the policy's.
        prompts: what is asked.
        stream: names the player in the seeds.
        count: for each prompt.
        processes: each draws its share.
        progress: called as the work goes on.

    Returns:
        (prompts, count) responses, and a record of what was done.
    """
    start = time.monotonic()
    room = config.max_length
    drawing = Drawing(config.temperature, config.top_p, config.max_new_tokens or room, room, config.seed)
    store = sampling.store_of(config.store_folder("samples"), _key(config, folder, tokenizer, drawing))
    wanted = [Asked(prompt.ids, stream, k) for prompt in prompts for k in range(count)]
    check_room(config, prompts)
    alone = config.sampler == "vllm"  # which shares the work among GPUs, and makes batches, itself
    size = 1024 if alone else config.per_device_generation_batch_size
    batches = processes.agree(lambda: sampling.missing(wanted, store, size))
    mine = (batches if processes.first else []) if alone else batches[processes.rank :: processes.world]
    if mine:
        sampler = load_sampler(
            config.sampler,
            folder,
            tokenizer,
            drawing,
            device=processes.device,
            autocast=autocast_dtype(config),
            loading=config.loading,
            options={
                "seed": config.seed % 2**31,
                "trust_remote_code": config.trust_remote_code,
                **config.vllm,
            },
        )
        try:
            sampling.draw(sampler, mine, store, tokenizer, part_of(progress, f"sample: {name}"))
        except ValueError as error:
            raise ValueError(f"{name} ({folder}): {error}") from None
        del sampler
        release()
    processes.wait()
    known = store.load()
    digests = [sampling.digest(asked) for asked in wanted]
    found = [Sample(**known[key]) for key in digests]
    drawn = sum(map(len, batches))
    seconds = time.monotonic() - start
    new = {sampling.digest(asked) for batch in batches for asked in batch}
    tokens = sum(len(known[key]["ids"]) for key in new)
    record = {
        "name": name,
        "model": str(folder),
        "drawn": drawn,
        "reused": len(set(digests)) - drawn,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if drawn else None,
        "length": sum(len(answer.ids) for answer in found) / max(len(found), 1),
        "ended": sum(answer.ended for answer in found) / max(len(found), 1),
    }
    return [found[place : place + count] for place in range(0, len(found), count)], record


def check_room(config: Config, prompts: Sequence[Prompt]) -> None:
    """Refuse prompts that leave no room for a response.

    Raises:
        ValueError: names the first.
    """
    for prompt in prompts:
        if len(prompt.ids) >= config.max_length:
            raise ValueError(
                f"prompt {prompt.number} has {len(prompt.ids)} tokens, which leaves no room within max_length "
                f"{config.max_length}"
            )


def _key(config: Config, folder: Path, tokenizer: Any, drawing: Drawing) -> Mapping[str, Any]:
    """Say what samples depend on besides what is asked."""
    vocabulary = text_digest(vocabulary_fingerprint(tokenizer), tokenizer.chat_template)
    how = {"sampler": config.sampler, "tokenizer": vocabulary, **drawing._asdict()}
    if config.sampler == "vllm":
        how |= {"vllm": config.vllm}
    return {**computed_by(config, folder), **how}
