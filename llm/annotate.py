"""The stage that annotates: oracles judge the sampled responses, and preference pairs are made of their answers."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, load_from_disk

from mnpo.llm.config import Config
from mnpo.llm.formats import NUMBERS, Text
from mnpo.llm.locate import Progress, release, text_digest
from mnpo.llm.oracles.base import Question, TextOracle
from mnpo.llm.oracles.panel import Panel, build
from mnpo.llm.pairing import Judged, Pair, comparisons, make_pairs
from mnpo.llm.pairs import Report, content_digest
from mnpo.llm.processes import Group, join
from mnpo.llm.recipes import check, recipe, sampled_models, taught
from mnpo.llm.sample import RECORD as SAMPLED
from mnpo.llm.sample import SAMPLES
from mnpo.llm.score import ENCODED, PREFERENCES
from mnpo.llm.storage import keep_dataset, read_json, sweep, write_json
from mnpo.llm.store import Store
from mnpo.numerics import Array

#: The stage's record and its data set of win matrices, in the output folder.
RECORD = "annotations.json"
ANNOTATIONS = "annotations"

_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("row", "source"), pa.int64()),
        **dict.fromkeys(("prompt", "chosen", "rejected"), pa.string()),
        **dict.fromkeys(("chosen_cut", "rejected_cut"), pa.bool_()),
        **dict.fromkeys(("prompt_ids", "chosen_ids", "rejected_ids"), pa.list_(pa.int32())),
        **dict.fromkeys(NUMBERS, pa.float64()),
    }
)


def annotate(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """Let the oracles judge what `sample` left in the output folder, and make preference pairs.

    Args:
        config: the run.
        progress: called as the work goes on.

    Returns:
        The record that stands in `<output_dir>/annotations.json`: `folder`, which holds for each prompt the K × N
        win matrix of every oracle (N responses: the policy's K, then its opponents') and the rewards of those that
        give them; `pairs`, the folder of the pairs; `made` of them and `dropped`; `teaches`, what the pairs teach;
        `oracles`, for each how many questions were asked and reused, and seconds.

    Raises:
        ValueError: no samples, or an oracle that does not answer; its answers so far are kept.
    """
    processes = join(bool(config.training.get("use_cpu")))
    panel = build(config.oracle, trust_remote_code=config.trust_remote_code)
    check(config, panel)
    sampled = read_json(config.folder / SAMPLED)
    if sampled is None:
        raise ValueError(f"{config.folder} holds no samples; mnpo llm sample draws them")
    asked_for = list(sampled_models(config))
    if sampled["manifest"]["opponents"] != asked_for:
        raise ValueError(
            f"the samples in {config.folder} are of the opponents {sampled['manifest']['opponents']}, the "
            f"configuration asks for {asked_for}; sample again"
        )
    if processes.first:
        sweep(config.folder)
    rows = list(load_from_disk(str(config.folder / SAMPLES)))
    if rows and len(rows[0]["responses"]) != config.num_generations:
        raise ValueError(
            f"the samples in {config.folder} are {len(rows[0]['responses'])} responses to each prompt, "
            f"num_generations is {config.num_generations}; sample again"
        )
    pool = [[*row["responses"], *itertools.chain(*row["opponents"])] for row in rows]
    counts = [len(found) for found in rows[0]["opponents"]]
    how = recipe(config, _places(asked_for, counts, config.num_generations))
    wanted = sorted(comparisons(how))
    texts = [(json.loads(row["prompt"]), [answer["text"] for answer in found])
             for row, found in zip(rows, pool, strict=True)]  # fmt: skip
    judged, records = judge(config, panel, texts, config.num_generations, wanted, processes, progress)
    pairs = []
    for row, answers in zip(rows, judged, strict=True):
        drawn = [answer["ids"] for answer in row["responses"]]
        seed = int(text_digest(config.seed, config.stream, row["prompt_ids"], drawn)[:16], 16)
        pairs.append(make_pairs(how, answers, np.random.default_rng(seed)))
    data, report = _encoded(rows, pool, pairs)
    manifest = {
        "samples": sampled["manifest"]["samples"],
        "oracles": [[m.weight, m.oracle.scale, text_digest(m.oracle.key())] for m in panel.members],
        "recipe": repr(how),
        "seed": [config.seed, config.stream],
    }
    record = {
        "folder": str(config.folder / ANNOTATIONS),
        "pairs": str(config.folder / PREFERENCES),
        "manifest": manifest,
        "made": len(data),
        "dropped": dict(report.dropped),
        "teaches": taught(config),
        "oracles": records,
    }
    if processes.first:
        _write(config, rows, judged, panel, manifest)
        _write_pairs(config, data, report, manifest, sampled["manifest"]["tokenizer"])
        write_json(config.folder / RECORD, record)
    processes.wait()
    return record


def judge(
    config: Config,
    panel: Panel,
    texts: Sequence[tuple[Text, Sequence[str]]],
    own: int,
    wanted: Sequence[tuple[int, int]],
    processes: Group,
    progress: Progress | None,
) -> tuple[list[list[Judged]], list[dict[str, Any]]]:
    """Return what each member of a panel says of each prompt's responses, and a record for each member.

    Args:
        config: where answers are kept.
        panel: who judges.
        texts: prompts and their N responses.
        own: K: the first so many responses are the rows of win matrices.
        wanted: pairs of places, of which an oracle of pairs is asked; equal texts are not asked about.
        processes: each asks its share.
        progress: called as the work goes on.
    """
    judged: list[list[Judged]] = [[] for _ in texts]
    records = []
    for oracle, weight in panel.members:
        rewarding = oracle.kind == "reward"
        questions: list[Question] = []
        for prompt, answers in texts:
            if rewarding:
                questions += [Question(prompt, answer) for answer in answers]
            else:
                questions += _of_pairs(oracle, prompt, answers, wanted)
        answered, record = ask(config, oracle, questions, processes, progress)
        records.append(record)
        for place, (prompt, answers) in enumerate(texts):
            if rewarding:
                found = np.array([answered[digest(Question(prompt, answer))] for answer in answers])
                judged[place].append(Judged(weight, rewards=found / oracle.scale))
            else:
                wins = _matrix(oracle, prompt, answers, own, wanted, answered)
                judged[place].append(Judged(weight, wins=wins))
    return judged, records


def ask(
    config: Config,
    oracle: TextOracle,
    questions: Sequence[Question],
    processes: Group,
    progress: Progress | None,
) -> tuple[dict[bytes, float], dict[str, Any]]:
    """Put the questions that the store has no answers to; return all answers, and a record of what was done.

    Raises:
        ValueError: an oracle that does not answer; says how many questions are left.
    """
    start = time.monotonic()
    store = Store(config.store_folder("answers"), oracle.key(), pa.float64())
    unique = {digest(question): question for question in questions}

    def unknown() -> list[bytes]:
        known = store.load()
        return [key for key in unique if key not in known]

    left = processes.agree(unknown)
    mine = left[processes.rank :: processes.world] if oracle.local else left if processes.first else []
    done = 0
    if mine:
        try:
            with store.writer() as writer:
                for answers in oracle.answer([unique[key] for key in mine], processes.device):
                    _check(oracle, answers)
                    writer.append([mine[place] for place, _ in answers], [answer for _, answer in answers])
                    done += len(answers)
                    if progress is not None:
                        progress(f"annotate: {oracle.name}", done, len(mine))
        except ValueError as error:
            raise ValueError(
                f"{error} ({len(mine) - done} of {len(mine)} questions are left; what was answered is kept, "
                "and the same command goes on)"
            ) from None
        release()
    processes.wait()
    seconds = time.monotonic() - start
    record = {
        "oracle": oracle.name,
        "kind": oracle.kind,
        "asked": len(left),
        "reused": len(unique) - len(left),
        "seconds": seconds,
    }
    return store.load(), record


def digest(question: Question) -> bytes:
    """Return a digest of a question."""
    return hashlib.blake2b(json.dumps(question).encode(), digest_size=16).digest()


def _check(oracle: TextOracle, answers: Iterable[tuple[int, float]]) -> None:
    for _, answer in answers:
        if not np.isfinite(answer) or (oracle.kind == "pairwise" and not 0 <= answer <= 1):
            wanted = "a finite reward" if oracle.kind == "reward" else "a probability"
            raise ValueError(f"the oracle {oracle.name} must answer with {wanted}; found {answer}")


def _of_pairs(
    oracle: TextOracle, prompt: Text, answers: Sequence[str], wanted: Sequence[tuple[int, int]]
) -> list[Question]:
    found = []
    for first, second in wanted:
        if answers[first] != answers[second]:
            found.append(Question(prompt, answers[first], answers[second]))
            if oracle.both_orders:
                found.append(Question(prompt, answers[second], answers[first]))
    return found


def _matrix(
    oracle: TextOracle,
    prompt: Text,
    answers: Sequence[str],
    own: int,
    wanted: Sequence[tuple[int, int]],
    answered: Mapping[bytes, float],
) -> Array:
    """Return P(row ≻ column), (K, N): ½ for equal texts, NaN for what was not asked."""
    wins = np.full((own, len(answers)), np.nan)
    for first, second in wanted:
        if answers[first] == answers[second]:
            chance = 0.5
        else:
            chance = answered[digest(Question(prompt, answers[first], answers[second]))]
            if oracle.both_orders:
                back = answered[digest(Question(prompt, answers[second], answers[first]))]
                chance = (chance + 1 - back) / 2
        wins[first, second] = chance
        if second < own:
            wins[second, first] = 1 - chance
    wins[range(own), range(own)] = 0.5
    return wins


def _places(names: Sequence[str], counts: Sequence[int], own: int) -> dict[str, range]:
    ends = np.cumsum([own, *counts]).tolist()
    return {name: range(ends[j], ends[j + 1]) for j, name in enumerate(names)}


def _encoded(
    rows: Sequence[Mapping[str, Any]],
    pool: Sequence[Sequence[Mapping[str, Any]]],
    pairs: Sequence[Sequence[Pair]],
) -> tuple[Dataset, Report]:
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
    table = pa.Table.from_pylist(entries, schema=_SCHEMA)
    present = [name for name in table.column_names if table[name].null_count < len(table)]
    report = Report(total, len(entries), dropped=+dropped)
    return Dataset(table.select(present)), report


def _write(
    config: Config,
    rows: Sequence[Mapping[str, Any]],
    judged: Sequence[Sequence[Judged]],
    panel: Panel,
    manifest: Mapping[str, Any],
) -> None:
    entries = []
    for row, answers in zip(rows, judged, strict=True):
        entry: dict[str, Any] = {"row": row["row"]}
        for (oracle, _), one in zip(panel.members, answers, strict=True):
            entry[f"wins {oracle.name}"] = one.matrix(len(row["responses"])).tolist()
            if one.rewards is not None:
                entry[f"rewards {oracle.name}"] = (one.rewards * oracle.scale).tolist()
        entries.append(entry)
    keep_dataset(Dataset.from_list(entries), config.folder / ANNOTATIONS, "manifest.json", manifest)


def _write_pairs(
    config: Config, data: Dataset, report: Report, manifest: Mapping[str, Any], tokenizer: str
) -> None:
    pairs = zip(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"], strict=True)
    record = {
        "digest": content_digest(data),
        "manifest": manifest,
        "tokenizer": tokenizer,
        "longest": max(len(prompt) + max(len(first), len(second)) for prompt, first, second in pairs),
        "report": report.as_dict(),
    }
    keep_dataset(data, config.folder / PREFERENCES, ENCODED, record)
