"""Responses of a model to prompts: what is kept is found, what is not is drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnpo.common.digests import data_digest
from mnpo.llm.config import Sampling
from mnpo.llm.data.prompts import Prompt, check_room, lengths_of
from mnpo.llm.models.folders import root_of
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import vocabulary_fingerprint
from mnpo.llm.models.weights import check_positions, configuration
from mnpo.llm.runtime.memory import release
from mnpo.llm.sampling.responses import Drawing, Found, SampleStore, WantedResponses
from mnpo.llm.sampling.samplers import ends_of, load_sampler
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.storage.store import Places

#: Names in the seeds whoever answers held-out prompts: equal models give equal responses.
HELD_OUT_STREAM = "held-out"
#: Prompts whose responses are looked at together.
_AT_ONCE = 128


@dataclass(frozen=True)
class Responses:
    """Responses to prompts, and what it took.

    Attributes:
        samples: the K of each prompt, read when they are asked for.
        places: of those that were drawn, p·K + k for response k to prompt p.
        reused: how many were found.
        seconds: wall clock.
    """

    samples: Found
    places: Places
    reused: int
    seconds: float

    @property
    def drawn(self) -> int:
        """How many were drawn."""
        return len(self.places)

    @property
    def tokens(self) -> int:
        """Tokens of those that were drawn."""
        return int(self._lengths_and_ends[0][self.places].sum())

    @property
    def length(self) -> float:
        """Tokens of a response, mean."""
        lengths, _ = self._lengths_and_ends
        return int(lengths.sum()) / max(len(lengths), 1)

    @property
    def ended(self) -> float:
        """The share that the policy ended by itself."""
        _, ended = self._lengths_and_ends
        return int(ended.sum()) / max(len(ended), 1)

    @cached_property
    def _lengths_and_ends(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Tokens of all responses, and whether they were ended, (prompts · K,) each."""
        lengths, ends = [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
        for start in range(0, len(self.samples), _AT_ONCE):
            found = self.samples.arrow(start, min(start + _AT_ONCE, len(self.samples)))
            lengths.append(found.field("ids").value_lengths().to_numpy().astype(np.int64))
            ends.append(found.field("ended").to_numpy(zero_copy_only=False))
            let_go()
        return np.concatenate(lengths), np.concatenate(ends)


def responses(
    job: Job,
    sampling: Sampling,
    max_length: int,
    name: str,
    folder: Path,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    stream: str,
    count: int,
) -> Responses:
    """Return `count` responses of a model to each prompt, drawing those that are not in the store.

    Args:
        job: the stage at work; each process draws its share.
        sampling: how they are drawn.
        max_length: tokens of prompt and response.
        name: what the model is called.
        folder: of the model.
        tokenizer: the policy's.
        prompts: what is asked.
        stream: names the player in the seeds.
        count: for each prompt.

    Raises:
        ValueError: a prompt that leaves no room, or a model that cannot be drawn from or has other tokens.
    """
    start = time.monotonic()
    job.check_tokens(tokenizer, name, folder)
    seed = job.compute.seed
    drawing = Drawing(
        sampling.temperature, sampling.top_p, sampling.max_new_tokens or max_length, max_length, seed
    )
    trust = job.model.trust_remote_code
    config = configuration(root_of(folder), gguf_file=job.model.gguf_file, trust_remote_code=trust)
    longest = max(lengths_of(prompts), default=0) + drawing.longest
    check_positions(config, min(longest, max_length), f"{name} ({folder})")
    ends = ends_of(folder, tokenizer, gguf_file=job.model.gguf_file, trust_remote_code=trust)
    key = {
        **job.computed_by(folder),
        "sampler": sampling.sampler,
        "tokenizer": data_digest(vocabulary_fingerprint(tokenizer), tokenizer.chat_template),
        **drawing._asdict(),
        **({"vllm": sampling.vllm} if sampling.sampler == "vllm" else {}),
    }
    store = SampleStore(job.folders.store("samples"), key, ends)
    check_room(prompts, max_length)
    wanted = WantedResponses(prompts, stream, count)
    processes = job.processes
    alone = sampling.sampler == "vllm"  # which shares the work among GPUs, and makes batches, itself
    size = 1024 if alone else sampling.per_device_generation_batch_size
    batches = processes.agree(lambda: store.missing(wanted, size))
    mine = (batches if processes.first else []) if alone else batches[processes.rank :: processes.world]
    if mine:
        sampler = load_sampler(
            sampling.sampler,
            folder,
            ends,
            drawing,
            device=processes.device,
            autocast=job.autocast(),
            loading=job.model.loading,
            options={
                "seed": seed % 2**31,
                "trust_remote_code": trust,
                **sampling.vllm,
            },
        )
        try:
            store.draw(sampler, wanted, mine, tokenizer, job.part(f"sample: {name}"))
        except ValueError as error:
            raise ValueError(f"{name} ({folder}): {error}") from None
        del sampler
        release()
    processes.wait()
    places = np.concatenate([np.empty(0, np.int64), *batches])
    return Responses(
        samples=store.found(wanted),
        places=places,
        reused=len(np.unique(wanted.digests)) - len(places),
        seconds=time.monotonic() - start,
    )
