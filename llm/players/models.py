"""Models as players, each with its own tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnpo.llm.config import Sampling
from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.formats import Malformed, Text, asked
from mnpo.llm.data.prompts import Prompt
from mnpo.llm.models.job import Job
from mnpo.llm.players.base import Answers, Player
from mnpo.llm.sampling.drawing import HELD_OUT_STREAM, responses


class ModelPlayer(Player):
    """A model in a folder, or on the Hub."""

    kind = "model"

    def __init__(self, name: str, model: str) -> None:
        self.name, self.place = name, model

    def answers(
        self, job: Job, sampling: Sampling, max_length: int, prompts: Sequence[Text], count: int
    ) -> Answers:
        """See `Player.answers`."""
        own = replace(job, model=replace(job.model, model_name_or_path=self.place))
        home, tokenizer = own.policy(), own.tokenizer()
        readable = _readable(tokenizer, prompts, max_length)
        if not readable:
            raise ValueError(f"player {self.name} can read none of the prompts within {max_length} tokens")
        found = responses(
            own,
            sampling,
            max_length,
            self.name,
            home,
            tokenizer,
            list(readable.values()),
            HELD_OUT_STREAM,
            count,
        )
        texts: list[list[str] | None] = [None] * len(prompts)
        for place, said in zip(readable, found.samples, strict=True):
            texts[place] = [sample.text for sample in said]
        return Answers(texts, found.drawn, found.reused, found.seconds)


def _readable(tokenizer: Any, prompts: Sequence[Text], max_length: int) -> dict[int, Prompt]:
    """Return the prompts that a model can read, by their place; equal ones have equal token ids."""
    encoder, rendered = Encoder(tokenizer), {}
    for place, prompt in enumerate(prompts):
        try:
            given = asked(prompt) if tokenizer.chat_template is not None else _plain(prompt)
            rendered[place] = given, encoder.render(given, [])
        except Malformed:
            continue
    tokens = encoder.tokens([one for _, one in rendered.values()])
    return {
        place: Prompt(place + 1, text, tuple(ids))
        for (place, (text, _)), (ids, _) in zip(rendered.items(), tokens, strict=True)
        if len(ids) < max_length
    }


def _plain(prompt: Text) -> str:
    """Return a prompt for a model without a chat template.

    Raises:
        Malformed: a conversation of several turns.
    """
    turns = asked(prompt)
    if len(turns) != 1:
        raise Malformed("a conversation, for which the tokenizer has no chat template")
    return turns[0]["content"]
