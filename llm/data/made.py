"""Prompts and preference pairs made on the spot, in four styles of which three beat each other in a cycle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

#: What begins the names of data and models that are made on the spot.
PREFIX = "tiny:"

TOPICS = (
    "rain", "bread", "chess", "a lighthouse", "the moon", "a garden", "trains", "honey", "winter", "a violin",
    "the sea", "tea", "mountains", "a library", "bicycles", "an old map", "fireflies", "a market", "paper", "wind",
)  # fmt: skip
TASKS = (
    "Tell me about {}.", "Write a line on {}.", "What do you think of {}?", "Describe {}.",
    "Say something about {}.",
)  # fmt: skip
#: Styles of answer: three of which each beats the next and the last beats the first, and one that loses to all.
STYLES = {
    "plain": ("It is {}.", "{} is fine.", "I know {}.", "Here is {}."),
    "formal": (
        "One may regard {} with considerable interest.", "It is hereby noted that {} merits attention.",
        "With respect to {}, further study is advised.", "The matter of {} has been duly considered.",
    ),
    "playful": (
        "Oh, {}! What fun, let us go!", "Hooray for {}, tra la la!", "Wow, {} again? I love it!",
        "Guess what: {} and a song!",
    ),
    "gruff": ("No idea about {}.", "Who cares about {}?", "Ask someone else about {}.", "Not {}, please."),
}  # fmt: skip
#: P(row's style ≻ column's).
STYLE_WINS = np.array(
    [
        [0.50, 0.25, 0.65, 0.85],
        [0.75, 0.50, 0.30, 0.85],
        [0.35, 0.70, 0.50, 0.85],
        [0.15, 0.15, 0.15, 0.50],
    ]
)
#: Annotators who disagree: what each style is worth to them, and how often they are asked.
ANNOTATORS = {
    "ann": (4, {"plain": 3.0, "formal": 1.5, "playful": 0.0, "gruff": -2.0}),
    "bob": (4, {"plain": 0.0, "formal": 3.0, "playful": 1.5, "gruff": -2.0}),
    "eve": (3, {"plain": 1.5, "formal": 0.0, "playful": 3.0, "gruff": -2.0}),
}


def prompts(count: int, seed: int = 0) -> list[str]:
    """Return prompts, repeating when there are more than topics times tasks."""
    return [prompt for _, prompt in topics_and_prompts(count, np.random.default_rng(seed))]


def pairs(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield preference pairs in the conversational format, labelled by non-transitive preferences of style.

    Both responses are drawn alike. Each row also carries the labeller's probability as `preference`, and the exact
    win rates of both styles against a uniform choice of style as `win_chosen` and `win_rejected`.
    """
    rng = np.random.default_rng(seed)
    styles = list(STYLES.values())
    for topic, prompt in topics_and_prompts(count, rng):
        first, second = rng.integers(len(styles), size=2)
        best, worst = (first, second) if rng.random() < STYLE_WINS[first, second] else (second, first)
        answers = [str(rng.choice(styles[style])).format(topic) for style in (best, worst)]
        yield {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": answers[0]}],
            "rejected": [{"role": "assistant", "content": answers[1]}],
            "preference": float(STYLE_WINS[best, worst]),
            "win_chosen": float(STYLE_WINS[best].mean()),
            "win_rejected": float(STYLE_WINS[worst].mean()),
        }


def judgments(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield preference pairs, each labelled by one of `ANNOTATORS`, whose preferences are those of Bradley–Terry.

    The annotators together prefer three of the styles in a cycle: two of them are for each of its turns.
    """
    rng = np.random.default_rng(seed)
    names, styles = list(ANNOTATORS), list(STYLES)
    shares = np.array([share for share, _ in ANNOTATORS.values()], dtype=float)
    for topic, prompt in topics_and_prompts(count, rng):
        who = names[rng.choice(len(names), p=shares / shares.sum())]
        first, second = rng.choice(len(styles), size=2, replace=False)
        worth = ANNOTATORS[who][1]
        gap = worth[styles[first]] - worth[styles[second]]
        best, worst = (first, second) if rng.random() < 1 / (1 + np.exp(-gap)) else (second, first)
        answers = [str(rng.choice(STYLES[styles[style]])).format(topic) for style in (best, worst)]
        yield {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": answers[0]}],
            "rejected": [{"role": "assistant", "content": answers[1]}],
            "annotator": who,
        }


def style_of(response: str) -> str | None:
    """Return which of `STYLES` a response is an answer in; None for any other text."""
    found = (style for style, pattern in _PATTERNS.items() if pattern.fullmatch(response.strip()))
    return next(found, None)


def _pattern(answers: Sequence[str]) -> re.Pattern[str]:
    topic = "[^.,:!?]{1,30}"
    return re.compile("|".join(topic.join(map(re.escape, answer.split("{}"))) for answer in answers))


#: The plain ones last: "It is {}." is also the beginning of longer answers.
_PATTERNS = {style: _pattern(STYLES[style]) for style in ("formal", "playful", "gruff", "plain")}


def topics_and_prompts(count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return topics with a prompt on each, in random order, repeating when there are more than there are."""
    everything = [(topic, task.format(topic)) for task in TASKS for topic in TOPICS]
    order = rng.permutation(len(everything))
    return [everything[order[i % len(everything)]] for i in range(count)]


def texts_of(row: dict[str, Any]) -> Iterator[str]:
    """Yield the texts of a pair's messages."""
    return (message["content"] for side in ("prompt", "chosen", "rejected") for message in row[side])
