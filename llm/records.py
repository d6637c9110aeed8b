"""What a run leaves: one frozen record, a row for every iteration and player."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from mnpo.common.records import FileRecord, Record
from mnpo.llm.stages.records import Bracket, Interval


@dataclass(frozen=True, kw_only=True)
class Iteration(Record):
    """One iteration of one player.

    Attributes:
        iteration: t, from 1.
        player: its name.
        loss: the last of the fit.
        kl, kl_error: the mean of log π/π_ref over held-out responses in nats, and its standard error.
        length: tokens of a held-out response, mean.
        ended: the share that the policy ended by itself.
        win_rate: opponent -> oracle -> the new policy's win rate, mean over held-out prompts.
        gap: oracle -> a bracket of how far the policy is from an equilibrium, as `Evaluated` has it, or None.
        prompts: how many of those.
        pairs: how many the fit was trained on.
        steps: of the optimizer.
        model: the folder of the new policy.
        counts: responses drawn, questions asked and responses scored.
        seconds: by stage, of the calls that finished them.
    """

    iteration: int
    player: str
    loss: float
    kl: float
    kl_error: float
    length: float
    ended: float
    win_rate: dict[str, dict[str, Interval]]
    gap: dict[str, Bracket | None]
    prompts: int
    pairs: int
    steps: int
    model: str
    counts: dict[str, int]
    seconds: dict[str, float]

    @classmethod
    def of(cls, t: int, player: str, model: str, made: Mapping[str, Any]) -> Self:
        """Gather the records of an iteration's stages, by the stages' names; `model` is the new policy's folder."""
        fitted, tested = made["fit"], made["evaluate"]
        drawn = [*(made["sample"].models if "sample" in made else []), *tested.models]
        asked = [*(made["annotate"].oracles if "annotate" in made else []), *tested.oracles]
        scored = [
            *(made["annotate"].scores if "annotate" in made else []),
            *fitted.anchors,
            *tested.scores,
        ]
        return cls(
            iteration=t,
            player=player,
            loss=fitted.loss,
            kl=tested.kl,
            kl_error=tested.kl_error,
            length=tested.length,
            ended=tested.ended,
            win_rate=tested.win_rate,
            gap=tested.gap,
            prompts=tested.prompts,
            pairs=fitted.pairs["train"],
            steps=fitted.steps,
            model=model,
            counts={
                "drawn": sum(entry.drawn for entry in drawn),
                "asked": sum(entry.asked for entry in asked),
                "scored": sum(entry.scored for entry in scored),
            },
            seconds={
                "sample": sum(entry.seconds for entry in drawn),
                "annotate": sum(entry.seconds for entry in asked),
                "score": sum(entry.seconds for entry in scored),
                "fit": fitted.seconds,
            },
        )


@dataclass(frozen=True, kw_only=True)
class Run(FileRecord):
    """A run of the loop.

    Attributes:
        iterations: a row for every iteration and player, in order.
        players: their names.
        teaches: what the pairs teach, in a line.
    """

    FILE: ClassVar[str] = "results.json"

    iterations: list[Iteration]
    players: list[str]
    teaches: str
