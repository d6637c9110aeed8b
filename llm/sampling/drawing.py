"""Responses of a model to prompts: what is kept is found, what is not is drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnpo.common.digests import data_digest
from mnpo.llm.config import Sampling
from mnpo.llm.data.prompts import Prompt, check_room
from mnpo.llm.models.job import Job
from mnpo.llm.models.loading import vocabulary_fingerprint
from mnpo.llm.runtime.memory import release
from mnpo.llm.sampling.responses import Drawing, Sample, SampleStore, Wanted
from mnpo.llm.sampling.samplers import ends_of, load_sampler


class Responses(NamedTuple):
    """Responses to prompts, and what it took.

    Attributes:
        samples: (prompts, K).
        drawn, reused: how many were drawn, and found.
        tokens: of those drawn.
        seconds: wall clock.
    """

    samples: list[list[Sample]]
    drawn: int
    reused: int
    tokens: int
    seconds: float

    @property
    def length(self) -> float:
        """Tokens of a response, mean."""
        return self._mean([len(sample.ids) for found in self.samples for sample in found])

    @property
    def ended(self) -> float:
        """The share that the policy ended by itself."""
        return self._mean([float(sample.ended) for found in self.samples for sample in found])

    def _mean(self, values: Sequence[float]) -> float:
        return sum(values) / max(len(values), 1)


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
    ends = ends_of(folder, tokenizer, gguf_file=job.model.gguf_file, trust_remote_code=trust)
    key = {
        **job.computed_by(folder),
        "sampler": sampling.sampler,
        "tokenizer": data_digest(vocabulary_fingerprint(tokenizer), tokenizer.chat_template),
        **drawing._asdict(),
        **({"vllm": sampling.vllm} if sampling.sampler == "vllm" else {}),
    }
    store = SampleStore(job.folders.store("samples"), key, ends)
    wanted = [Wanted(prompt.ids, stream, k) for prompt in prompts for k in range(count)]
    check_room(prompts, max_length)
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
            store.draw(sampler, mine, tokenizer, job.part(f"sample: {name}"))
        except ValueError as error:
            raise ValueError(f"{name} ({folder}): {error}") from None
        del sampler
        release()
    processes.wait()
    known = store.load()
    digests = [one.digest() for one in wanted]
    found = [known[digest] for digest in digests]
    drawn = sum(map(len, batches))
    new = {one.digest() for batch in batches for one in batch}
    return Responses(
        samples=[found[place : place + count] for place in range(0, len(found), count)],
        drawn=drawn,
        reused=len(set(digests)) - drawn,
        tokens=sum(len(known[digest].ids) for digest in new),
        seconds=time.monotonic() - start,
    )
