"""Where a cross-check begins: a rule on a game, and networks whose policies both executors start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mnpo.dynamics import target_game, update
from mnpo.feedback import Sampled
from mnpo.games import Game
from mnpo.llm.crosscheck.executor import Executor, Policy, Position, Profile
from mnpo.numerics import Array, normalise_log
from mnpo.presets import make_rule
from mnpo.rules import UpdateRule, WinRate

#: Random policies are the softmax of normal numbers of this size.
_SPREAD = 0.7
#: Kinds of policies, in the seeds of random ones; a history's lags follow the last.
_REFERENCE, _EXTERNAL, _PAST = range(3)


@dataclass(frozen=True, eq=False)
class Case:
    """A rule on a game.

    Attributes:
        label: what it is called.
        spec: the rule as a configuration names it: name, eta and other options.
        game: who plays what.
        game_name: what the game is called.
    """

    label: str
    spec: Mapping[str, Any]
    game: Game
    game_name: str

    @cached_property
    def rule(self) -> UpdateRule:
        """The rule.

        Raises:
            ValueError: one that is not of the form (U).
        """
        built = make_rule(str(self.spec["name"]), **{k: v for k, v in self.spec.items() if k != "name"})
        if not isinstance(built, UpdateRule):
            raise ValueError(f"rule {built.name} is not of the form that a network can be trained by")
        return built

    @property
    def slots(self) -> int:
        """p, how many policies are followed: one for players that are alike, unless the rule tells them apart."""
        return self.game.players if self.rule.tells_apart or not self.game.symmetric else 1

    @property
    def credits_current(self) -> bool:
        """Whether all credit is the win rate against the current policies, which is all that labels can tell."""
        return all(isinstance(credit, WinRate) and not credit.lag for credit, _ in self.rule.advantage)


@dataclass(frozen=True, eq=False)
class Place:
    """A case at a position.

    Attributes:
        case: the rule and the game as they were given.
        game: the game with the references that the networks really have.
        position: where the players are.
    """

    case: Case
    game: Game
    position: Position

    @property
    def externals(self) -> list[Array]:
        """The external policies, (X, A) each."""
        return [np.exp(policy.log_policy) for policy in self.position.externals]

    @property
    def aim(self) -> Game:
        """The game whose equilibrium the rule aims at."""
        return target_game(self.game, self.case.rule, self.externals)

    def table_step(self, advantage: Array | None = None) -> Array:
        """Return the rule's step in closed form, (p, X, A); with another advantage (p, X, A) if one is given."""
        if advantage is None:
            return self._step(self.case.rule, None)
        rule = replace(self.case.rule, advantage=((WinRate(), 1.0),))
        return self._step(rule, lambda *_: advantage)

    def table_step_by_labels(self, pairs: str, count: int, rng: np.random.Generator) -> Array:
        """Return the table's own step with win rates learnt from `count` pairs of a kind of `mnpo.feedback`."""
        return self._step(self.case.rule, Sampled(count, rng, pairs))

    def _step(self, rule: UpdateRule, feedback: Any) -> Array:
        found = update(self.game, rule, self.position.tables(), externals=self.externals, feedback=feedback)
        return np.asarray(np.exp(found))


class Positions:
    """Positions of networks of one kind, which are taught their policies once.

    Args:
        executor: makes the networks.
        seed: of the policies.
    """

    def __init__(self, executor: Executor, seed: int) -> None:
        self.executor = executor
        self._seed = seed
        self._taught: dict[bytes, Policy] = {}

    def scattered(self, case: Case) -> Place:
        """Return a position in which every policy that a rule can name is another one."""
        slots = case.slots
        history = tuple(
            tuple(self._random(case, _PAST + lag, i) for i in range(slots)) for lag in range(case.rule.depth)
        )
        references = tuple(self._random(case, _REFERENCE, i) for i in range(slots))
        return self._place(case, Position(history, references, self._externals(case)))

    def start(self, case: Case) -> Place:
        """Return where a run begins: each slot at a policy of its own, regularised towards the game's reference."""
        start = tuple(self._random(case, _PAST, i) for i in range(case.slots))
        references = tuple(
            self._teach(np.exp(logs), _REFERENCE, i) for i, logs in enumerate(case.game.log_reference)
        )
        return self._place(case, Position((start,), references, self._externals(case)))

    def _place(self, case: Case, position: Position) -> Place:
        reference = policies(position.references)
        return Place(
            case, replace(case.game, reference=reference if len(reference) > 1 else reference[0]), position
        )

    def _externals(self, case: Case) -> Profile:
        return tuple(self._random(case, _EXTERNAL, k) for k in range(case.rule.externals))

    def _random(self, case: Case, kind: int, number: int) -> Policy:
        rng = np.random.default_rng([self._seed, kind, number])
        logits = _SPREAD * rng.standard_normal((case.game.contexts, case.game.actions))
        return self._teach(normalise_log(logits)[1], kind, number)

    def _teach(self, policy: Array, kind: int, number: int) -> Policy:
        key = policy.tobytes()
        if key not in self._taught:
            # The seed is by what the policy is for: a case's rows are the same with and without others before it.
            (seed,) = np.random.SeedSequence([self._seed, kind, number]).generate_state(1).tolist()
            self._taught[key] = self.executor.teach(f"taught-{len(self._taught)}", policy, seed)
        return self._taught[key]


def policies(profile: Profile) -> Array:
    """Return a profile's policies as a table, (p, X, A)."""
    return np.exp([policy.log_policy for policy in profile])


def distances(one: Array, other: Array) -> Array:
    """Return the total variation by player and context, (p, X, A), (p, X, A) -> (p, X)."""
    return np.asarray(np.abs(one - other).sum(-1) / 2)


def distance(one: Array, other: Array) -> float:
    """Return the total variation, mean over contexts and players."""
    return float(distances(one, other).mean())


def outside(profile: Profile) -> float:
    """Return the largest probability that a player gives, in any context, to texts outside the set."""
    return float(max(policy.outside.max() for policy in profile))
