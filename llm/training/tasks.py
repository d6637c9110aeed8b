"""What a fit minimises: an objective, and for those of MNPO the rule that gives anchors and target."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Self

from mnpo.choices import choose
from mnpo.llm.config.model import CURRENT, REFERENCE
from mnpo.llm.config.update import TARGETS, Update
from mnpo.llm.training.anchors import anchor_weights
from mnpo.objectives import Estimated, Known, Objective, objective
from mnpo.rules import UpdateRule, WinRate


@dataclass(frozen=True, eq=False)
class Task:
    """What is minimised.

    Attributes:
        objective: one of `mnpo.objectives.OBJECTIVES`.
        parameters: its parameters; defaults for those not given.
        rule: of the MNPO objectives, whose anchors and step are those of (U).
        target: of the MNPO objectives, a key of `TARGETS`.

    Raises:
        ValueError: an unknown parameter or target, a rule that is missing, or one that labels cannot teach.
    """

    objective: Objective
    parameters: Mapping[str, float] = field(default_factory=dict)
    rule: UpdateRule | None = None
    target: str = "label"

    def __post_init__(self) -> None:
        self.objective.check(**self.parameters)
        choose(self.target, TARGETS, "target")
        if (self.rule is None) == (self.objective.anchor == "rule"):
            which = "needs a rule" if self.rule is None else "takes no rule"
            raise ValueError(f"objective {self.objective.name} {which}")
        check_labels_teach(self.rule, self.target)

    @classmethod
    def configured(cls, update: Update) -> Self:
        """Build the task that a configuration names."""
        chosen, parameters = update.the_objective()
        return cls(chosen, parameters, update.the_rule(), update.target)

    @property
    def labelled(self) -> bool:
        """Whether pairs are labels, so that a preference between 0 and 1 is an expectation over them."""
        return self.rule is None or self.target == "label"

    @property
    def known(self) -> list[Known]:
        """What must be known of both responses, from the data."""
        found = [need for need in self.objective.needs if isinstance(need, Known)]
        if self.rule is not None and self.target in ("win-rate", "reward"):
            name = {"win-rate": "win"}.get(self.target, self.target)
            found.append(Known(name, or_margin=self.target == "reward"))
        return found

    @property
    def estimated(self) -> list[Estimated]:
        """What is estimated on each batch from further responses."""
        return [need for need in self.objective.needs if isinstance(need, Estimated)]

    def anchors(self, known: Collection[str]) -> list[str]:
        """Return the names of the policies that must be scored, of those at hand.

        The reference is always the first: KL is reported against it.

        Raises:
            ValueError: an anchor that is not at hand.
        """
        names = [REFERENCE]
        if self.objective.anchor == CURRENT:
            names.append(CURRENT)
        if self.rule is not None:
            names += anchor_weights(self.rule, known)
        return list(dict.fromkeys(names))


def check_labels_teach(rule: UpdateRule | None, target: str) -> None:
    """Refuse labels for a rule that credits more: they teach the win rate against whom the pairs are drawn from.

    Raises:
        ValueError: such a rule.
    """
    if rule is None or target != "label":
        return
    if any(not isinstance(credit, WinRate) or credit.lag for credit, _ in rule.advantage):
        raise ValueError(
            f"rule {rule.name} credits more than the win rate against the current policy, which labels do not "
            "tell; give target=win-rate and its advantage in the columns win_chosen and win_rejected"
        )


def task_of(
    objective_or_name: str | Objective | None,
    parameters: Mapping[str, float] | None = None,
    rule: UpdateRule | None = None,
    target: str = "label",
) -> Task:
    """Build a task from what a notebook gives.

    Raises:
        ValueError: neither an objective nor a rule, an unknown name or parameter, a rule without use.
    """
    if objective_or_name is None:
        if rule is None:
            raise ValueError(
                "give an objective, such as objective='dpo', or a rule, such as rule=mnpo.inpo(eta=1.0, tau=0.1)"
            )
        objective_or_name = "mnpo"
    chosen = objective(objective_or_name) if isinstance(objective_or_name, str) else objective_or_name
    return Task(chosen, dict(parameters or {}), rule, target)
