"""What an update minimises: the objective, and the rule that gives its anchors and its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.choices import choose
from mnpo.llm.config.keys import Section, key
from mnpo.objectives import Objective, objective
from mnpo.presets import RULES, make_rule
from mnpo.rules import UpdateRule, rule_from_dict
from mnpo.values import coerce

#: What h is regressed on, by the value of `target`.
TARGETS = {
    "label": "η/2 for the response that is preferred",
    "win-rate": "η times the gap of the rule's advantage",
    "reward": "η times the gap of rewards",
    "margin": "η times the given margin",
}


@dataclass(frozen=True, kw_only=True)
class Update(Section):
    """What an update minimises."""

    objective: str | dict[str, Any] = key(
        "mnpo", "a name of docs/reference/objectives.md, or {name, parameters}"
    )
    rule: str | dict[str, Any] | None = key(
        None, "of the MNPO objectives: a rule of mnpo sim rules, {name, eta, tau, ..}, or {eta, anchors}"
    )
    target: str = key("label", f"of the MNPO objectives: {', '.join(TARGETS)}", choices=TARGETS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.the_objective()
        if self.rule is not None:  # what trains a policy asks for one; fits and tests of oracles do without
            self.the_rule()

    def the_objective(self) -> tuple[Objective, dict[str, float]]:
        """Return the objective and its parameters.

        Raises:
            ValueError: an unknown objective or parameter, or a parameter that is no number.
        """
        given = {"name": self.objective} if isinstance(self.objective, str) else dict(self.objective)
        if "name" not in given:
            raise ValueError(
                "objective needs a name: objective=dpo, or objective.name=dpo objective.beta=0.1"
            )
        chosen = objective(str(given.pop("name")))
        for name in given:  # before their values: what is no number is named by its key
            choose(name, chosen.parameters, f"parameter of objective {chosen.name}")
        read = {name: coerce(value, float, f"objective.{name}") for name, value in given.items()}
        chosen.check(**read)
        return chosen, read

    def the_rule(self) -> UpdateRule | None:
        """Return the update rule; None where the objective does without.

        Raises:
            ValueError: no rule for an objective that needs one, or a bad one.
        """
        chosen, _ = self.the_objective()
        if chosen.anchor != "rule":
            return None
        if self.rule is None:
            raise ValueError(
                f"objective {chosen.name} needs a rule, for example rule=inpo rule.eta=1 rule.tau=0.1"
            )
        given = {"name": self.rule} if isinstance(self.rule, str) else dict(self.rule)
        if "anchors" in given:
            return rule_from_dict(given)
        preset = choose(str(given.pop("name", "")), RULES, "rule")
        for name in given:
            choose(name, dict.fromkeys(preset.options), f"option of rule {preset.name}")
        known = {name: preset.read(name, value, f"rule.{name}") for name, value in given.items()}
        missing = [option for option in ("eta", "tau") if option in preset.options and option not in known]
        if missing:
            raise ValueError(f"rule {preset.name} needs rule.{missing[0]}")
        built = make_rule(preset.name, **known)
        if not isinstance(built, UpdateRule):
            raise ValueError(f"rule {preset.name} is not of the form that a model can be trained by")
        return built
