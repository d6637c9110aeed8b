"""What stands beside an oracle that mnpo fitted: how it is read, so that nothing else needs to be set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mnpo.common.records import FileRecord, Record
from mnpo.llm.models.folders import MODEL
from mnpo.llm.oracles.base import check_scale


@dataclass(frozen=True, kw_only=True)
class Card(FileRecord):
    """How a fitted oracle is read.

    Attributes:
        kind: "reward", "pairwise" or "embedding".
        objectives: by which it was fitted, phase after phase.
        scale: what logits are divided by: P = σ(logit/scale).
        calibrated: on how many held-out pairs the scale was fitted; None where it was not.
        outputs: what the outputs are: attributes or annotators; none where there is one.
        output: which output is the reward, or a weight for each; None where somebody must say.
        max_length: tokens that it was fitted with; a longer text is cut.
        template, choices: of a pairwise model.
    """

    FILE: ClassVar[str] = "mnpo_oracle.json"

    kind: str = "reward"
    objectives: list[str] = field(default_factory=list)
    scale: float = 1.0
    calibrated: int | None = None
    outputs: list[str] = field(default_factory=list)
    output: int | list[float] | None = None
    max_length: int | None = None
    template: str | None = None
    choices: list[str] | None = None

    def __post_init__(self) -> None:
        check_scale(self.scale)


@dataclass(frozen=True, kw_only=True)
class Annotator(Record):
    """An annotator of a fitted population.

    Attributes:
        name: who it is.
        kind: of the oracle.
        model: its folder, relative to the population's.
        output: which output of the model, where annotators have heads.
        scale: see `Card`.
        weight: its share of the labels.
    """

    name: str
    kind: str
    model: str
    output: int | None
    scale: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Population(FileRecord):
    """Annotators that were fitted apart: `population.json` in the output folder of their fit."""

    FILE: ClassVar[str] = "population.json"

    members: list[Annotator]


def card_of(folder: Path) -> Card:
    """Return the card in a model's folder; that of a model from elsewhere says nothing.

    Raises:
        ValueError: a card that cannot be read.
    """
    found = Card.read(folder)
    if found is None and (folder / Card.FILE).is_file():
        raise ValueError(f"{folder / Card.FILE} is no card of a fitted oracle, or damaged")
    return found or Card()


def model_in(folder: Path) -> Path:
    """Return the folder of the model: that of a fit holds it in `model`."""
    inner = folder / MODEL
    return inner if not (folder / "config.json").is_file() and (inner / Card.FILE).is_file() else folder


def is_fitted(folder: Path) -> bool:
    """Tell whether a folder holds an oracle that mnpo fitted, or a population of them."""
    return (folder / Population.FILE).is_file() or (model_in(folder) / Card.FILE).is_file()


def spec_of(folder: Path) -> dict[str, Any]:
    """Return what says, as the key `oracle` would, who was fitted into a folder.

    Raises:
        ValueError: nobody was.
    """
    if (folder / Population.FILE).is_file():
        found = Population.read(folder)
        if found is None:
            raise ValueError(f"{folder / Population.FILE} is no population of fitted oracles, or damaged")
        return {
            "kind": "population",
            "name": folder.name,
            "members": [_member(folder, m) for m in found.members],
        }
    inner = model_in(folder)
    if not (inner / Card.FILE).is_file():
        raise ValueError(f"{folder} holds no oracle: neither {Population.FILE} nor a model with {Card.FILE}")
    return {"kind": card_of(inner).kind, "name": folder.resolve().name, "model": str(inner)}


def _member(folder: Path, one: Annotator) -> dict[str, Any]:
    spec: dict[str, Any] = {"kind": one.kind, "name": one.name, "model": str(folder / one.model)}
    if one.output is not None:
        spec |= {"output": one.output}
    return {**spec, "scale": one.scale, "weight": one.weight}
