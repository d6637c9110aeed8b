"""What a player is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnpo.llm.config import Sampling
from mnpo.llm.data.formats import Text
from mnpo.llm.models.job import Job


@dataclass(frozen=True)
class Answers:
    """What a player answered.

    Attributes:
        texts: for each prompt its responses; None for a prompt that it cannot read or has no responses to.
        drawn, reused: responses that were drawn or asked for, and found.
        seconds: wall clock.
    """

    texts: list[list[str] | None]
    drawn: int
    reused: int
    seconds: float


class Player(ABC):
    """Somebody who answers prompts.

    Attributes:
        name: how results call it.
        kind: "model", "endpoint" or "file".
        place: the folder, the address or the file.
    """

    name: str
    kind: str
    place: str

    @abstractmethod
    def answers(
        self, job: Job, sampling: Sampling, max_length: int, prompts: Sequence[Text], count: int
    ) -> Answers:
        """Answer prompts.

        Args:
            job: the stage at work.
            sampling: how responses are drawn.
            max_length: tokens of prompt and response.
            prompts: texts, or messages whose last one is the user's.
            count: responses to each.

        Raises:
            ValueError: a player that is not there or does not answer.
        """

    def as_dict(self) -> dict[str, Any]:
        """Say who it is, as plain data."""
        return {"name": self.name, "kind": self.kind, "place": self.place}
