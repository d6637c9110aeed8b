"""Which gaps an evaluation estimates, what oracles are asked for that, and the estimates from what they say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mnpo.gap_estimates import Estimates, Verdicts, bootstrap, estimate
from mnpo.llm.config import Evaluation, Judging, Models, Sampling, Update
from mnpo.llm.oracles.judged import Judged
from mnpo.llm.oracles.panel import Panel, build
from mnpo.llm.stages.records import Bracket, Interval
from mnpo.numerics import Array
from mnpo.rules import External

#: Fewest responses: both halves of them must hold a response and another one that it meets.
LEAST = 4


class Plan(NamedTuple):
    """The gap that is estimated under one oracle.

    Attributes:
        tau: of the game.
        group: how many opponents a response is judged against at once.
        others: names of the other players; none where all play the policy that is tested.
    """

    tau: float
    group: int
    others: tuple[str, ...]

    @property
    def players(self) -> int:
        """n."""
        return len(self.others) + 1 if self.others else self.group + 1

    @property
    def measure(self) -> str:
        """What it is called."""
        if self.others:
            return "exploitability"
        return "duality gap" if self.group == 1 else "NashConv"


def plans(
    model: Models,
    sampling: Sampling,
    judging: Judging,
    update: Update,
    evaluation: Evaluation,
    panels: Mapping[str, Panel],
) -> dict[str, Plan]:
    """Return whose gap is estimated: oracle -> plan, of those under which one is.

    A player of a heterogeneous game has a gap under its own oracle alone.

    Args:
        model, sampling, judging, update, evaluation: the sections.
        panels: who judges the evaluation, by name.

    Raises:
        ValueError: eval_gap=true where the gap cannot be estimated.
    """
    if evaluation.eval_gap is False:
        return {}
    found: dict[str, Plan] = {}
    try:
        tau = _tau(update, evaluation)
        others = _others(model, evaluation)
        own = build(judging.oracle, trust_remote_code=model.trust_remote_code) if others else None
        for name, panel in panels.items():
            if own is not None and _content(panel) != _content(own):
                continue
            if evaluation.eval_gap is None and not _free(panel):
                continue
            grouped = any(member.oracle.kind == "reward" for member in panel.members)
            found[name] = Plan(tau, judging.group_size if grouped else 1, others)
        for plan in found.values():
            _check(plan, sampling, evaluation)
    except _Impossible as reason:
        if evaluation.eval_gap:
            raise ValueError(f"eval_gap=true needs {reason}") from None
        return {}
    return found


class _Impossible(Exception):
    """Why there is no estimate: what it needs."""


def _tau(update: Update, evaluation: Evaluation) -> float:
    if evaluation.eval_tau is not None:
        return evaluation.eval_tau
    rule = update.the_rule()
    if rule is None:
        raise _Impossible("eval_tau: there is no rule whose τ is the game's")
    if any(isinstance(anchor, External) for anchor, _ in rule.anchors):
        raise _Impossible("eval_tau: the rule's τ belongs to a game whose reference is a mixture of policies")
    tau = float(np.asarray(rule.tau).flat[0])
    if tau <= 0:
        raise _Impossible("eval_tau above 0: the rule's τ is 0")
    return tau


def _others(model: Models, evaluation: Evaluation) -> tuple[str, ...]:
    others = tuple(model.names_of_opponents())
    missing = [name for name in others if evaluation.eval_opponents and name not in evaluation.eval_opponents]
    if missing:
        raise _Impossible(f"all other players among eval_opponents; {missing[0]} is not")
    return others


def _check(plan: Plan, sampling: Sampling, evaluation: Evaluation) -> None:
    if sampling.temperature != 1 or sampling.top_p != 1:
        # Of what is drawn otherwise, a model's log-probabilities are not the probabilities.
        raise _Impossible(
            "responses of the models themselves, temperature=1 and top_p=1; found "
            f"{sampling.temperature:g} and {sampling.top_p:g}"
        )
    if plan.others and plan.group not in (1, len(plan.others)):
        raise _Impossible(f"group_size 1 or {len(plan.others)}, the number of opponents; found {plan.group}")
    least = LEAST if plan.others else max(LEAST, 2 * plan.players)
    if evaluation.eval_generations < least:
        raise _Impossible(f"eval_generations of at least {least}; found {evaluation.eval_generations}")


def _free(panel: Panel) -> bool:
    """Whether nobody is asked elsewhere, but for one reward of each response."""
    return all(member.oracle.local or member.oracle.kind == "reward" for member in panel.members)


def _content(panel: Panel) -> list[object]:
    return [(oracle.key(), oracle.scale, weight) for oracle, weight in panel.members]


class Sides(NamedTuple):
    """Where responses stand among all of a prompt.

    Attributes:
        policy, reference: the K places of each.
        others: player -> places.
    """

    policy: Sequence[int]
    reference: Sequence[int]
    others: Mapping[str, Sequence[int]]

    def responses(self) -> list[int]:
        """Places of the policy's responses, then of the reference's."""
        return [*self.policy, *self.reference]

    def opponents(self, plan: Plan) -> list[Sequence[int]]:
        """Places of each opponent's responses; where players are alike, the policy's own."""
        return [self.others[name] for name in plan.others] if plan.others else [self.policy]

    def meetings(self, plan: Plan) -> set[tuple[int, int]]:
        """Return which pairs of places, the smaller first, an oracle of pairs must be asked about."""
        met = itertools.product(self.responses(), itertools.chain(*self.opponents(plan)))
        return {(min(pair), max(pair)) for pair in met if pair[0] != pair[1]}


class Gaps:
    """Gathers the estimates of one oracle, some prompts at a time.

    Args:
        plan: what is estimated.
        sides: where responses stand.
        log_ratios: log π/π_ref in nats of the policy's and the reference's responses, (prompts, 2K).
    """

    def __init__(self, plan: Plan, sides: Sides, log_ratios: Array) -> None:
        self._plan, self._sides, self._ratios = plan, sides, log_ratios
        self._found: list[Estimates] = []

    def meetings(self) -> set[tuple[int, int]]:
        """Return which pairs of places, the smaller first, an oracle of pairs must be asked about."""
        return self._sides.meetings(self._plan)

    def add(self, start: int, judged: Sequence[Sequence[Judged]]) -> None:
        """Take in what the oracle says.

        Args:
            start: the number of the first prompt.
            judged: what each member says of each prompt, with win matrices of all responses.
        """
        rows, plan = self._sides.responses(), self._plan
        columns = np.array([[*places] for places in self._sides.opponents(plan)])  # (M, K)
        verdicts = []
        for said in judged:
            weight = said[0].weight
            if said[0].rewards is None:
                wins = np.stack([np.asarray(one.wins)[rows][:, columns] for one in said])
                verdicts.append(Verdicts(weight, wins=wins))
                continue
            rewards = np.stack([np.asarray(one.rewards) for one in said])
            others = rewards[:, columns] if plan.others else None
            verdicts.append(Verdicts(weight, utilities=rewards[:, rows], opponents=others))
        ratios = self._ratios[start : start + len(judged[0])]
        alike = not plan.others
        self._found.append(estimate(ratios, verdicts, plan.tau, group=plan.group, alike=alike))

    def bracket(self, rng: np.random.Generator) -> Bracket:
        """Return the means over prompts with their intervals.

        Args:
            rng: of the bootstrap.
        """
        both = np.concatenate([[one.plug_in, one.split] for one in self._found], axis=1)
        low, high = bootstrap(both, rng)
        plug_in, split = (
            Interval(mean=float(values.mean()), low=float(low[row]), high=float(high[row]))
            for row, values in enumerate(both)
        )
        effective = np.concatenate([one.effective for one in self._found])
        return Bracket(
            measure=self._plan.measure,
            plug_in=plug_in,
            split=split,
            tau=self._plan.tau,
            players=self._plan.players,
            responses=len(self._sides.policy),
            effective=float(effective.mean()),
        )
