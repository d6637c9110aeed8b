"""Where a run's files stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnpo.common.given import user_path
from mnpo.llm.config.keys import REQUIRED, Section, key


@dataclass(frozen=True, kw_only=True)
class Folders(Section):
    """Where everything is written to."""

    output_dir: str = key(REQUIRED, "the run's folder", scope="run", free=True)
    samples_dir: str | None = key(
        None, "where responses are kept, also by several runs; <output_dir>/samples unless given",
        scope="run", free=True,
    )  # fmt: skip
    answers_dir: str | None = key(
        None, "where the oracles' answers are kept; <output_dir>/answers unless given", scope="run", free=True
    )
    scores_dir: str | None = key(
        None, "where log-probabilities are kept; <output_dir>/scores unless given", scope="run", free=True
    )
    encoded_dir: str | None = key(
        None, "where pairs and prompts are kept as token ids; <output_dir>/encoded unless given",
        scope="run", free=True,
    )  # fmt: skip

    @property
    def home(self) -> Path:
        """The run's folder."""
        return user_path(self.output_dir)

    def store(self, what: Literal["samples", "answers", "scores", "encoded"]) -> Path:
        """Return the folder of all that is kept by content: responses, answers, log-probabilities or token ids."""
        given = {
            "samples": self.samples_dir,
            "answers": self.answers_dir,
            "scores": self.scores_dir,
            "encoded": self.encoded_dir,
        }[what]
        return self.home / what if given is None else user_path(given)
