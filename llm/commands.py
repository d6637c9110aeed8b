"""The stages of a run by name: what the command line, launched processes and the loop call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mnpo.llm import annotate, evaluate, fit, sample, score
from mnpo.llm.config import Config
from mnpo.llm.locate import Progress
from mnpo.llm.storage import read_json


class Stage(NamedTuple):
    """A stage: what does it, and the record that it leaves in the output folder."""

    do: Callable[[Config, Progress | None], dict[str, Any]]
    record: str


STAGES = {
    "sample": Stage(sample.sample, sample.RECORD),
    "annotate": Stage(annotate.annotate, annotate.RECORD),
    "score": Stage(score.score_pairs, score.SCORES),
    "fit": Stage(fit.fit, fit.RESULTS),
    "evaluate": Stage(evaluate.evaluate, evaluate.RECORD),
}


def finished(config: Config, stage: str) -> dict[str, Any]:
    """Return the record that a stage left in the output folder."""
    record: dict[str, Any] = read_json(config.folder / STAGES[stage].record)
    return record
