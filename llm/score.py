"""The stage that scores: pairs from data, and their log-probabilities under every anchor."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, DatasetDict, load_from_disk

from mnpo.llm.anchors import REFERENCE, anchor_models, is_external
from mnpo.llm.columns import check_columns
from mnpo.llm.config import Config
from mnpo.llm.formats import Malformed, read
from mnpo.llm.locate import (
    Progress,
    autocast_dtype,
    computed_by,
    model_folder,
    part_of,
    policy_folder,
    policy_tokenizer,
    release,
)
from mnpo.llm.logprobs import attach
from mnpo.llm.models import check_vocabulary, load_model, load_tokenizer, vocabulary_fingerprint
from mnpo.llm.pairs import Encoder, Report, content_digest, encode_rows
from mnpo.llm.processes import Group, join
from mnpo.llm.prompts import read_prompts
from mnpo.llm.scores import Request, digest, missing, score, store_of
from mnpo.llm.storage import keep_dataset, read_json, sweep, write_json

#: The stage's record, in the output folder.
SCORES = "scores.json"

#: The pairs that `annotate` makes, in the output folder: a data set whose texts are token ids already.
PREFERENCES = "preferences"
ENCODED = "encoded.json"

_SIDES = ("chosen", "rejected")


def score_pairs(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """Encode the data and compute every anchor's log-probabilities that are not known yet.

    One anchor model is in memory at a time; with several processes each scores its share.

    Args:
        config: the run; everything is written below its `output_dir`.
        progress: called as the work goes on.

    Returns:
        The record that stands in `<output_dir>/scores.json`: `folder`, which holds the data set of pairs with the
        columns <anchor>_chosen and <anchor>_rejected; `manifest`, digests of the pairs and of every anchor; `rows`,
        what became of the data's rows; `anchors`, for each its name, model, how many responses were scored and
        reused, seconds, and mean log-probabilities.

    Raises:
        ValueError: bad data or models; nothing that was computed is lost.
    """
    datasets.disable_progress_bars()
    processes = join(bool(config.training.get("use_cpu")))
    anchors = {name: model_folder(config, model, processes) for name, model in anchor_models(config).items()}
    tokenizer = policy_tokenizer(config, processes)
    _check_tokenizers(config, tokenizer, policy_folder(config, processes), anchors)
    splits, reports = _pairs(config, tokenizer, processes)
    records = []
    for name, folder in anchors.items():
        asked = _requests(config, name, folder, splits)
        record, scores = _scores(config, name, folder, asked, processes, progress)
        records.append(record)
        for split, sides in scores.items():
            for side, values in sides.items():
                splits[split] = splits[split].add_column(f"{name}_{side}", values)
    manifest = {
        "pairs": reports["digests"],
        "anchors": {row["anchor"]: row.pop("digest") for row in records},
    }
    target = config.folder / "scored"
    if processes.first:
        keep_dataset(DatasetDict(splits), target, "manifest.json", manifest)
    record = {"folder": str(target), "manifest": manifest, "rows": reports["rows"], "anchors": records}
    if processes.first:
        write_json(config.folder / SCORES, record)
    processes.wait()
    return record


# --- pairs ----------------------------------------------------------------------------------------------------


def _pairs(config: Config, tokenizer: Any, processes: Group) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Return the encoded splits, written by the first process and read by all."""
    target = config.folder / "pairs"
    if processes.first:
        sweep(config.folder)
        splits, reports = _encode(config, tokenizer)
        record = {
            "rows": {name: report.as_dict() for name, report in reports.items()},
            "digests": {name: content_digest(split) for name, split in splits.items()},
        }
        keep_dataset(DatasetDict(splits), target, "report.json", record)
    processes.wait()
    stored = load_from_disk(str(target))
    return dict(stored), read_json(target / "report.json")


def _encode(config: Config, tokenizer: Any) -> tuple[dict[str, Dataset], dict[str, Report]]:
    def encoded(name: str, split: str | None) -> tuple[Dataset, Report]:
        if is_encoded(Path(name)):
            return read_encoded(Path(name), tokenizer, config.max_length)
        rows = read(
            name,
            config=config.dataset_config_name,
            split=split,
            limit=config.max_samples,
            columns=config.columns,
        )
        return encode_rows(
            rows,
            tokenizer,
            max_length=config.max_length,
            max_prompt_length=config.max_prompt_length,
            drop_overlong=config.overlong == "drop",
        )

    source = config.dataset_name or str(config.folder / PREFERENCES)
    if config.dataset_name is None and not is_encoded(Path(source)):
        raise ValueError(
            "the configuration lacks dataset_name, and output_dir holds no preferences; mnpo llm sample and "
            "annotate make them"
        )
    train, report = encoded(source, config.dataset_split)
    if config.prompt_part is not None and config.prompt_dataset_name in (None, config.dataset_name):
        train = _of_this_part(config, tokenizer, train, report)
    splits, reports = {"train": train}, {"train": report}
    if config.eval_dataset_name is not None or config.eval_split is not None:
        name = config.eval_dataset_name or source
        splits["eval"], reports["eval"] = encoded(name, config.eval_split)
    elif config.eval_size:
        held = int(config.eval_size if config.eval_size >= 1 else round(config.eval_size * len(train)))
        if not 1 <= held < len(train):
            raise ValueError(f"eval_size must leave pairs to train on; found {held} of {len(train)} pairs")
        order = np.random.default_rng(config.seed).permutation(len(train))
        splits = {"train": train.select(np.sort(order[held:])), "eval": train.select(np.sort(order[:held]))}
    mismatched = "kl" in config.the_objective()[0].columns
    if mismatched:
        splits = {name: _with_mismatched(split) for name, split in splits.items()}
    for split in splits.values():
        check_columns(config, split.column_names)
    for column in ("preference", "weight"):
        known = {name: column in split.column_names for name, split in splits.items()}
        if len(set(known.values())) > 1:
            raise ValueError(
                f"the column {column} must be in both the training and the held-out pairs or in neither: {known}"
            )
    return splits, reports


def _of_this_part(config: Config, tokenizer: Any, train: Dataset, report: Report) -> Dataset:
    """Keep the pairs whose prompts are this iteration's; the others', and held-out ones, are not trained on."""
    part = {prompt.ids for prompt in read_prompts(config, tokenizer)[0]["train"]}
    kept = [place for place, ids in enumerate(train["prompt_ids"]) if tuple(ids) in part]
    if not kept:
        raise ValueError("none of the pairs has a prompt of this iteration; give prompt_use=all")
    report.dropped["prompt of another iteration"] = len(train) - len(kept)
    report.kept = len(kept)
    return train.select(kept)


def is_encoded(folder: Path) -> bool:
    """Tell whether a folder holds pairs as token ids, as `annotate` leaves them."""
    return (folder / ENCODED).is_file()


def read_encoded(folder: Path, tokenizer: Any, max_length: int) -> tuple[Dataset, Report]:
    """Read pairs whose token ids are those that were sampled.

    Raises:
        ValueError: ids of another tokenizer, or longer pairs than allowed.
    """
    record = read_json(folder / ENCODED)
    if record["tokenizer"] != vocabulary_fingerprint(tokenizer):
        raise ValueError(f"the pairs in {folder} are token ids of another tokenizer than the policy's")
    if record["longest"] > max_length:
        raise ValueError(
            f"the pairs in {folder} have up to {record['longest']} tokens; max_length is {max_length}"
        )
    return load_from_disk(str(folder)), Report.from_dict(record["report"])


def _with_mismatched(split: Dataset) -> Dataset:
    """Add another row's response to each prompt, for KTO's estimate of KL."""
    responses = list(split["chosen_ids"])
    return split.add_column("kl_ids", [*responses[1:], responses[0]])


# --- scores ---------------------------------------------------------------------------------------------------


Asked = dict[str, dict[str, list[Request]]]


def _requests(config: Config, name: str, folder: Path, splits: Mapping[str, Dataset]) -> Asked:
    """Return split -> side -> token ids of prompts and responses, as the anchor reads them."""
    asked: Asked = {}
    encoder = None
    if is_external(name):
        encoder = Encoder(load_tokenizer(folder, trust_remote_code=config.trust_remote_code))
    for split, rows in splits.items():
        asked[split] = {}
        for side in _SIDES:
            if encoder is None:
                asked[split][side] = list(zip(rows["prompt_ids"], rows[f"{side}_ids"], strict=True))
            else:
                asked[split][side] = [_as_read_by(encoder, row, side) for row in rows]
        if name == REFERENCE and "kl_ids" in rows.column_names:
            asked[split]["kl"] = list(zip(rows["prompt_ids"], rows["kl_ids"], strict=True))
    return asked


def _as_read_by(encoder: Encoder, row: Mapping[str, Any], side: str) -> Request:
    prompt, text = json.loads(row["prompt"]), row[side]
    response = text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
    try:
        found = encoder.encode(prompt, response, ended=not row[f"{side}_cut"])
    except Malformed as reason:
        raise ValueError(
            f"row {row['row']} of the data cannot be read by an external model: {reason}"
        ) from None
    return found.prompt, found.response


def _scores(
    config: Config,
    name: str,
    folder: Path,
    asked: Asked,
    processes: Group,
    progress: Progress | None,
) -> tuple[dict[str, Any], dict[str, dict[str, list[float]]]]:
    """Return a record of what was done, and split -> side -> log-probabilities."""
    everything = [request for sides in asked.values() for requests in sides.values() for request in requests]
    known, bought = log_probs(config, name, folder, everything, processes, progress)
    keys = {
        split: {side: [digest(*request) for request in requests] for side, requests in sides.items()}
        for split, sides in asked.items()
    }
    scores = {
        split: {side: [known[key] for key in found] for side, found in sides.items()}
        for split, sides in keys.items()
    }
    every_key = [key for sides in keys.values() for found in sides.values() for key in found]
    record = {
        "anchor": name,
        "digest": hashlib.blake2b(
            bought.pop("key").encode() + b"".join(every_key), digest_size=16
        ).hexdigest(),
        "model": str(folder),
        **bought,
        **{f"mean_{side}": float(np.mean(scores["train"][side])) for side in _SIDES},
    }
    return record, scores


def log_probs(
    config: Config,
    name: str,
    folder: Path,
    requests: Sequence[Request],
    processes: Group,
    progress: Progress | None,
) -> tuple[dict[bytes, float], dict[str, Any]]:
    """Compute the log-probabilities that the store lacks.

    Args:
        config: the run.
        name: what the model is called.
        folder: of the model.
        requests: token ids of prompts and responses.
        processes: each scores its share.
        progress: called as the work goes on.

    Returns:
        digest -> log-probability, of all that is known; and the store's key, how many responses were scored and
        reused, and seconds.

    Raises:
        ValueError: a log-probability that is not finite.
    """
    start = time.monotonic()
    store = store_of(config.store_folder("scores"), computed_by(config, folder))
    batches = processes.agree(
        lambda: missing(requests, store, int(config.training.get("per_device_eval_batch_size", 8)))
    )
    count = sum(map(len, batches))
    if batches[processes.rank :: processes.world]:
        model = load_model(folder, **config.loading).to(processes.device)
        attach(model, chunk=config.logprob_chunk)
        try:
            score(
                model,
                batches[processes.rank :: processes.world],
                store,
                device=processes.device,
                autocast=autocast_dtype(config),
                progress=part_of(progress, f"score: {name}"),
            )
        except ValueError as error:
            raise ValueError(f"{name} ({folder}): {error}") from None
        del model
        release()
    processes.wait()
    reused = len({digest(*request) for request in requests}) - count
    seconds = time.monotonic() - start
    return store.load(), {"key": store.key, "scored": count, "reused": reused, "seconds": seconds}


def _check_tokenizers(config: Config, tokenizer: Any, policy: Path, anchors: Mapping[str, Path]) -> None:
    """Anchors that read the policy's token ids must mean the same tokens by them.

    Raises:
        ValueError: one that does not.
    """
    options: dict[str, Any] = {"gguf_file": config.gguf_file, "trust_remote_code": config.trust_remote_code}
    own = vocabulary_fingerprint(tokenizer)
    for name, folder in anchors.items():
        if is_external(name) or folder == policy:
            continue
        try:
            other = load_tokenizer(folder, **options)
        except ValueError:
            other = None  # weights alone: an adapter, or a checkpoint without its tokenizer
        if other is not None and vocabulary_fingerprint(other) != own:
            raise ValueError(
                f"the tokenizer of the {name} model {folder} does not match the policy's; "
                "a model with a tokenizer of its own belongs under external_models"
            )
        check_vocabulary(tokenizer, folder, **options)
