"""Questions about responses to prompts: told apart by digests that are computed in bulk, made when they are put."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence

import numpy as np

from mnpo.common.digests import bytes_digest
from mnpo.llm.data.blocks import Lazy
from mnpo.llm.data.formats import Text
from mnpo.llm.oracles.base import Question, TextOracle
from mnpo.llm.storage.mapped import let_go
from mnpo.llm.storage.store import Digests, Places, as_digests

#: Prompts with their responses, as many to each.
Texts = Sequence[tuple[Text, Sequence[str]]]
#: The places of the response, or of the two, that a question is about.
Slot = tuple[int, int | None]

#: Prompts whose questions are looked at together.
AT_ONCE = 128


def slots_of(oracle: TextOracle, responses: int, wanted: Sequence[tuple[int, int]]) -> list[Slot]:
    """Return what an oracle is asked about each prompt.

    Args:
        oracle: one of rewards is asked about each response.
        responses: how many there are to a prompt.
        wanted: pairs of places, of which an oracle of pairs is asked; in both orders where that matters to it.
    """
    if oracle.kind == "reward":
        return [(place, None) for place in range(responses)]
    return [
        slot
        for first, second in wanted
        for slot in ((first, second), (second, first))[: 1 + oracle.both_orders]
    ]


def digests_of(texts: Texts, slots: Sequence[Slot], start: int = 0) -> tuple[Digests, Places]:
    """Return the digests of all questions and their places; equal texts are not asked about.

    The question of slot s about prompt p has the place p · slots + s.

    Args:
        texts: some prompts.
        slots: what is asked about each.
        start: the number of the first prompt.
    """
    digests, places = bytearray(), array("q")
    for number, (prompt, answers) in enumerate(texts, start):
        asked, said = json.dumps(prompt), [json.dumps(answer) for answer in answers]
        for slot, (first, second) in enumerate(slots):
            if second is not None and answers[first] == answers[second]:
                continue
            other = "null" if second is None else said[second]
            # As JSON writes a `Question`, with every text written once.
            digests += bytes_digest(f"[{asked}, {said[first]}, {other}]".encode())
            places.append(number * len(slots) + slot)
    return as_digests([bytes(digests)]), np.array(places, dtype=np.int64)


def distinct(texts: Texts, slots: Sequence[Slot]) -> tuple[Digests, Places]:
    """Return the digests of all questions, each once, and where each is first asked; in that order."""
    parts = []
    for start in range(0, len(texts), AT_ONCE):
        parts.append(digests_of(texts[start : start + AT_ONCE], slots, start))
        let_go()
    digests = np.concatenate([as_digests([]), *(part[0] for part in parts)])
    places = np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])
    first = np.sort(np.unique(digests, return_index=True)[1])
    return digests[first], places[first]


class Questions(Lazy[Question]):
    """Some of the questions about responses, each made when it is asked for.

    Args:
        texts: all prompts with their responses.
        slots: what is asked about each.
        places: of the questions, as `digests_of` counts them.
    """

    def __init__(self, texts: Texts, slots: Sequence[Slot], places: Places) -> None:
        self._texts, self._slots, self._places = texts, slots, places

    def __len__(self) -> int:
        return len(self._places)

    def one(self, place: int) -> Question:
        """See `Lazy`."""
        number, slot = divmod(int(self._places[place]), len(self._slots))
        prompt, answers = self._texts[number]
        first, second = self._slots[slot]
        return Question(prompt, answers[first], None if second is None else answers[second])

    def some(self, places: range) -> Questions:
        """See `Lazy`."""
        return Questions(self._texts, self._slots, self._places[np.array(places, dtype=np.int64)])
