"""The two executors side by side: the same rule on a table and on networks (spec §5).

Both start from the same policies, the networks' own. One step is taken from a history of policies that all differ,
so that no weight can hide behind another; T steps go on from one start as a run would. With sampled feedback the
error of one step shrinks as m^{−1/2} towards what the estimator teaches: the rule's step, or another one.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnpo.dynamics import run, target_game, update
from mnpo.equilibria import solve
from mnpo.feedback import Sampled
from mnpo.games import Game
from mnpo.gaps import nash_conv
from mnpo.llm.estimators import ESTIMATORS, Labels, limit
from mnpo.llm.executor import Exact, Executor, Lesson, Policy, Position, Profile
from mnpo.llm.finite import NETWORKS, ResponseSet
from mnpo.numerics import Array, normalise_log
from mnpo.presets import make_rule
from mnpo.rules import Opponents, UpdateRule, WinRate

#: Total variation after one step with exact feedback, mean over contexts, up to which a network agrees.
TOLERANCE = {"softmax": 1e-5, "mlp": 1e-3, "gemma2": 1e-2}
#: Duality gaps agree within this share of the table's, or this much.
GAP_SHARE, GAP_DIFFERENCE = 0.1, 1e-3
#: How far the slope of the error in m, on log axes, may be from −1/2.
SLOPE_TOLERANCE = 0.15

#: Random policies are the softmax of normal numbers of this size.
_SPREAD = 0.7

Progress = Callable[[str, int, int], None]


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

    @property
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
        """How many policies are followed: one for players that are alike, unless the rule tells them apart."""
        apart = any(isinstance(anchor, Opponents) for anchor, _ in self.rule.anchors)
        return self.game.players if apart or not self.game.symmetric else 1


def crosscheck(
    cases: Sequence[Case],
    policies: Sequence[str] = tuple(NETWORKS),
    *,
    steps: int = 20,
    feedback: str = "exact",
    labels: Sequence[int] = (100, 1000, 10_000),
    seed: int = 0,
    training: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run every rule on the table and on every kind of network.

    Args:
        cases: rules and games.
        policies: keys of `mnpo.llm.finite.NETWORKS`.
        steps: T; 0 leaves the trajectories out.
        feedback: "exact" or "sampled".
        labels: the numbers m of sampled pairs for each context and player.
        seed: of the starting policies and the labels.
        training: keys of the fits' configuration on top of the networks' own.
        progress: called with what is being done, and how many of how many parts are done.

    Returns:
        A plain record: `rows`, one for each rule, network and number of steps (and estimator and m), with `tv`, the
        total variation to the table's policy (mean over contexts and players), `gap_table` and `gap_network`
        (NashConv; of two players alike the duality gap), `outside`, the largest probability of texts outside the
        set, and `agrees`; `curves`, the trajectories; `errors`, for each estimator the slope of its error in m and
        its `bias`, the distance of what it teaches to the rule's own step; `disagreements`, in words.

    Raises:
        ValueError: arguments out of range, a rule or a game that networks cannot be trained on.
    """
    if feedback not in ("exact", "sampled"):
        raise ValueError(f"feedback must be exact or sampled; found {feedback!r}")
    if steps < 0:
        raise ValueError(f"steps must be at least 0; found {steps}")
    if feedback == "sampled" and (len(set(labels)) < 2 or min(labels, default=0) < 1):
        raise ValueError("labels must be at least two different numbers above 0")
    record: dict[str, Any] = {
        "kind": "crosscheck", "feedback": feedback, "steps": steps, "seed": seed,
        "tolerance": {kind: TOLERANCE[kind] for kind in policies}, "rows": [], "curves": [], "errors": [],
    }  # fmt: skip
    made: dict[tuple[str, tuple[int, int]], _Check] = {}
    with _small() as folder:
        for case, kind in itertools.product(cases, policies):
            size = (case.game.contexts, case.game.actions)
            if (kind, size) not in made:
                home = folder / f"{size[0]}x{size[1]}"
                made[kind, size] = _Check(Executor(kind, ResponseSet(*size), home, training), seed)
            check = made[kind, size]

            def tell(done: int, total: int, what: str = f"{case.label} on {kind}") -> None:
                if progress:
                    progress(what, done, total)

            if feedback == "exact":
                found = check.exact(case, steps, tell)
            else:
                found = check.sampled(case, labels, steps, tell)
            for key, entries in found.items():
                about = {"rule": case.label, "policy": kind, "feedback": feedback}
                record[key] += [{**about, **entry, "game": case.game_name} for entry in entries]
    judged = (*record["rows"], *record["errors"])
    record["disagreements"] = [_complaint(row) for row in judged if row["agrees"] is False]
    return record


Found = dict[str, list[dict[str, Any]]]


class _Check:
    """Comparisons with networks of one kind, which are taught their first policies once."""

    def __init__(self, executor: Executor, seed: int) -> None:
        self._executor, self._seed = executor, seed
        self._taught: dict[tuple[str, bytes], Policy] = {}

    def exact(self, case: Case, steps: int, tell: Callable[[int, int], None]) -> Found:
        """One step, then T."""
        total = 1 + steps
        tell(0, total)
        start = time.monotonic()
        game, position = self._scattered(case)
        wanted = self._table(case, game, position)
        profile = self._executor.update(game, case.rule, position, Exact(), case.spec)
        row = {"steps": 1, **self._compared(case, game, position, wanted, profile)}
        row["agrees"] = row["tv"] <= TOLERANCE[self._executor.kind]
        row["seconds"] = time.monotonic() - start
        found: Found = {"rows": [row]}
        if steps:
            last, curve = self._trajectory(case, Exact(), steps, lambda done: tell(1 + done, total))
            found["rows"].append(last)
            found["curves"] = [curve]
        return found

    def sampled(
        self, case: Case, labels: Sequence[int], steps: int, tell: Callable[[int, int], None]
    ) -> Found:
        """One step by every estimator that the rule can be taught by, then T by an unbiased one."""
        rule = case.rule
        game, position = self._scattered(case)
        exact = self._table(case, game, position)
        parts = self._executor.parts(game, rule, position, Exact())
        own = np.exp(position.log_policies())
        names = [name for name in ESTIMATORS if name != "third" or len(parts) == 1]
        total, done = len(names) * len(labels) + steps, 0
        found: Found = {"rows": [], "errors": [], "curves": []}
        for name in names:
            taught = np.stack([limit(name, game, i, own[i], parts) for i in range(len(own))])
            aim = self._table(case, game, position, taught)
            errors, on_table = [], []
            for place, count in enumerate(sorted(labels)):
                tell(done, total)
                start = time.monotonic()
                rng = np.random.default_rng([self._seed, place, list(ESTIMATORS).index(name)])
                profile = self._executor.update(game, rule, position, Labels(name, count, rng), case.spec)
                row = {"steps": 1, "estimator": name, "labels": count}
                row |= self._compared(case, game, position, exact, profile)
                errors.append(_distance(aim, _policies(profile)))
                row["tv_limit"] = errors[-1]
                if ESTIMATORS[name].table is not None:
                    on_table.append(self._on_table(case, game, position, name, count, rng, aim))
                found["rows"].append({**row, "agrees": None, "seconds": time.monotonic() - start})
                done += 1
            bias = _distance(exact, aim)
            slope = _slope(sorted(labels), errors)
            found["errors"].append(
                {
                    "estimator": name, "labels": sorted(labels),
                    "tv_limit": errors, "tv_limit_table": on_table or None,
                    "slope": slope, "slope_table": _slope(sorted(labels), on_table) if on_table else None,
                    "bias": bias, "unbiased": bias < 1e-9, "agrees": abs(slope + 0.5) <= SLOPE_TOLERANCE,
                }
            )  # fmt: skip
        if steps:
            name = "third" if "third" in names else "win-rate"
            lesson = Labels(name, max(labels), np.random.default_rng([self._seed, len(ESTIMATORS)]))
            last, curve = self._trajectory(case, lesson, steps, lambda at: tell(done + at, total))
            known = {"estimator": name, "labels": max(labels)}
            found["rows"].append({**last, **known, "agrees": None})
            found["curves"].append({**curve, **known})
        return found

    # --- where they start -----------------------------------------------------------------------------------------

    def _scattered(self, case: Case) -> tuple[Game, Position]:
        """A position in which every policy that a rule can name is another one."""
        rule, slots = case.rule, case.slots
        history = tuple(
            tuple(self._random(case, f"past-{lag}-{i}", 10 * lag + i) for i in range(slots))
            for lag in range(rule.depth)
        )
        count = case.game.log_reference.shape[-3]
        references = tuple(self._random(case, f"reference-{i}", 1000 + i) for i in range(count))
        return self._with(case, Position(history, references, self._externals(case)))

    def _start(self, case: Case) -> tuple[Game, Position]:
        """Where a run begins: each player at a policy of its own, regularised towards the game's reference."""
        start = tuple(self._random(case, f"past-0-{i}", i) for i in range(case.slots))
        references = tuple(self._teach("given", np.exp(logs)) for logs in case.game.log_reference)
        return self._with(case, Position((start,), references, self._externals(case)))

    def _with(self, case: Case, position: Position) -> tuple[Game, Position]:
        """The game with the references that the networks really have."""
        reference = _policies(position.references)
        return replace(case.game, reference=reference if len(reference) > 1 else reference[0]), position

    def _externals(self, case: Case) -> Profile:
        return tuple(self._random(case, f"external-{k}", 2000 + k) for k in range(case.rule.externals))

    def _random(self, case: Case, name: str, number: int) -> Policy:
        rng = np.random.default_rng([self._seed, number])
        logits = _SPREAD * rng.standard_normal((case.game.contexts, case.game.actions))
        return self._teach(name, normalise_log(logits)[1], number)

    def _teach(self, name: str, policy: Array, number: int = 0) -> Policy:
        key = (name, policy.tobytes())
        if key not in self._taught:
            folder = f"{name}-{len(self._taught)}"
            self._taught[key] = self._executor.teach(folder, policy, seed=1000 * self._seed + number)
        return self._taught[key]

    # --- what they do ---------------------------------------------------------------------------------------------

    def _table(self, case: Case, game: Game, position: Position, advantage: Array | None = None) -> Array:
        """The closed-form step; with another advantage than the rule's if one is given. (p, X, A)."""
        rule = case.rule
        feedback = None
        if advantage is not None:
            rule = replace(rule, advantage=((WinRate(), 1.0),))
            feedback = _Known(advantage)
        externals = [np.exp(policy.log_policy) for policy in position.externals]
        return np.exp(update(game, rule, position.tables(), externals=externals, feedback=feedback))

    def _on_table(
        self, case: Case, game: Game, position: Position, name: str, count: int, rng: Any, aim: Array
    ) -> float:
        """The error of the table's own step with as many labels."""
        kind = ESTIMATORS[name].table
        assert kind is not None
        externals = [np.exp(policy.log_policy) for policy in position.externals]
        found = update(
            game, case.rule, position.tables(), externals=externals, feedback=Sampled(count, rng, kind)
        )
        return _distance(aim, np.exp(found))

    def _compared(
        self, case: Case, game: Game, position: Position, wanted: Array, profile: Profile
    ) -> dict[str, Any]:
        externals = [np.exp(policy.log_policy) for policy in position.externals]
        aim = target_game(game, case.rule, externals)
        return {
            "tv": _distance(wanted, _policies(profile)),
            "gap_table": float(nash_conv(aim, wanted)),
            "gap_network": float(nash_conv(aim, _policies(profile))),
            "outside": float(max(policy.outside.max() for policy in profile)),
        }

    def _trajectory(
        self, case: Case, lesson: Lesson, steps: int, tell: Callable[[int], None]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """T steps of both executors; the last row and the curve."""
        begun = time.monotonic()
        rule = case.rule
        game, position = self._start(case)
        externals = [np.exp(policy.log_policy) for policy in position.externals]
        table = run(game, rule, steps, start=position.tables()[0], externals=externals, keep_policies=True)
        assert table.recorded_policies is not None
        profiles = [position.history[0]]
        for done in range(steps):
            tell(done)
            profile = self._executor.update(game, rule, position, lesson, case.spec)
            position = position.after(profile, rule.depth)
            if rule.refresh is not None and (done + 1) % rule.refresh == 0:
                position = replace(position, references=profile)
            profiles.append(profile)
        tell(steps)
        reached = [_policies(profile) for profile in profiles]
        curve = {
            "updates": list(range(steps + 1)),
            "gap_table": table.gap.tolist(),
            "gap_network": [float(nash_conv(table.game, policies)) for policies in reached],
            "tv": [_distance(*both) for both in zip(table.recorded_policies, reached, strict=True)],
            "outside": [float(max(policy.outside.max() for policy in profile)) for profile in profiles],
        }
        equilibrium = solve(table.game).policies
        last: dict[str, Any] = {"steps": steps} | {
            name: curve[name][-1] for name in ("tv", "gap_table", "gap_network", "outside")
        }
        last["distance_table"] = _distance(equilibrium, np.exp(table.log_policies))
        last["distance_network"] = _distance(equilibrium, reached[-1])
        allowed = max(GAP_SHARE * abs(last["gap_table"]), GAP_DIFFERENCE)
        last["agrees"] = abs(last["gap_network"] - last["gap_table"]) <= allowed
        last["seconds"] = time.monotonic() - begun
        return last, curve


class _Known:
    """A `mnpo.dynamics.Feedback` that says what it was told."""

    def __init__(self, advantage: Array) -> None:
        self._advantage = advantage

    def __call__(self, game: Game, behaviour: Array, opponents: Array) -> Array:
        """See `Feedback`."""
        return self._advantage


def _complaint(row: Mapping[str, Any]) -> str:
    what = f"{row['rule']} on {row['policy']}"
    if "slope" in row:
        return f"{what}, {row['estimator']}: the error falls with slope {row['slope']:.2f}"
    if row["steps"] == 1:
        return f"{what}: total variation {row['tv']:.2g} after one step"
    gaps = f"{row['gap_network']:.3g}, on the table {row['gap_table']:.3g}"
    return f"{what}: gap {gaps} after {row['steps']} steps"


def _policies(profile: Profile) -> Array:
    """(p, X, A)."""
    return np.exp([policy.log_policy for policy in profile])


def _distance(one: Array, other: Array) -> float:
    """Total variation, mean over contexts and players: (p, X, A), (p, X, A) -> number."""
    return float((np.abs(one - other).sum(-1) / 2).mean())


def _slope(counts: Sequence[int], errors: Sequence[float]) -> float:
    return float(np.polyfit(np.log(counts), np.log(np.maximum(errors, 1e-300)), 1)[0])


@contextlib.contextmanager
def _small() -> Iterator[Path]:
    """Give a folder for networks so small that several threads would slow them down."""
    threads = torch.get_num_threads()
    folder = Path(tempfile.mkdtemp(prefix="mnpo-crosscheck-"))
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # libraries print to it
            yield folder
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(folder, ignore_errors=True)
