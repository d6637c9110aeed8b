"""How an oracle of one's own is fitted to judgments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnpo.choices import choose
from mnpo.llm.config.data import Data
from mnpo.llm.config.keys import Section, key
from mnpo.llm.config.training import Training
from mnpo.oracle_objectives import COMPARISONS, ORACLE_OBJECTIVES, REGRESSION

#: Kinds of oracle that can be fitted, and what they are.
ORACLE_KINDS = {
    "reward": "one number for each response, or one for each attribute",
    "pairwise": "reads both responses and answers A or B",
    "embedding": "a vector for each response: a preference model that is antisymmetric and may be cyclic",
}
#: What HelpSteer2 rates, from 0 to 4 (2406.08673).
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
#: What becomes of annotators where each is fitted apart.
PARTS = {"model": "a model, or an adapter, for each", "head": "one model with a head for each"}


@dataclass(frozen=True, kw_only=True)
class OracleFit(Section):
    """What `mnpo llm fit-oracle` fits: an oracle of one's own.

    Judgments are those of dataset_name; the model that it starts from is model_name_or_path.
    """

    oracle_kind: str = key("reward", f"what is fitted: {', '.join(ORACLE_KINDS)}", choices=ORACLE_KINDS)
    oracle_objective: str = key(
        "bradley-terry", f"what is minimised: {', '.join(ORACLE_OBJECTIVES)}", choices=ORACLE_OBJECTIVES
    )
    oracle_phases: list[dict[str, Any]] = key(
        [],
        "fits after each other, the head carried over: each an oracle_objective, data and training arguments",
    )
    attributes: list[str] = key(
        [], "the ratings that are predicted, an output each; HelpSteer2's five unless given"
    )
    attribute_weights: dict[str, Any] = key(
        {}, "how much each counts in the reward; helpfulness alone unless given, or the only one"
    )
    embedding_pairs: int = key(
        4, "k: embeddings have 2k dimensions, enough for 2k + 1 responses", least=1, most=2**14
    )
    centring: float = key(0, "c: c·(r_w + r_l)² is added to the loss of each pair of rewards", least=0)
    pairwise_template: str | None = key(
        None, "a pairwise model's question, with {context}, {first} and {second}; RLHFlow's unless given"
    )
    per_annotator: bool = key(False, "whether each annotator is fitted apart: the oracle is their population")
    annotator_parts: str = key(
        "model", f"what each annotator has: {'; '.join(f'{k}, {v}' for k, v in PARTS.items())}", choices=PARTS
    )
    annotator_labels: int = key(10, "labels that an annotator needs; with fewer the fit is refused", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.attribute_weights:
            choose(name, dict.fromkeys(self.rated), "attribute")
        for place, phase in enumerate(self.oracle_phases, 1):
            if not isinstance(phase, Mapping):
                raise ValueError(f"phase {place} of oracle_phases must hold keys and values; found {phase!r}")
            choose(self._objective(phase), dict.fromkeys(ORACLE_OBJECTIVES), "oracle_objective")
            Training.of(_parted(phase)[0])
        for objective in self.objectives:
            self._check(objective)
        if self.annotator_parts == "head" and self.per_annotator and self.oracle_kind != "reward":
            raise ValueError("annotator_parts=head is for oracle_kind=reward: a head is an output of its own")
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"attributes must differ; found {', '.join(self.attributes)}")

    @property
    def rated(self) -> tuple[str, ...]:
        """The ratings that are predicted."""
        return tuple(self.attributes) or ATTRIBUTES

    @property
    def objectives(self) -> list[str]:
        """What is minimised, phase after phase."""
        return [self._objective(phase) for phase in self.oracle_phases] or [self.oracle_objective]

    @property
    def rates(self) -> bool:
        """Whether the model has an output for each attribute."""
        return REGRESSION in self.objectives

    def phases(self, training: Training, data: Data) -> list[tuple[str, Training, Data]]:
        """Return each phase's objective, training arguments and judgments.

        Args:
            training, data: what holds where a phase does not say otherwise.
        """
        found = []
        for phase in self.oracle_phases or [{}]:
            arguments, own = _parted(phase)
            values = {**training.values, **Training.of(arguments).values}
            sections = Data.of({**data.as_dict(), **own})
            found.append((self._objective(phase), Training(values=values), sections))
        return found

    def output_weights(self) -> list[float]:
        """Return how much each attribute counts in the reward."""
        if self.attribute_weights:
            return [float(self.attribute_weights.get(name, 0.0)) for name in self.rated]
        favoured = "helpfulness" if "helpfulness" in self.rated else self.rated[0]
        return [float(name == favoured) for name in self.rated]

    def _objective(self, phase: Mapping[str, Any]) -> str:
        return str(phase.get("oracle_objective", self.oracle_objective))

    def _check(self, objective: str) -> None:
        if self.oracle_kind != "reward" and objective not in COMPARISONS:
            raise ValueError(
                f"oracle_kind={self.oracle_kind} is fitted to pairs: choose from {', '.join(COMPARISONS)}; found "
                f"{objective}"
            )
        if self.centring and (self.oracle_kind != "reward" or objective not in COMPARISONS):
            raise ValueError(f"centring is for rewards of pairs; oracle_objective is {objective}")
        if objective == REGRESSION and self.per_annotator and self.annotator_parts == "head":
            raise ValueError("annotator_parts=head is for judgments of pairs or rankings, not for ratings")


def _parted(phase: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the training arguments of a phase, and its keys of the data section."""
    rest = {name: value for name, value in phase.items() if name != "oracle_objective"}
    return (
        {name: value for name, value in rest.items() if name not in Data.known_keys()},
        {name: value for name, value in rest.items() if name in Data.known_keys()},
    )
