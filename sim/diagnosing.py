"""The diagnosis of a game, or of a file of judged responses."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnpo.common.cycles import Cycles
from mnpo.diagnosis import MOST_NAMED, Annotator, Diagnosing
from mnpo.oracles import Heterogeneous, Mixture, Oracle, Pairwise, PlackettLuce, Rankings
from mnpo.sim.judged import JudgedPrompt, is_judged, read_judged
from mnpo.sim.load import load_game
from mnpo.sim.spec import DEFAULT_TAU, GameSpec

#: Prompts that are looked at together.
_AT_ONCE = 256


def diagnose(
    source: str,
    *,
    tau: float | None = None,
    labels: int | None = None,
    scale: float = 1.0,
    prompts: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Diagnose a game by name or file, or judged responses in a `.jsonl` file, as plain data.

    Args:
        source: what `load_game` takes, or a file that `is_judged`.
        tau: τ > 0; the game's, or 0.1.
        labels: m, if win probabilities are shares of m binary labels of each pair; of votes their number, unless
            given.
        scale: what rewards are divided by.
        prompts: of a file of judged responses the first so many.
        seed: of random games, the bootstrap and the labels' noise.

    Raises:
        ValueError: bad input.
    """
    if not 0 < scale < np.inf:
        raise ValueError(f"scale must be a number above 0; found {scale}")
    cycles, notes = Cycles(), []
    if is_judged(Path(source)):
        if labels is not None:
            raise ValueError("labels are of win probabilities; rewards have none")
        gathering = Diagnosing(DEFAULT_TAU if tau is None else tau, seed)
        notes = _judged(gathering, cycles, Path(source), scale, prompts)
    else:
        spec = load_game(source, seed=seed)
        noted = list(spec.notes)
        if labels is None and spec.votes is not None:
            labels = spec.votes
            noted.append(f"win rates are shares of {labels} votes a pair, in the harmonic mean over pairs")
        proposed = spec.tau if isinstance(spec.tau, float | int) else DEFAULT_TAU
        gathering = Diagnosing(float(proposed) if tau is None else tau, seed)
        notes = [*noted, *_game(gathering, cycles, spec, labels, scale)]
    return {
        "kind": "diagnose",
        "game": source,
        "notes": notes,
        **gathering.finish().as_dict(),
        "cycles": cycles.found(),
    }


def _game(
    gathering: Diagnosing, cycles: Cycles, spec: GameSpec, labels: int | None, scale: float
) -> list[str]:
    oracle = spec.oracle
    parts = [
        part._replace(
            name=part.name or f"annotator {number}",
            labels=labels if part.wins is not None else None,
            utilities=None if part.utilities is None else part.utilities / scale,
        )
        for number, part in enumerate(_parts(oracle, 1.0), 1)
    ]
    ranked = any(isinstance(one, Rankings) for one in _members(oracle))
    gathering.add(parts, oracle if ranked and not isinstance(oracle, Heterogeneous) else None)
    names = spec.responses or tuple(str(place) for place in range(oracle.responses))
    shares = np.array([part.weight for part in parts])
    wins = np.tensordot(shares / shares.sum(), np.stack([part.matrix() for part in parts]), axes=1)
    for context, matrix in enumerate(wins):
        cycles.add(f"context {context}" if oracle.contexts > 1 else "", names, matrix)
    notes = ["of a game all responses are known: win rates in the sample are exact"]
    notes += ["the reference is taken as uniform over the responses"] if spec.reference is not None else []
    if len(parts) > MOST_NAMED:
        notes.append(f"{len(parts)} annotators: the table has the population alone")
    return notes


def _members(oracle: Oracle) -> list[Oracle]:
    if isinstance(oracle, Mixture | Heterogeneous):
        return [member for part in oracle.oracles for member in _members(part)]
    return [oracle]


def _parts(oracle: Oracle, weight: float) -> list[Annotator]:
    """Take an oracle apart into annotators; players with oracles of their own are annotators too."""
    if isinstance(oracle, Mixture):
        members = zip(oracle.oracles, oracle.weights, strict=True)
        return [found for part, share in members for found in _parts(part, weight * float(share))]
    if isinstance(oracle, Heterogeneous):
        return [found for part in oracle.oracles for found in _parts(part, weight / len(oracle.oracles))]
    if isinstance(oracle, PlackettLuce):
        valued = zip(oracle.utilities, oracle.weights, strict=True)
        return [Annotator("", weight * float(share), utilities=one) for one, share in valued]
    if isinstance(oracle, Rankings):
        ranked = zip(oracle.annotator_matrices(), oracle.weights, strict=True)
        return [Annotator("", weight * float(share), wins=one) for one, share in ranked]
    matrix = oracle.matrix if isinstance(oracle, Pairwise) else oracle.pairwise_matrix()
    return [Annotator("", weight, wins=matrix)]


def _judged(
    gathering: Diagnosing, cycles: Cycles, path: Path, scale: float, prompts: int | None
) -> list[str]:
    waiting: dict[int, list[JudgedPrompt]] = {}
    dropped: Counter[str] = Counter()
    last, kept = "", 0

    def flush(rows: Sequence[JudgedPrompt]) -> None:
        scores = {name: np.array([row.scores[name] for row in rows]) / scale for name in rows[0].scores}
        parts = [Annotator(name, 1.0, utilities=values) for name, values in scores.items()]
        gathering.add(parts)
        wins = np.mean([part.matrix() for part in parts], axis=0)
        for row, matrix in zip(rows, wins, strict=True):
            cycles.add(row.prompt, row.responses, matrix)

    for row in itertools.islice(read_judged(path), prompts):
        reason = _useless(row)
        if reason is not None:
            dropped[reason] += 1
            last = f"{row.where}: {reason}"
            continue
        kept += 1
        rows = waiting.setdefault(len(row.responses), [])
        rows.append(row)
        if len(rows) == _AT_ONCE:
            flush(waiting.pop(len(row.responses)))
    if not kept:
        raise ValueError(f"{path}: no prompt can be diagnosed ({last or 'it has none'})")
    for rows in waiting.values():
        flush(rows)
    return [f"{count} prompts dropped: {reason}" for reason, count in dropped.items()]


def _useless(row: JudgedPrompt) -> str | None:
    """Why a prompt says nothing of preferences, if it does not."""
    count = len(row.responses)
    if count < 3:
        return f"{count} responses, at least 3 are needed"
    if len(set(row.responses)) == 1:
        return "all responses are the same"
    if all(len(set(values)) == 1 for values in row.scores.values()):
        return "all responses have the same score"
    return None
