"""What judgments say of an oracle: its answers beside what people said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mnpo.calibration import calibration, clustered_error, fitted_scale, length_bias, order_effects, right
from mnpo.cyclicity import cyclicity, labelled
from mnpo.llm.data.formats import Text
from mnpo.llm.data.judgments import Judgment
from mnpo.llm.oracles.texts import plain
from mnpo.numerics import Array
from mnpo.reward_bench import TIES, best_of, sections, ties_score

#: Probabilities nearer to 0 or 1 are taken as this: a logit of 34.5.
CERTAIN = 1e-15


@dataclass(frozen=True, eq=False)
class Answer:
    """What an oracle says of one judgment's K responses.

    Attributes:
        wins: P(row ≻ column), (K, K).
        rewards: (K,), over their scale; None for an oracle of pairs.
        orders: P of the pairs i < j in both orders, (pairs, 2); None where it is asked in one.
    """

    wins: Array
    rewards: Array | None = None
    orders: Array | None = None


@dataclass(frozen=True, eq=False)
class Compared:
    """Pairs that judgments compare: the places of their judgments, their logits and what was said, (M,) each.

    Attributes:
        judgment: which judgment.
        logits: log P/(1 − P) of the first by the oracle.
        said: how likely the first is the better one.
        weights: how much the pair counts; those of a pool together as much as the pool.
        lengths: in words, (M, 2).
        rewards: (M, 2); None for an oracle of pairs.
    """

    judgment: np.ndarray
    logits: Array
    said: Array
    weights: Array
    lengths: Array
    rewards: Array | None


def said_of(judgment: Judgment) -> list[tuple[int, int, float]]:
    """Return the pairs (i, j) that a judgment compares, and how likely i is the better one."""
    if judgment.preference is not None:
        return [(0, 1, judgment.preference)]
    ranks = judgment.ranks or ()
    return [
        (i, j, float(ranks[i] < ranks[j]))
        for i, j in combinations(range(len(ranks)), 2)
        if ranks[i] != ranks[j]
    ]


def compared(judgments: Sequence[Judgment], answers: Sequence[Answer]) -> Compared:
    """Put an oracle's answers beside what was said."""
    rows, rewards = [], []
    for place, (judgment, answer) in enumerate(zip(judgments, answers, strict=True)):
        pairs, words = said_of(judgment), [len(text.split()) for text in judgment.responses]
        for i, j, said in pairs:
            chance = min(max(float(answer.wins[i, j]), CERTAIN), 1 - CERTAIN)
            logit = float(np.log(chance) - np.log1p(-chance))
            if answer.rewards is not None:
                logit = float(answer.rewards[i] - answer.rewards[j])
                rewards.append(answer.rewards[[i, j]])
            rows.append((place, logit, said, judgment.weight / len(pairs), words[i], words[j]))
    table = np.array(rows, dtype=float).reshape(-1, 6)
    return Compared(
        judgment=table[:, 0].astype(int), logits=table[:, 1], said=table[:, 2], weights=table[:, 3],
        lengths=table[:, 4:], rewards=np.array(rewards) if len(rewards) == len(rows) else None,
    )  # fmt: skip


def met(
    judgments: Sequence[Judgment], answers: Sequence[Answer], pairs: Compared, chosen: Array
) -> dict[str, Any]:
    """Return how often the chosen judgments are met: how many, accuracy with its interval, and best of pools."""
    kept = np.isin(pairs.judgment, np.flatnonzero(chosen))
    values, weights = right(pairs.logits[kept], pairs.said[kept]), pairs.weights[kept]
    weights = weights / weights.sum()
    prompts = [plain(judgments[place].prompt) for place in pairs.judgment[kept]]
    mean, error = float(weights @ values), clustered_error(values, prompts, weights)
    reach = 1.96 * error if np.isfinite(error) else 1.0
    tops = [
        best_of(
            answers[place].wins.mean(1), [k for k, rank in enumerate(one.ranks) if rank == min(one.ranks)]
        )
        for place, one in enumerate(judgments)
        if chosen[place] and one.ranks is not None and len(one.ranks) > 2
    ]
    return {
        "judgments": int(chosen.sum()),
        "accuracy": {"mean": mean, "low": max(0.0, mean - reach), "high": min(1.0, mean + reach)},
        "best": float(np.mean(tops)) if tops else None,
    }


def reliability(pairs: Compared, scale: float, own: float) -> dict[str, Any]:
    """Return the calibration of logits over a scale; `own` is what the oracle's are over already."""
    found = calibration(pairs.logits, pairs.said, scale=scale / own, weights=pairs.weights)
    return {
        "scale": scale,
        "log_loss": found.log_loss,
        "error": found.error,
        "bins": [[one.confidence, one.right, one.share] for one in found.bins],
    }


def best_scale(pairs: Compared, own: float) -> float | None:
    """Return the scale at which log-loss is least; None where there is none."""
    try:
        return own * fitted_scale(pairs.logits, pairs.said, pairs.weights)
    except ValueError:
        return None


def benchmarks(
    judgments: Sequence[Judgment], answers: Sequence[Answer], subsets: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, float], float | None]:
    """Return RewardBench's sections, and RewardBench 2's score of ties, where the data are these."""
    accuracy = {name: found["accuracy"]["mean"] for name, found in subsets.items()}
    found = sections(accuracy, {name: one["judgments"] for name, one in subsets.items()})
    kinds: dict[str, dict[str, tuple[Array, Array]]] = {"ref": {}, "tied": {}}
    for judgment, answer in zip(judgments, answers, strict=True):
        kind, colon, prompt = (judgment.name or "").partition(":")
        if judgment.subset == TIES and colon and kind in kinds and judgment.ranks is not None:
            scores = answer.wins.mean(1) if answer.rewards is None else answer.rewards
            best = np.array(judgment.ranks) == min(judgment.ranks)
            kinds[kind][prompt] = scores[best], scores[~best]
    try:
        return found, ties_score(kinds["ref"], kinds["tied"])
    except ValueError:
        return found, None


def lengths(pairs: Compared) -> dict[str, float | None]:
    """Return how far an oracle follows length."""
    given = pairs.logits[:, None] * [0.5, -0.5] if pairs.rewards is None else pairs.rewards
    found = length_bias(given, pairs.lengths, pairs.said)
    numbers = {
        "correlation": None if pairs.rewards is None else found.correlation,
        "shorter": found.shorter,
        "longer": found.longer,
    }
    return {name: None if value is None or np.isnan(value) else value for name, value in numbers.items()}


def orders(answers: Sequence[Answer]) -> dict[str, float] | None:
    """Return what the order of responses does; None where they are asked in one order."""
    both = [answer.orders for answer in answers if answer.orders is not None]
    if not both:
        return None
    found = order_effects(*np.concatenate(both).T)
    return {"bias": found.bias, "residual": found.residual, "turned": found.turned}


def sets_of(judgments: Sequence[Judgment], size: int, most: int) -> list[tuple[Text, list[str]]]:
    """Return prompts with different responses that were judged to them: `size` to each, of the first prompts."""
    found: dict[str, tuple[Text, dict[str, None]]] = {}
    for judgment in judgments:
        _, texts = found.setdefault(plain(judgment.prompt), (judgment.prompt, {}))
        texts.update(dict.fromkeys(judgment.responses))
    if size < 3:
        return []
    return [(prompt, list(texts)[:size]) for prompt, texts in found.values() if len(texts) >= size][:most]


def cycles(wins: Sequence[Array], seed: int) -> dict[str, float] | None:
    """Return how cyclic an oracle is on sets of responses; see `mnpo.llm.stages.records.Tested`."""
    if not wins:
        return None
    found = cyclicity(np.stack(wins))
    noise = labelled(found.utilities, 1, np.random.default_rng(seed))
    error = found.share.std(ddof=1) / np.sqrt(len(wins)) if len(wins) > 1 else np.nan
    return {
        "sets": len(wins), "cyclicity": float(found.share.mean()), "error": float(np.nan_to_num(error)),
        "triples": float(found.triples.mean()), "noise": float(noise.triples.mean()),
        "without_winner": float(1 - found.winner.mean()),
    }  # fmt: skip


def agreement(judgments: Sequence[Judgment]) -> dict[str, float] | None:
    """Return how often two annotators of the same pair agree, ties half; None where no pair was judged twice."""
    said: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for judgment in judgments:
        for i, j, chance in said_of(judgment):
            first, second = judgment.responses[i], judgment.responses[j]
            turned = first > second
            key = (plain(judgment.prompt), min(first, second), max(first, second))
            said[key].append(float(np.sign((chance - 0.5) * (-1 if turned else 1))))
    both = [(1 + a * b) / 2 for votes in said.values() for a, b in combinations(votes, 2)]
    return {"rate": float(np.mean(both)), "pairs": len(both)} if both else None
