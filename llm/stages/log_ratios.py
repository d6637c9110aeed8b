"""How much likelier a policy makes responses than the reference does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnpo.llm.config import REFERENCE
from mnpo.llm.data.ids import request_digests
from mnpo.llm.data.prompts import Prompt
from mnpo.llm.models.job import Job
from mnpo.llm.sampling.drawing import Responses
from mnpo.llm.stages.records import Scored
from mnpo.llm.stages.score import scored_record
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.training.requests import Requests
from mnpo.llm.training.scores import log_probs
from mnpo.numerics import Array

#: Prompts whose responses are read together.
_AT_ONCE = 128


def log_ratios(
    job: Job, policy: Path, reference: Path, prompts: Sequence[Prompt], sides: Sequence[Responses]
) -> tuple[Array, list[Scored]]:
    """Return log π/π_ref of every response, and what was scored.

    Args:
        job: the stage at work.
        policy, reference: folders of models.
        prompts: what was asked.
        sides: responses, K of each side to each prompt.

    Returns:
        (prompts, sides · K) in nats.
    """
    ids = [_token_ids(one) for one in sides]
    count = len(ids[0]) // len(prompts)

    def read(place: int) -> tuple[Sequence[int], npt.NDArray[np.int32]]:
        prompt, response = divmod(place, count * len(sides))
        side, k = divmod(response, count)
        return prompts[prompt].ids, ids[side][prompt * count + k]

    size = len(prompts) * count * len(sides)
    lengths = np.array([len(asked) + len(said) for asked, said in map(read, range(size))], dtype=np.int64)
    requests = Requests(
        request_digests(read(place) for place in range(size)),
        lengths,
        request_digests((read(place)[0], ()) for place in range(size)),
        lambda place: (list(read(place)[0]), read(place)[1].tolist()),
    )
    parts, records = [], []
    for name, folder in (("policy", policy), (REFERENCE, reference)):
        found = log_probs(job, name, folder, requests)
        parts.append(found.values)
        records.append(scored_record(name, folder, found))
    return (parts[0] - parts[1]).reshape(len(prompts), -1), records


def _token_ids(found: Responses) -> list[npt.NDArray[np.int32]]:
    """Return the token ids of all responses: four bytes a token, where Python's integers would take many."""
    parts: list[npt.NDArray[np.int32]] = []
    for start in range(0, len(found.samples), _AT_ONCE):
        column = found.samples.arrow(start, min(start + _AT_ONCE, len(found.samples))).field("ids")
        ends = np.cumsum(column.value_lengths().to_numpy())
        parts += np.split(np.array(column.flatten(), dtype=np.int32), ends[:-1])
        let_go()
    return parts
