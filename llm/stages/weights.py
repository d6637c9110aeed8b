"""What responses are weighed by in the sample game: log ν − log π of each (docs/concepts.md, (15))."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mnpo.llm.config import CURRENT, Models, Sampling, Update
from mnpo.llm.models.job import Job
from mnpo.llm.stages.records import Scored
from mnpo.llm.stages.score import Anchor, scored_record
from mnpo.llm.training.anchors import anchor_weights
from mnpo.llm.training.requests import Requests
from mnpo.llm.training.scores import log_probs
from mnpo.numerics import Array


class Weighed(NamedTuple):
    """Importance weights.

    Attributes:
        logs: Σ_k λ_k log μ_k(y) − log π(y), (X, K), π as it was drawn from.
        scores: whose log-probabilities these took.
        anchors: name -> digest of what its log-probabilities depend on.
    """

    logs: Array
    scores: list[Scored]
    anchors: dict[str, str]


def weigh(job: Job, model: Models, sampling: Sampling, update: Update, rows: pa.Table, own: int) -> Weighed:
    """Compute the weights of sampled responses; log-probabilities that are known are not computed again.

    Args:
        job: the stage at work; each process scores its share.
        model: the policy and its anchors.
        sampling: the temperature at which the responses were drawn.
        update: the rule.
        rows: of `mnpo.llm.data.schema.SAMPLES`.
        own: K.

    Raises:
        ValueError: an anchor that is not at hand, or a log-probability that is not finite.
    """
    rule, named = update.the_rule(), model.policies()
    assert rule is not None
    wanted = {(name, 1.0): weight for name, weight in anchor_weights(rule, named).items() if weight}
    drawn_from = (CURRENT, sampling.temperature)
    wanted[drawn_from] = wanted.get(drawn_from, 0.0) - 1.0
    requests = Requests.in_samples(rows, own)
    total, scores, anchors = np.zeros(len(requests)), [], {}
    for (name, temperature), weight in wanted.items():
        anchor = Anchor.of(job, name, named[name])
        found = log_probs(job, name, anchor.folder, requests, temperature=temperature)
        total += weight * found.values
        shown = name if temperature == 1 else f"{name} at temperature {temperature:g}"
        anchors[shown] = anchor.content(job)
        scores.append(scored_record(shown, anchor.folder, found))
    return Weighed(total.reshape(len(rows), own), scores, anchors)
