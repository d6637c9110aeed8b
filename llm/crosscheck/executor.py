"""The neural executor on a finite game: an update rule carried out by training networks (docs/concepts.md (L)).

Policies are model folders. What a rule credits is asked of the game at the networks' own response distributions;
everything else, from encoding pairs over the anchors' scores to the loss, is the stage `mnpo.llm.stages.fit`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from mnpo.games import Game
from mnpo.implicit import equilibrium_around
from mnpo.llm.config import resolve
from mnpo.llm.crosscheck.finite import NETWORKS, ResponseSet, make_network
from mnpo.llm.models.loading import load_model
from mnpo.llm.stages.registry import run_here
from mnpo.numerics import Array, normalise_log
from mnpo.rules import Ahead, Anchors, External, Next, Opponents, Own, Reference, UpdateRule, WinRate

Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Policy:
    """A network's policy.

    Attributes:
        folder: the model's.
        log_policy: (X, A), log-probabilities of the responses, normalised over the set.
        outside: (X,), the probability of texts that are not in the set.
    """

    folder: str
    log_policy: Array
    outside: Array


Profile = tuple[Policy, ...]


@dataclass(frozen=True, eq=False)
class Position:
    """The policies that an update starts from.

    Attributes:
        history: π^t, π^{t−1}, ..; the last stands for all before it.
        references: π_ref of each player, or of all.
        externals: policies from outside.
    """

    history: tuple[Profile, ...]
    references: Profile
    externals: Profile = ()

    def log_policies(self, lag: int = 0) -> Array:
        """(p, X, A)."""
        return np.stack([policy.log_policy for policy in self.history[min(lag, len(self.history) - 1)]])

    def tables(self) -> list[Array]:
        """Return the history as `mnpo.update` takes it."""
        return [np.exp(self.log_policies(lag)) for lag in range(len(self.history))]

    def after(self, profile: Profile, depth: int) -> Position:
        """Return the position one update later, as far back as a rule of that depth looks."""
        return Position((profile, *self.history)[:depth], self.references, self.externals)


class Around(NamedTuple):
    """What an implicit step is solved around: log ν, (p, X, A), and the factor on win rates."""

    log_reference: Array
    strength: float


class Part(NamedTuple):
    """A coefficient, the policies (p, X, A) that win rates are against, and what gave them in an implicit step."""

    weight: float
    at: Array
    around: Around | None = None


class Lesson(Protocol):
    """Makes preference pairs of what a rule credits."""

    #: What h is regressed on: a value of the configuration's `target`.
    target: str

    def __call__(
        self, game: Game, responses: ResponseSet, player: int, own: Array, parts: Sequence[Part]
    ) -> Rows:
        """Return the rows of a preference data set.

        Args:
            game: who wins.
            responses: the texts.
            player: i.
            own: (X, A), the policy that responses are drawn from.
            parts: what the player's responses are credited with.
        """


class Exact:
    """All pairs once, with the exact advantages of both responses."""

    target = "win-rate"

    def __call__(
        self, game: Game, responses: ResponseSet, player: int, own: Array, parts: Sequence[Part]
    ) -> Rows:
        """See `Lesson`."""
        credit = sum(part.weight * game.win_probabilities(part.at)[player] for part in parts)
        assert isinstance(credit, np.ndarray)
        first, second = np.triu_indices(responses.responses, 1)
        return [
            row(responses, x, y, z, win_chosen=float(credit[x, y]), win_rejected=float(credit[x, z]))
            for x in range(responses.contexts)
            for y, z in zip(first.tolist(), second.tolist(), strict=True)
        ]


def row(responses: ResponseSet, context: int, chosen: int, rejected: int, **numbers: float) -> dict[str, Any]:
    """Return a row of a preference data set."""
    prompt, texts = responses.prompts[context], responses.texts
    return {"prompt": prompt, "chosen": texts[chosen], "rejected": texts[rejected], **numbers}


class Executor:
    """Trains networks of one kind by update rules.

    Args:
        kind: a key of `mnpo.llm.crosscheck.finite.NETWORKS`.
        responses: what they say.
        folder: where models, scores and pairs go.
        training: keys of the configuration on top of the kind's own.
    """

    def __init__(
        self, kind: str, responses: ResponseSet, folder: Path, training: Mapping[str, Any] | None = None
    ) -> None:
        self.kind, self.responses = kind, responses
        self._folder = folder / kind
        self._training = dict(training or {})
        self._fits = 0

    def teach(self, name: str, policy: Array, seed: int = 0) -> Policy:
        """Make a network whose policy is near the given one, (X, A)."""
        return self.measure(make_network(self.kind, self.responses, policy, self._folder / name, seed))

    def measure(self, folder: Path) -> Policy:
        """Return a network's exact policy.

        From the logits, token by token and in float64, with nothing of what scores and trains: a mistake there must
        not be made here too.
        """
        model = load_model(folder).double().eval()
        found = []
        for prompt, answer in self.responses.requests:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double()
            said = logits[len(prompt) - 1 : -1].log_softmax(-1)
            found.append(float(said[torch.arange(len(answer)), torch.tensor(answer)].sum()))
        return Policy(str(folder), *self.responses.policy(np.array(found)))

    def update(
        self,
        game: Game,
        rule: UpdateRule,
        position: Position,
        lesson: Lesson,
        given: Mapping[str, Any] | None = None,
    ) -> Profile:
        """Return every player's policy after one update.

        Args:
            game: who wins.
            rule: the rule.
            position: where the players are.
            lesson: makes the pairs.
            given: the rule as a configuration names it; by its anchors unless given.
        """
        parts = self.parts(game, rule, position, lesson)
        spec = given or {
            key: value for key, value in rule.as_dict().items() if key in ("name", "eta", "anchors")
        }
        own = np.exp(position.log_policies())
        return tuple(
            self.fit(
                {"objective": "mnpo", "rule": dict(spec), "target": lesson.target},
                position,
                player,
                lesson(game, self.responses, player, own[player], parts),
            )
            for player in range(len(own))
        )

    def fit(self, task: Mapping[str, Any], position: Position, player: int, rows: Rows) -> Policy:
        """Train a player's network on pairs, from its current weights.

        Args:
            task: keys of the configuration that name the objective.
            position: whose policies are its anchors.
            player: i.
            rows: the pairs; without any the policy stays what it is.
        """
        now, *past = position.history
        if not rows:
            return now[player]
        self._fits += 1
        home = self._folder / f"fit-{self._fits}"
        home.mkdir(parents=True)
        data = home / "pairs.jsonl"
        data.write_text("".join(json.dumps(entry) + "\n" for entry in rows), encoding="utf-8")
        references = position.references
        config = {
            "model_name_or_path": now[player].folder,
            "output_dir": str(home),
            "scores_dir": str(self._folder / "scores"),
            "dataset_name": str(data),
            "max_length": 64,
            "max_prompt_length": 32,
            "reference_model_name_or_path": references[player % len(references)].folder,
            "past_models": [profile[player].folder for profile in past],
            "opponent_models": [other.folder for place, other in enumerate(now) if place != player],
            "external_models": [policy.folder for policy in position.externals],
            "per_device_train_batch_size": len(rows),
            "per_device_eval_batch_size": 256,
            "weight_decay": 0.0,
            "max_grad_norm": 0.0,
            "lr_scheduler_type": "cosine",
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            **NETWORKS[self.kind].training(self._met(rows)),
            **self._training,
            **task,
        }
        return self.measure(Path(run_here("fit", resolve(config)).model))

    def _met(self, rows: Rows) -> Array:
        """How often each response met each other one, (X, A, A)."""
        prompts, texts = self.responses.prompts, self.responses.texts
        met = np.zeros((len(prompts), len(texts), len(texts)))
        for entry in rows:
            place = (
                prompts.index(entry["prompt"]),
                texts.index(entry["chosen"]),
                texts.index(entry["rejected"]),
            )
            met[place] += entry.get("weight", 1.0)
        return met

    def parts(self, game: Game, rule: UpdateRule, position: Position, lesson: Lesson) -> list[Part]:
        """Return what a rule credits, at the networks' policies; a step ahead is taken by networks as well.

        Raises:
            ValueError: a rule that credits other win rates beside that at its next policies.
        """
        parts: list[Part] = []
        for credit, coefficient in rule.advantage:
            weight = float(np.asarray(coefficient).flat[0])
            if isinstance(credit, WinRate):
                parts.append(Part(weight, np.exp(position.log_policies(credit.lag))))
            elif isinstance(credit.point, Ahead):
                ahead = self.update(game, credit.point.rule, position, lesson)
                parts.append(Part(weight, np.exp(np.stack([policy.log_policy for policy in ahead]))))
            elif isinstance(credit.point, Next):
                if len(rule.advantage) > 1:
                    raise ValueError(f"rule {rule.name}: an implicit step is checked by itself only")
                eta = float(np.asarray(rule.eta).flat[0])
                log_reference = normalise_log(_mixture(rule.anchors, position))[0]
                around = Around(log_reference, eta * weight)
                parts.append(Part(weight, _next(game, around), around))
            else:
                parts.append(Part(weight, normalise_log(_mixture(credit.point.anchors, position))[1]))
        return parts


def _next(game: Game, around: Around) -> Array:
    """The equilibrium with the anchors' mixture as reference and one over the strength as τ, (p, X, A)."""
    tau = np.full(len(around.log_reference), 1 / around.strength)
    return np.exp(equilibrium_around(game.by_matrix(), around.log_reference, tau).log_policies)


def _mixture(anchors: Anchors, position: Position) -> Array:
    """Σ_k λ_k log μ_k at the networks' policies, (p, X, A), not normalised; apart from the table's own."""
    total = np.zeros_like(position.log_policies())
    for anchor, share in anchors:
        weight = float(np.asarray(share).flat[0])
        match anchor:
            case Reference():
                logs = np.stack([policy.log_policy for policy in position.references])
            case Own(lag=lag):
                logs = position.log_policies(lag)
            case Opponents(lag=lag):
                now = position.log_policies(lag)
                count = max(len(now) - 1, 1)
                logs = (now.sum(0) - now) / count if len(now) > 1 else now
            case External(index=index):
                logs = position.externals[index].log_policy[None]
        total = total + weight * logs
    return total
