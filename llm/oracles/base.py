"""What judges responses: oracles answer questions about texts and say what their answers depend on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mnpo.llm.data.formats import Text

if TYPE_CHECKING:
    import torch


class Question(NamedTuple):
    """What is asked: how good a response is, or whether the first of two is preferred to the second.

    Attributes:
        prompt: a text, or the messages of a conversation.
        first: a response.
        second: the other response; None for an oracle of rewards.
    """

    prompt: Text
    first: str
    second: str | None = None


#: Places of questions and their answers.
Answers = list[tuple[int, float]]


class TextOracle(ABC):
    """A judge of responses to prompts.

    Attributes:
        name: how results call it.
        kind: "reward", a finite number for each response, or "pairwise", the probability that the first of two
            responses is preferred to the second.
        scale: of rewards: r and r' mean the win probability σ((r − r')/scale), Bradley–Terry, and in a group a
            share of e^{r/scale}, Plackett–Luce (docs/concepts.md (3)).
        both_orders: whether a pair is asked in both orders and the answers averaged, since the answer may depend
            on the position.
        local: whether it computes on this machine, so that each of several processes takes a share.
    """

    name: str
    kind: Literal["reward", "pairwise"]
    scale: float = 1.0
    both_orders: bool = False
    local: bool = True

    @abstractmethod
    def key(self) -> dict[str, Any]:
        """Return what the answers depend on besides the question, as plain data; never a secret."""

    @abstractmethod
    def answer(self, questions: Sequence[Question], device: torch.device) -> Iterator[Answers]:
        """Answer questions, giving answers away as they are known: what was yielded is kept, whatever follows.

        Raises:
            ValueError: a question that cannot be answered, or an oracle that is not there.
        """


def check_scale(scale: Any) -> float:
    """Return the scale of an oracle's rewards.

    Raises:
        ValueError: no finite number above 0.
    """
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 0 < scale < math.inf:
        raise ValueError(f"scale must be a number above 0; found {scale!r}")
    return float(scale)


def check_answers(oracle: TextOracle, questions: Sequence[Question], answers: Answers) -> None:
    """Refuse answers that are no finite reward, or no probability.

    Args:
        oracle: who answered.
        questions: what it was asked.
        answers: places in `questions`, and what it said.

    Raises:
        ValueError: names the oracle, the answer and the question.
    """
    for place, answer in answers:
        if not math.isfinite(answer) or (oracle.kind == "pairwise" and not 0 <= answer <= 1):
            raise ValueError(
                f"the oracle {oracle.name} must answer with {wanted(oracle)}; found {answer:g} for "
                f"{named(questions, place)}"
            )


def wanted(oracle: TextOracle) -> str:
    """Return what an oracle must answer with."""
    return "a finite reward" if oracle.kind == "reward" else "a probability between 0 and 1"


def named(questions: Sequence[Question], place: int) -> str:
    """Return how an error names a question: its place, and how its prompt begins."""
    prompt = questions[place].prompt
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"] if prompt else ""
    words = " ".join(text.split())
    return f"question {place} ({words[:40] + '..' * (len(words) > 40)!r})"
