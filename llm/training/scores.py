"""Log-probabilities of responses under a model, computed once and kept by content.

A score belongs to a model's content, the way it was computed, and the token ids of prompt and response.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from mnpo.common.digests import SIZE
from mnpo.llm.data.batches import Request, as_trees, laid_out
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import load_model
from mnpo.llm.models.weights import check_positions
from mnpo.llm.runtime.memory import release
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.storage.store import Places, Store
from mnpo.llm.training.collator import Rows
from mnpo.llm.training.logprobs import attach, log_probs_of
from mnpo.llm.training.requests import Requests, cut

__all__ = [
    "LogProbs",
    "batch_log_probs",
    "in_order",
    "log_probs",
    "missing",
    "score",
    "store_of",
]


#: Requests that are read between two times that pages of mapped files are given back: each takes several pages.
_READ = 256


class LogProbs(NamedTuple):
    """Log-probabilities under one model, and what they took.

    Attributes:
        values: log-probabilities of the responses in nats, (N,).
        scored, reused: how many responses were scored, and found.
        seconds: wall clock.
    """

    values: npt.NDArray[np.float64]
    scored: int
    reused: int
    seconds: float


def log_probs(
    job: Job, name: str, folder: Path, requests: Sequence[Request], *, temperature: float = 1.0
) -> LogProbs:
    """Compute the log-probabilities that the store lacks.

    Args:
        job: the stage at work; each process scores its share.
        name: what the model is called.
        folder: of the model.
        requests: token ids of prompts and responses; those that lie in tables are `Requests`.
        temperature: of the logits, above 0.

    Raises:
        ValueError: a log-probability that is not finite.
    """
    start = time.monotonic()
    processes = job.processes
    wanted = requests if isinstance(requests, Requests) else Requests.of(requests)
    heated = {} if temperature == 1 else {"temperature": temperature}
    store = store_of(job.folders.store("scores"), {**job.computed_by(folder), **heated})
    places = processes.agree(lambda: missing(wanted, store))
    mine = cut(places, job.compute.scoring_batch_size)[processes.rank :: processes.world]
    if mine:
        model = load_model(folder, **job.model.loading).to(processes.device)
        check_positions(model.config, int(wanted.lengths[np.concatenate(mine)].max()), f"{name} ({folder})")
        attach(model, chunk=job.model.logprob_chunk, temperature=temperature)
        try:
            score(
                model,
                wanted,
                mine,
                store,
                device=processes.device,
                autocast=job.autocast(),
                rows=Rows.of(model, job.model.share_prompts, job.model.packing),
                progress=job.part(f"score: {name}"),
            )
        except ValueError as error:
            raise ValueError(f"{name} ({folder}): {error}") from None
        del model
        release()
    processes.wait()
    values = store.kept().numbers(wanted.digests)
    reused = len(np.unique(wanted.digests)) - len(places)
    return LogProbs(values, len(places), reused, time.monotonic() - start)


def store_of(folder: Path, key: Mapping[str, Any]) -> Store:
    """Return the store of one model's log-probabilities."""
    return Store(folder, key, pa.float64())


def missing(requests: Requests, store: Store) -> Places:
    """Return where the requests are that a store lacks, each once, in the order in which they are scored.

    Prompts with the longest responses first, so that what does not fit in memory fails at once; responses to the
    same prompt follow each other, so that they can share it; ties by content. Batches are cut from the front and
    done in that order, so that a run that is continued forms exactly those that were left.
    """
    digests, first = np.unique(requests.digests, return_index=True)
    left = first[~store.kept().has(digests)]
    return left[in_order(requests, left)]


def in_order(requests: Requests, places: Places) -> Places:
    """Return how some requests are ordered so that responses to a prompt follow each other, longest prompts first.

    What is long depends on all requests, so that the order of some of them is that of all.
    """
    prompts, prompt_of = np.unique(requests.prompts, return_inverse=True)
    longest = np.zeros(len(prompts), dtype=np.int64)
    np.maximum.at(longest, prompt_of, requests.lengths)
    mine = prompt_of[places]
    return np.lexsort((requests.digests[places], -requests.lengths[places], mine, -longest[mine]))


def score(
    model: nn.Module,
    requests: Requests,
    batches: Sequence[Places],
    store: Store,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    rows: Rows | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Compute log-probabilities and put them into the store, batch by batch; return of how many responses.

    Args:
        model: on the device, with `mnpo.llm.training.logprobs.attach`.
        requests: prompts and responses.
        batches: where those are that are scored together.
        store: takes the scores.
        device: where the model is.
        autocast: precision of the computation, where it is not that of the weights.
        rows: how sequences lie in a batch, as for `batch_log_probs`.
        progress: called with how many responses are done, and of how many.

    Raises:
        ValueError: a log-probability that is not finite.
    """
    model.eval()
    done, total = 0, sum(map(len, batches))
    with store.writer() as writer:
        for places in batches:
            batch = requests.take(places)
            logps = batch_log_probs(model, batch, device=device, autocast=autocast, rows=rows)
            writer.append(requests.digests[places].view(f"V{SIZE}").tolist(), logps)
            if done // _READ < (done + len(batch)) // _READ:
                let_go()
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return done


def batch_log_probs(
    model: nn.Module,
    batch: Sequence[Request],
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    rows: Rows | None = None,
) -> list[float]:
    """Return log π(y | x) in nats of one batch of responses.

    Args:
        model: on the device.
        batch: token ids of prompts and responses.
        device: where the model is.
        autocast: precision of the computation, where it is not that of the weights.
        rows: how sequences lie in the batch; prompts are computed once where the model allows it unless given.

    Raises:
        ValueError: one that is not finite.
    """
    rows = Rows.of(model, None, False) if rows is None else rows
    trees, places = as_trees(batch) if rows.shared else ([(p, [r]) for p, r in batch], range(len(batch)))
    laid = laid_out(trees, packed=rows.packed).to(device)
    with torch.no_grad(), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        logps = log_probs_of(model, laid).double()
    if not bool(torch.isfinite(logps).all()):
        raise ValueError("the log-probability of a response is not finite")
    found = [0.0] * len(batch)
    for place, value in zip(places, logps.tolist(), strict=True):
        found[place] = value
    return found
