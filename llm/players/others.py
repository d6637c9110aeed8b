"""Players whose model is elsewhere: behind an endpoint, or known by its responses in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mnpo.llm.config import Sampling
from mnpo.llm.data.formats import Malformed, Message, Text, asked
from mnpo.llm.data.sources import raw_rows
from mnpo.llm.endpoints.asking import ask_all
from mnpo.llm.endpoints.chat import Chat, Request
from mnpo.llm.models.job import Job
from mnpo.llm.players.base import Answers, Player

#: Columns of a file of responses: the prompt's, and the response's or responses'.
PROMPTS = ("prompt", "messages", "instruction", "question", "turns")
RESPONSES = ("responses", "response", "output", "answer", "completion")
#: What an endpoint is allowed unless its player says otherwise.
_PATIENT = {"timeout": 300.0, "retries": 5}


class EndpointPlayer(Player):
    """A model behind an OpenAI-compatible endpoint."""

    kind = "endpoint"

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        """Prepare a client.

        Args:
            name: of the player.
            options: of `mnpo.llm.endpoints.chat.Chat`, and `system`, a system message.

        Raises:
            ValueError: an unknown option, or what the client refuses.
        """
        self.name = name
        self._options = {**_PATIENT, **options}
        self._system = self._options.pop("system", None)
        ours = [option for option in ("temperature", "max_tokens", "name", "role") if option in self._options]
        if ours:
            raise ValueError(f"player {name}: {ours[0]} is not an option of an endpoint; sampling.temperature, "
                             "max_new_tokens and the player's name say it")  # fmt: skip
        self.place = self._chat(0.0, None).url

    def _chat(self, temperature: float, most: int | None) -> Chat:
        try:
            return Chat(
                name=self.name, role="player", temperature=temperature, max_tokens=most, **self._options
            )
        except TypeError as error:
            raise ValueError(f"player {self.name}: {str(error).rpartition('()')[2].strip()}") from None

    def answers(
        self, job: Job, sampling: Sampling, max_length: int, prompts: Sequence[Text], count: int
    ) -> Answers:
        """See `Player.answers`; each response is asked for with a seed of its own."""
        chat = self._chat(sampling.temperature, sampling.max_new_tokens)
        head: list[Message] = (
            [] if self._system is None else [{"role": "system", "content": str(self._system)}]
        )
        greedy = sampling.temperature == 0
        fields: list[dict[str, Any]] = [
            {} if greedy else {"top_p": sampling.top_p, "seed": (job.compute.seed + k) % 2**31}
            for k in range(count)
        ]
        requests = [Request([*head, *asked(prompt)], more) for prompt in prompts for more in fields]
        found = ask_all(job, chat, requests)
        texts: list[list[str] | None] = [
            [reply.text for reply in found.replies[k * count : (k + 1) * count]] for k in range(len(prompts))
        ]
        return Answers(texts, found.asked, found.reused, found.seconds)


class FilePlayer(Player):
    """Responses in a file, told by the text of the prompt."""

    kind = "file"

    def __init__(self, name: str, file: str) -> None:
        self.name, self.place = name, file

    def answers(
        self, job: Job, sampling: Sampling, max_length: int, prompts: Sequence[Text], count: int
    ) -> Answers:
        """See `Player.answers`: the first `count` responses of each prompt."""
        known = responses_in(self.place)
        texts: list[list[str] | None] = []
        for prompt in prompts:
            said = known.get(_key(prompt), [])
            texts.append(said[:count] if len(said) >= count else None)
        return Answers(texts, 0, sum(said is not None for said in texts) * count, 0.0)


def responses_in(file: str) -> dict[str, list[str]]:
    """Read a file of responses: rows with a prompt, and one or more responses to it.

    Raises:
        ValueError: a row that has no prompt or response, or a file that cannot be read.
    """
    found: dict[str, list[str]] = {}
    for number, raw in raw_rows(file):
        try:
            if isinstance(raw, Malformed):
                raise raw
            prompt, said = (_first(raw, names) for names in (PROMPTS, RESPONSES))
            if isinstance(prompt, list) and prompt and all(isinstance(turn, str) for turn in prompt):
                prompt = prompt[0]
            listed = said if isinstance(said, list) else [said]
            if not all(isinstance(text, str) for text in listed):
                raise Malformed("a response is not a text")
            found.setdefault(_key(prompt), []).extend(listed)
        except Malformed as reason:
            raise ValueError(f"responses {file}, row {number}: {reason}") from None
    if not found:
        raise ValueError(f"responses {file}: it holds none")
    return found


def _first(raw: Mapping[str, Any], names: Sequence[str]) -> Any:
    name = next((known for known in names if raw.get(known) is not None), None)
    if name is None:
        raise Malformed(f"none of the columns {', '.join(names)}")
    return raw[name]


def _key(prompt: Text) -> str:
    return json.dumps(asked(prompt))
