"""The two executors side by side: the same rule on a table and on networks (docs/concepts.md (U), (L)).

Both start from the same policies, the networks' own. One step is taken from a history of policies that all differ,
so that no weight can hide behind another; T steps go on from one start as a run would. What sampled feedback
teaches is in `mnpo.llm.crosscheck.label_check`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnpo.choices import choose
from mnpo.common.progress import Progress
from mnpo.common.scratch import Scratch
from mnpo.dynamics import run
from mnpo.equilibria import solve
from mnpo.gaps import nash_conv
from mnpo.llm.crosscheck.estimators import Labels
from mnpo.llm.crosscheck.executor import Exact, Executor, Lesson
from mnpo.llm.crosscheck.finite import NETWORKS, ResponseSet
from mnpo.llm.crosscheck.label_check import label_steps, usable
from mnpo.llm.crosscheck.positions import Case, Positions, distance, outside, policies
from mnpo.logit import ConvergenceError
from mnpo.numerics import Array, entropy

#: A network agrees up to its tolerance, and up to this share of the way that the table's step goes: less than what
#: tells one rule from another.
MOVED_SHARE = 0.05
#: After T steps gaps agree within this share of the table's, or this much, ..
GAP_SHARE, GAP_DIFFERENCE = 0.1, 1e-3
#: .. and policies within so many times the tolerance of one step.
LAST_FACTOR = 10.0

Found = dict[str, list[dict[str, Any]]]


def crosscheck(
    cases: Sequence[Case],
    kinds: Sequence[str] = tuple(NETWORKS),
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
        kinds: keys of `mnpo.llm.crosscheck.finite.NETWORKS`.
        steps: T; 0 leaves the trajectories out.
        feedback: "exact" or "sampled".
        labels: the numbers m of sampled pairs for each context and player.
        seed: of the starting policies and the labels.
        training: keys of the fits' configuration on top of the networks' own.
        progress: called with what is being done, and how many of how many parts are done.

    Returns:
        A plain record: `rows`, one for each rule, network and number of steps (and estimator and m), with `tv`, the
        total variation to the table's policy (mean over contexts and players), `moved`, how far the table's step
        goes, `gap_table` and `gap_network` (NashConv; of two players alike the duality gap), `outside`, the largest
        probability of texts outside the set, and `agrees`; `curves`, the trajectories, with the effective number of
        responses exp(H) as well; `errors`, of `mnpo.llm.crosscheck.label_check`; `disagreements`, in words.

    Raises:
        ValueError: arguments out of range, a rule or a game that networks cannot be trained on; before anything is
            trained.
    """
    numbers = sorted(set(labels))
    _check(cases, kinds, steps, feedback, numbers, seed)
    record: dict[str, Any] = {
        "kind": "crosscheck", "feedback": feedback, "steps": steps, "seed": seed,
        "tolerance": {kind: NETWORKS[kind].tolerance for kind in kinds}, "rows": [], "curves": [], "errors": [],
    }  # fmt: skip
    made: dict[tuple[str, tuple[int, int]], Positions] = {}
    with _small() as folder:
        for case, kind in itertools.product(cases, kinds):
            size = (case.game.contexts, case.game.actions)
            if (kind, size) not in made:
                home = folder / f"{size[0]}x{size[1]}"
                made[kind, size] = Positions(Executor(kind, ResponseSet(*size), home, training), seed)

            def tell(done: int, total: int, what: str = f"{case.label} on {kind}") -> None:
                if progress:
                    progress(what, done, total)

            if feedback == "exact":
                found = _exact(made[kind, size], case, steps, tell)
            else:
                found = _sampled(made[kind, size], case, numbers, steps, seed, tell)
            for key, entries in found.items():
                about = {"rule": case.label, "policy": kind, "feedback": feedback}
                record[key] += [{**about, **entry, "game": case.game_name} for entry in entries]
    judged = [*record["errors"], *(row for row in record["rows"] if "tv_limit" not in row)]
    record["disagreements"] = [_complaint(row) for row in judged if row["agrees"] is False]
    return record


def _check(
    cases: Sequence[Case], kinds: Sequence[str], steps: int, feedback: str, labels: Sequence[int], seed: int
) -> None:
    if feedback not in ("exact", "sampled"):
        raise ValueError(f"feedback must be exact or sampled; found {feedback!r}")
    for kind in kinds:
        choose(kind, NETWORKS, "network")
    for name, number in (("steps", steps), ("seed", seed)):
        if number < 0:
            raise ValueError(f"{name} must be at least 0; found {number}")
    if feedback == "sampled" and (len(labels) < 2 or labels[0] < 1):
        raise ValueError("labels must be at least two different numbers above 0")
    for case in cases:
        ResponseSet(case.game.contexts, case.game.actions)
        if any(number.size != 1 for number in case.rule.numbers()):
            raise ValueError(f"rule {case.label} has numbers that differ between players")
        if case.game.batch_shape:
            raise ValueError(f"{case.game_name} is a batch of games; networks play one")
        if feedback == "sampled" and case.rule.implicit is not None and case.slots > 1:
            raise ValueError(f"rule {case.label} is taught by samples to players who are alike only")
        if feedback == "sampled" and case.game.player_matrices() is None:
            raise ValueError(
                f"{case.game_name}: sampled feedback needs pairwise payoffs (pairwise oracles, or two players)"
            )


def _exact(positions: Positions, case: Case, steps: int, tell: Callable[[int, int], None]) -> Found:
    """One step, then T."""
    tell(0, 1 + steps)
    begun = time.monotonic()
    place, kind = positions.scattered(case), positions.executor.kind
    wanted, start = place.table_step(), policies(place.position.history[0])
    profile = positions.executor.update(place.game, case.rule, place.position, Exact(), case.spec)
    reached = policies(profile)
    row = {
        "steps": 1, "tv": distance(wanted, reached), "moved": distance(start, wanted),
        "gap_table": float(nash_conv(place.aim, wanted)), "gap_network": float(nash_conv(place.aim, reached)),
        "outside": outside(profile),
    }  # fmt: skip
    row["agrees"] = bool(row["tv"] <= min(NETWORKS[kind].tolerance, MOVED_SHARE * row["moved"]))
    row["seconds"] = time.monotonic() - begun
    found: Found = {"rows": [row]}
    if steps:
        last, curve = _trajectory(positions, case, Exact(), steps, lambda done: tell(1 + done, 1 + steps))
        found["rows"].append({**last, "agrees": _agree(last, kind)})
        found["curves"] = [curve]
    return found


def _sampled(
    positions: Positions,
    case: Case,
    labels: Sequence[int],
    steps: int,
    seed: int,
    tell: Callable[[int, int], None],
) -> Found:
    """One step by every estimator that the rule can be taught by, then T by an unbiased one."""
    place = positions.scattered(case)
    rows, errors = label_steps(positions, place, labels, seed, tell)
    found: Found = {"rows": rows, "errors": errors, "curves": []}
    if steps:
        names = usable(place, len(case.rule.advantage))
        name = next(name for name in ("third", "win-rate", "sample-game") if name in names)
        lesson = Labels(name, max(labels), np.random.default_rng([seed, steps]))
        last, curve = _trajectory(positions, case, lesson, steps, lambda done: tell(done, steps))
        known = {"estimator": name, "labels": max(labels)}
        found["rows"].append({**last, **known, "agrees": None})
        found["curves"].append({**curve, **known})
    return found


def _trajectory(
    positions: Positions, case: Case, lesson: Lesson, steps: int, tell: Callable[[int], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """T steps of both executors; the last row and the curve."""
    begun = time.monotonic()
    rule, place = case.rule, positions.start(case)
    position = place.position
    table = run(
        place.game, rule, steps, start=position.tables()[0], externals=place.externals, keep_policies=True
    )
    assert table.recorded_policies is not None
    try:
        equilibrium: Array | None = solve(table.game).policies
    except (ValueError, ConvergenceError):  # τ = 0 without pairwise payoffs, for one
        equilibrium = None
    profiles = [position.history[0]]
    for done in range(steps):
        tell(done)
        profile = positions.executor.update(place.game, rule, position, lesson, case.spec)
        position = position.after(profile, rule.depth)
        if rule.refresh is not None and (done + 1) % rule.refresh == 0:
            position = replace(position, references=profile)
        profiles.append(profile)
    tell(steps)
    reached = [policies(profile) for profile in profiles]
    curve = {
        "updates": list(range(steps + 1)),
        "gap_table": table.gap.tolist(),
        "gap_network": [float(nash_conv(table.game, tables)) for tables in reached],
        "tv": [distance(*both) for both in zip(table.recorded_policies, reached, strict=True)],
        "outside": [outside(profile) for profile in profiles],
        "effective_table": [_effective(tables) for tables in table.recorded_policies],
        "effective_network": [_effective(tables) for tables in reached],
    }
    last: dict[str, Any] = {"steps": steps}
    last |= {name: curve[name][-1] for name in ("tv", "gap_table", "gap_network", "outside")}
    last["moved"] = distance(table.recorded_policies[0], table.recorded_policies[-1])
    for who, end in (("table", np.exp(table.log_policies)), ("network", reached[-1])):
        last[f"distance_{who}"] = None if equilibrium is None else distance(equilibrium, end)
    last["seconds"] = time.monotonic() - begun
    return last, curve


def _agree(last: Mapping[str, Any], kind: str) -> bool:
    allowed = max(GAP_SHARE * abs(last["gap_table"]), GAP_DIFFERENCE)
    near = abs(last["gap_network"] - last["gap_table"]) <= allowed
    return bool(near and last["tv"] <= LAST_FACTOR * NETWORKS[kind].tolerance)


def _complaint(row: Mapping[str, Any]) -> str:
    what = f"{row['rule']} on {row['policy']}"
    if "slope" in row:
        slope = f"{row['slope']:.2f} ± {row['slope_error']:.2f}"
        share = f"{row['progress']:.3f} ± {row['progress_error']:.3f}"
        return f"{what}, {row['estimator']}: the error falls with slope {slope}, the step goes {share} of its way"
    if row["steps"] == 1:
        return f"{what}: total variation {row['tv']:.2g} after one step, which goes {row['moved']:.2g}"
    gaps = f"{row['gap_network']:.3g}, on the table {row['gap_table']:.3g}"
    return f"{what}: gap {gaps} after {row['steps']} steps, total variation {row['tv']:.2g}"


def _effective(tables: Array) -> float:
    """exp(H), mean over contexts and players."""
    return float(np.exp(entropy(tables)).mean())


@contextlib.contextmanager
def _small() -> Iterator[Path]:
    """Give a folder for networks so small that several threads, and searching for garbage, would slow them down."""
    threads, frozen = torch.get_num_threads(), gc.get_freeze_count()
    scratch = Scratch()
    torch.set_num_threads(1)
    gc.freeze()  # what the libraries hold for good: each fit collects garbage several times
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # libraries print to it
            yield scratch.path
    finally:
        if not frozen:  # by the caller, who alone may undo it
            gc.unfreeze()
        torch.set_num_threads(threads)
        scratch.remove()
