"""What judges are asked: published prompts from files of their own formats, or words of our own.

Whose words they are stands beside every number: a judge that is asked otherwise judges otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnpo.common.digests import data_digest
from mnpo.common.given import read_bytes, read_text, text_lines
from mnpo.common.strict_json import plain_json
from mnpo.llm.config.parsing import parse_file
from mnpo.llm.endpoints.chat import Request
from mnpo.llm.endpoints.fences import TOLD, fence

#: What places are called in published prompts -> what they are called here.
_PLACES = {
    "question": ("question", "question_1", "QUESTION", "instruction"),
    "question_2": ("question_2",),
    "first": ("answer_a", "answer_1", "ANSWER_A", "output_1", "answer"),
    "second": ("answer_b", "answer_2", "ANSWER_B", "output_2"),
    "reference": ("ref_answer_1", "REFERENCE"),
    "reference_2": ("ref_answer_2",),
}
#: In MT-Bench's prompts for two turns answer_1 and answer_2 are one assistant's.
_ONE = {**_PLACES, "first": ("answer", "answer_1"), "second": ("answer_2",)}
_PLACE = re.compile(r"\{(\w+)\}")
_CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)

_RATE = """\
Rate how well an assistant answers a request. Ask whether it does what was asked, whether it is right, and how \
much it helps; its length is no merit. {told}{reference}

--- Request {fence} ---
{question}

--- Answer {fence} ---
{first}
{more}
--- End {fence} ---

Say in a few sentences what decides. Then end with the mark [[n]] on a line of its own, n a number from 1 \
(useless) to 10 (could not be better)."""
_MORE = """
--- Second request {fence} ---
{question_2}

--- Second answer: rate this one {fence} ---
{second}
"""
_KNOWN = " Here is a right answer to compare with.\n\n--- Right answer {fence} ---\n{reference}"
_KNOWN_2 = _KNOWN + "\n\n--- Right answer to the second request {fence} ---\n{reference_2}"
_PAIR = """\
Two assistants answered the same request. Decide which answer is better: which does what was asked, is right, and \
helps more. Neither their order nor their length is a merit. {told}

--- Request {fence} ---
{question}

--- Answer {a} {fence} ---
{first}

--- Answer {b} {fence} ---
{second}

--- End {fence} ---

"""
_STRENGTH = """\
Say in a few sentences what decides. Then end with exactly one of these marks on a line of its own: [[A>>B]] if A \
is much better, [[A>B]] if A is better, [[A=B]] for a tie, [[B>A]] if B is better, [[B>>A]] if B is much better."""
_LETTER = "Reply with the name of the better answer alone, one letter: m or M."
_RATE, _PAIR = (text.replace("{told}", TOLD) for text in (_RATE, _PAIR))
_PAIR_AB = _PAIR.replace("{a}", "A").replace("{b}", "B")
_PAIR_M = _PAIR.replace("{a}", "m").replace("{b}", "M")

#: Words of our own by name; MT-Bench's go by the names that FastChat gives its prompts.
OWN: Mapping[str, str] = {
    "single-v1": _RATE.replace("{reference}", "").replace("{more}", ""),
    "single-math-v1": _RATE.replace("{reference}", _KNOWN).replace("{more}", ""),
    "single-v1-multi-turn": _RATE.replace("{reference}", "").replace("{more}", _MORE),
    "single-math-v1-multi-turn": _RATE.replace("{reference}", _KNOWN_2).replace("{more}", _MORE),
    "alpaca-eval-2": _PAIR_M + _LETTER,
    "arena-hard": _PAIR_AB + _STRENGTH,
    "arena-hard-v2": _PAIR_AB + _STRENGTH,
}


@dataclass(frozen=True)
class Template:
    """One judge prompt: messages with places."""

    messages: tuple[tuple[str, str], ...]
    single: bool

    def request(self, parts: Mapping[str, str], fields: Mapping[str, Any] | None = None) -> Request:
        """Fill the places in: question, first, second, reference, those of a second turn, and fence."""
        names = self._names()
        filled = {**parts, "fence": fence(parts.values())}

        def fill(place: re.Match[str]) -> str:
            name = names.get(place[1])
            return place[0] if name is None else filled.get(name, "")

        messages = [{"role": role, "content": _PLACE.sub(fill, text)} for role, text in self.messages]
        return Request([turn for turn in messages if turn["content"].strip()], fields or {})

    def shows(self, part: str) -> bool:
        """Tell whether it has a place for something."""
        names = self._names()
        return any(names.get(place) == part for _, text in self.messages for place in _PLACE.findall(text))

    def _names(self) -> dict[str, str]:
        """What places are called in it -> what they are called here."""
        names = {name: ours for ours, all_ in (_ONE if self.single else _PLACES).items() for name in all_}
        return names | {ours: ours for ours in (*_PLACES, "fence")}


class JudgePrompts:
    """The prompts of one benchmark.

    Attributes:
        whose: for the protocol: "mnpo's own", or the file's name with a digest of its content.
    """

    def __init__(self, suite: str, file: str | None = None) -> None:
        """Read them.

        Args:
            suite: the benchmark.
            file: FastChat's judge_prompts.jsonl, a YAML or JSON file with system_prompt and prompt_template as
                Arena-Hard has it, or a text with <|im_start|> marks as AlpacaEval has it.

        Raises:
            ValueError: a file that is not there, or holds no judge prompt.
        """
        self._suite = suite
        self._single = suite == "mt-bench"
        self.whose = "mnpo's own"
        self._known = {name: Template((("user", text),), self._single) for name, text in OWN.items()}
        if file is not None:
            path = Path(file).expanduser()
            try:
                self._known = {
                    name or suite: Template(messages, self._single) for name, messages in _read(path)
                }
            except ValueError as error:
                raise ValueError(f"judge prompts {file}: {error}") from None
            self.whose = f"{path.name} ({data_digest(read_text(path))[:8]})"
        if len(self._known) == 1 and not self._single:
            self._known = dict.fromkeys([suite], *self._known.values())
        for name in self.names():
            if name not in self._known:
                named = ", ".join(self._known) or "none at all"
                raise ValueError(f"judge prompts {file}: none is called {name}; there are {named}")
            if not self._known[name].shows("first" if self._single else "second"):
                raise ValueError(
                    f"judge prompts {file}: {name} has no place for an answer, such as {{answer}} or {{answer_b}}"
                )

    def names(self) -> list[str]:
        """The prompts that the benchmark needs."""
        return [name for name in OWN if name.startswith("single")] if self._single else [self._suite]

    def __getitem__(self, name: str) -> Template:
        return self._known[name]


def _read(path: Path) -> Iterator[tuple[str | None, tuple[tuple[str, str], ...]]]:
    """Yield the prompts of a file: what each is called, if it is said, and its messages.

    Raises:
        ValueError: a file of another format.
    """
    if path.suffix == ".txt":
        text = read_text(path)
        turns = tuple((role, content.strip()) for role, content in _CHATML.findall(text))
        yield None, turns or (("user", text.strip()),)
        return
    if path.suffix in (".yaml", ".yml"):
        found = [parse_file(path)]
    elif path.suffix == ".jsonl":
        found = [plain_json(line.encode()) for line in text_lines(path) if line.strip()]
    else:
        found = plain_json(read_bytes(path))
        found = found if isinstance(found, list) else [found]
    for row in found:
        if not isinstance(row, Mapping):
            raise ValueError("it must hold objects with prompt_template")
        name, given, system = row.get("name"), row.get("prompt_template"), row.get("system_prompt") or ""
        asked: Any = given[0] if isinstance(given, list) and given else given
        if not all(isinstance(one, str) for one in (name or "", asked, system)):
            raise ValueError("prompt_template, and if they are there name and system_prompt, must be texts")
        yield name, (("system", system), ("user", asked))
