"""Prompts to sample responses for: read in any known format, checked, split over the iterations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from mnpo.llm.config import Data, Prompts
from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.formats import Malformed, Text, as_row, asked
from mnpo.llm.data.pairs import Report, describe
from mnpo.llm.data.sources import raw_rows

#: Columns that may hold a prompt, in this order.
COLUMNS = ("prompt", "messages", "turns", "instruction", "question")


@dataclass(frozen=True)
class Prompt:
    """What is asked.

    Attributes:
        number: its place in the source, counted from 1.
        text: a text, or messages where the policy has a chat template.
        ids: token ids, up to where the response begins.
    """

    number: int
    text: Text
    ids: tuple[int, ...]


def read_prompts(
    data: Data, wanted: Prompts, tokenizer: Any, seed: int
) -> tuple[dict[str, list[Prompt]], dict[str, Report]]:
    """Return the prompts of this iteration, "train", and the held-out ones, "eval".

    Texts become user turns if the tokenizer has a chat template. What is empty, malformed, repeated or longer than
    max_prompt_length is left out and counted.

    Args:
        data: where prompts come from unless `wanted` says, and how long they may be.
        wanted: which prompts.
        tokenizer: the policy's.
        seed: of the choice of held-out ones.

    Raises:
        ValueError: no prompts to be had, or too few for what is asked of them.
    """
    name = wanted.prompt_dataset_name or data.dataset_name
    if name is None:
        raise ValueError("the configuration lacks prompt_dataset_name, the prompts to sample responses for")
    own = (wanted.prompt_dataset_config_name, wanted.prompt_dataset_split)
    if wanted.prompt_dataset_name in (None, data.dataset_name) and own == (None, None):
        own = (data.dataset_config_name, data.dataset_split)
    sources = {"train": (name, *own)}
    if wanted.eval_prompt_dataset_name or wanted.eval_prompt_dataset_split:
        held = wanted.eval_prompt_dataset_name or name
        sources["eval"] = (held, own[0], wanted.eval_prompt_dataset_split)
    read = {part: _read(data, wanted.max_prompts, *source, tokenizer) for part, source in sources.items()}
    prompts = {part: found for part, (found, _) in read.items()}
    if "eval" not in prompts:
        prompts |= _hold_out(wanted.eval_prompts, prompts["train"], seed)
    elif wanted.eval_prompts >= 1:
        prompts["eval"] = prompts["eval"][: int(wanted.eval_prompts)]
    tested = {prompt.ids for prompt in prompts["eval"]}
    prompts["train"] = [prompt for prompt in prompts["train"] if prompt.ids not in tested]
    if wanted.prompt_part is not None:
        prompts["train"] = in_part(prompts["train"], wanted.prompt_part)
    return prompts, {part: report for part, (_, report) in read.items()}


def in_part(prompts: list[Prompt], place: Sequence[int]) -> list[Prompt]:
    """Return those of one iteration.

    Args:
        prompts: all that are not held out.
        place: which part, from 1, and of how many.

    Raises:
        ValueError: fewer prompts than parts.
    """
    part, parts = place
    if len(prompts) < parts:
        raise ValueError(
            f"{len(prompts)} prompts cannot be split over {parts} iterations; give prompt_use=all"
        )
    return prompts[len(prompts) * (part - 1) // parts : len(prompts) * part // parts]


def check_room(prompts: Sequence[Prompt], max_length: int) -> None:
    """Refuse prompts that leave no room for a response.

    Raises:
        ValueError: names the first.
    """
    for prompt in prompts:
        if len(prompt.ids) >= max_length:
            raise ValueError(
                f"prompt {prompt.number} has {len(prompt.ids)} tokens, which leaves no room within max_length "
                f"{max_length}"
            )


def check_held_out(prompts: Sequence[Prompt], max_length: int, asked: float) -> None:
    """Refuse held-out prompts that are too few for an interval, or too long for a response.

    Raises:
        ValueError: says how many are left of `asked`, the key eval_prompts.
    """
    if len(prompts) < 2:
        raise ValueError(
            f"an evaluation needs at least 2 held-out prompts: eval_prompts={asked:g} leaves {len(prompts)}"
        )
    check_room(prompts, max_length)


def _hold_out(share: float, prompts: list[Prompt], seed: int) -> dict[str, list[Prompt]]:
    held = int(share if share >= 1 else round(share * len(prompts)))
    if held >= len(prompts):
        raise ValueError(f"eval_prompts must leave prompts to train on; found {held} of {len(prompts)}")
    order = np.random.default_rng(seed).permutation(len(prompts))
    return {"eval": [prompts[i] for i in sorted(order[:held])], "train": [prompts[i] for i in order[held:]]}


def _read(
    data: Data, most: int | None, name: str, part: str | None, split: str | None, tokenizer: Any
) -> tuple[list[Prompt], Report]:
    encoder, report = Encoder(tokenizer), Report()
    found: list[Prompt] = []
    seen: set[tuple[int, ...]] = set()
    for number, raw in islice(raw_rows(name, part, split), most):
        report.read += 1
        try:
            if isinstance(raw, Malformed):
                raise raw
            text = _prompt_of(raw, data.columns.get("prompt"), tokenizer.chat_template is not None)
            ((ids, _),) = encoder.tokens([encoder.render(text, [])])
        except Malformed as reason:
            report.drop("empty" if str(reason).startswith("empty") else "malformed", number, str(reason))
            continue
        key = tuple(ids)
        kind = "too long" if len(ids) > data.max_prompt_length else "repeated" if key in seen else None
        if kind is not None:
            report.drop(kind, number, kind)
            continue
        seen.add(key)
        found.append(Prompt(number, text, key))
    report.kept = len(found)
    if not found:
        raise ValueError(f"dataset {name} has no prompt that can be used: {describe(report)}")
    return found, report


def _prompt_of(raw: Mapping[str, Any], column: str | None, chat: bool) -> Text:
    """Return the prompt of a row: a text, messages up to the last user turn, or what a preference pair begins with.

    Raises:
        Malformed: a row without one.
    """
    name = column or next((known for known in COLUMNS if raw.get(known) is not None), None)
    if name is None:
        if raw.get("chosen") is None:
            raise Malformed(f"none of the columns {', '.join(COLUMNS)}")
        text = as_row(0, raw).prompt
        return asked(text) if chat else text
    value = raw.get(name)
    if isinstance(value, list) and value and all(isinstance(turn, str) for turn in value):
        value = value[0]  # the first of several turns of a user
    if isinstance(value, str):
        further = raw.get("input") if name == "instruction" else None
        text = f"{value}\n{further}" if further and isinstance(further, str) else value
        if not text.strip():
            raise Malformed("empty prompt")
        return asked(text) if chat else text
    messages = asked(value)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise Malformed("empty prompt")
    if not chat:
        raise Malformed("a conversation, for which the tokenizer has no chat template")
    return messages


def as_json(text: Text) -> str:
    """Return a prompt as it stands in data sets."""
    return json.dumps(text)
