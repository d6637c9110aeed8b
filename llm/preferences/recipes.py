"""How a configuration wants its pairs made, and whose responses that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mnpo.llm.config import CURRENT, Judging, Models, Sampling, Update
from mnpo.llm.oracles.panel import Panel
from mnpo.llm.preferences.pairing import AdvantagePart, Recipe
from mnpo.llm.training.tasks import Task
from mnpo.rules import Own, Reference, WinRate

#: What pairs teach, by what a fit reads of them, where the estimate is unbiased: docs/concepts.md (11), (12).
TAUGHT = {
    "label": "the win rate against the policy that the pairs are drawn from",
    "win-rate": "the rule's advantage, by unbiased estimates",
    "win": "win rates against the policy that the pairs are drawn from, by unbiased estimates",
    "reward": "rewards",
    "margin": "margins",
}
BIASED = {
    "best-worst": "an order, not the win rate: best and worst are chosen by the numbers that they are given",
    "hard": "which responses are favoured, not by how much: labels without noise are no expectations",
}


#: What the pairs of an implicit step teach: docs/concepts.md (15).
SAMPLE_GAME = (
    "win rates against the rule's own next policy, by the sample game of the K: off by the order of 1/K"
)


def taught(task: Task, judging: Judging, sampling: Sampling) -> str:
    """Say in a line what a run's pairs teach, and of which responses."""
    known = next((need.name for need in task.known), "label")
    read = known if task.rule is None else task.target
    if judging.pairing == "best-worst" and read != "reward":
        lesson = BIASED["best-worst"]
    elif task.rule is not None and task.rule.implicit is not None and read == "win-rate":
        lesson = SAMPLE_GAME
        if sampling.sampler == "vllm":
            lesson += "; vLLM's probabilities are taken to be those of transformers"
    elif judging.labels == "hard" and (read == "label" or judging.pairing == "third"):
        lesson = BIASED["hard"]
    else:
        lesson = TAUGHT.get(read, f"what the columns {read}_chosen and {read}_rejected say")
    if sampling.temperature == 1 and sampling.top_p == 1:
        return lesson
    return f"{lesson}; responses are drawn at temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"


def wants_win_rates(task: Task) -> bool:
    """Tell whether win rates of single responses are needed."""
    return any(need.name == "win" for need in task.known)


def opponents(model: Models, update: Update) -> list[tuple[float, tuple[str, ...] | None]]:
    """Return the parts of the advantage: a coefficient, and the names of those that the win rate is against.

    None stands for the policy itself. Names are those of the opponents, or past-1, .. for the policy's own past.

    Raises:
        ValueError: an advantage of which no responses can be sampled.
    """
    rule = update.the_rule()
    if rule is None or update.target != "win-rate" or implicit_strength(update) is not None:
        return [(1.0, None)]
    found: list[tuple[float, tuple[str, ...] | None]] = []
    for credit, coefficient in rule.advantage:
        weight = float(np.asarray(coefficient).flat[0])
        if not isinstance(credit, WinRate):
            raise ValueError(
                f"rule {rule.name} credits the win rate against a policy that nobody plays, of which no responses "
                "can be sampled; rules that credit win rates against the policy, its past or its opponents can be "
                "trained by win rates"
            )
        if credit.lag and model.opponent_models:
            raise ValueError(f"rule {rule.name}: the other players' past policies are not sampled")
        if model.opponent_models:
            found.append((weight, tuple(model.names_of_opponents())))
            continue
        step = min(credit.lag, len(model.past_models))
        found.append((weight, (f"past-{step}",) if step else None))
    return found


def implicit_strength(update: Update) -> float | None:
    """Return η times the coefficient of the win rate at the next policy; None for a rule that credits none.

    Raises:
        ValueError: a rule that credits other win rates beside it.
    """
    rule = update.the_rule()
    if rule is None or rule.implicit is None or update.target != "win-rate":
        return None
    if len(rule.advantage) > 1:
        raise ValueError(
            f"rule {rule.name} credits other win rates beside that at its next policy; no model is taught both"
        )
    return float(np.asarray(rule.implicit).flat[0])


def sampled_models(model: Models, update: Update) -> dict[str, str]:
    """Return who is sampled besides the policy: name -> model."""
    known = model.policies()
    known |= dict(zip(model.names_of_opponents(), model.opponent_models, strict=True))
    names = [name for _, group in opponents(model, update) for name in group or ()]
    return {name: known[name] for name in dict.fromkeys(names) if name != CURRENT}


def recipe(
    model: Models, sampling: Sampling, judging: Judging, update: Update, places: Mapping[str, Sequence[int]]
) -> Recipe:
    """Return how pairs are made.

    Args:
        model, sampling, judging, update: the sections.
        places: opponent's name -> the places of its responses.
    """
    parts = tuple(
        AdvantagePart(weight, None if names is None else tuple(tuple(places[name]) for name in names))
        for weight, names in opponents(model, update)
    )
    return Recipe(
        pairing=judging.pairing,
        labels=judging.labels,
        own=sampling.num_generations,
        parts=parts,
        wanted=wants_win_rates(Task.configured(update)),
        group_size=judging.group_size,
        strength=implicit_strength(update),
    )


def check(model: Models, sampling: Sampling, judging: Judging, update: Update, panel: Panel) -> None:
    """Refuse what cannot be sampled, annotated and fitted together, before anything is paid for.

    Raises:
        ValueError: sizes that are too small for the pairs that are wanted, an advantage that cannot be estimated,
            or a target that the oracles do not give.
    """
    task = Task.configured(update)
    parts = opponents(model, update)
    implicit = implicit_strength(update) is not None
    if implicit:
        _check_sample_game(model, sampling, judging, task)
    alone = any(names is None for _, names in parts) and not implicit
    wanted = wants_win_rates(task)
    drawn, size, pairing = sampling.num_generations, judging.group_size, judging.pairing
    least = 3 if pairing == "third" and alone else 2
    if drawn < least:
        raise ValueError(
            f"num_generations must be at least {least} to make pairs of kind {pairing}; found {drawn}"
        )
    if pairing == "third" and (update.target != "win-rate" or len(parts) > 1 or size > 1):
        raise ValueError(
            "pairing=third needs target=win-rate, an advantage of one part, and group_size=1: "
            "its targets are win rates against single opponents"
        )
    if size > 1 and not wanted:
        raise ValueError("group_size above 1 needs target=win-rate: labels compare two responses")
    if wanted and alone and pairing != "third" and drawn < size + 2:
        raise ValueError(
            f"num_generations must be at least {size + 2} for win rates against the policy itself in groups "
            f"of {size}; found {drawn}"
        )
    for _, names in parts:
        if names is not None and size not in (1, len(names)) and len(names) > 1:
            raise ValueError(f"group_size must be 1 or the number of opponents, {len(names)}; found {size}")
        if names is not None and len(names) == 1 and size > (sampling.opponent_generations or drawn):
            raise ValueError(f"opponent_generations must be at least group_size, {size}")
    needed = {need.name for need in task.known}
    if "reward" in needed and not panel.has_rewards:
        what = "target=reward" if task.rule is not None else f"objective {task.objective.name}"
        raise ValueError(f"{what} needs oracles that give rewards; {panel.name} tells probabilities")
    if update.target == "margin" or "gamma" in needed:
        raise ValueError("annotation makes no margins: the target is label, win-rate or reward")


def _check_sample_game(model: Models, sampling: Sampling, judging: Judging, task: Task) -> None:
    """Refuse what the sample game cannot be made of.

    Raises:
        ValueError: says what is wrong.
    """
    assert task.rule is not None
    name, drawn = task.rule.name, sampling.num_generations
    if drawn < 3:
        raise ValueError(
            f"num_generations must be at least 3 for rule {name}: a pair and what it plays against; found {drawn}"
        )
    if judging.pairing == "third":
        raise ValueError(
            f"pairing=third compares with single responses; rule {name} needs all, iid or best-worst"
        )
    if sampling.top_p != 1 or sampling.temperature == 0:
        raise ValueError(
            f"rule {name} needs top_p=1 and a temperature above 0: its weights divide by the probability that "
            f"a response was drawn with, all of them possible; found top_p={sampling.top_p:g}, "
            f"temperature={sampling.temperature:g}"
        )
    if model.opponent_models:
        raise ValueError(
            f"rule {name} solves the game of players who are alike; players with oracles of their own need "
            "ht-mnpo, or another rule that credits win rates against the players' current policies"
        )
    if any(not isinstance(anchor, Reference | Own) for anchor, _ in task.rule.anchors):
        raise ValueError(
            f"rule {name} can be trained with the reference and the player's own past as anchors only"
        )
