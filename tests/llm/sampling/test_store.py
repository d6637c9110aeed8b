"""Responses are kept under all that they depend on, and their seeds depend on nothing else than before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from prompt_files import configured, written

from mnpo.llm.data.prompts import Prompt
from mnpo.llm.models import tiny
from mnpo.llm.sampling.responses import SampleStore, Wanted, WantedResponses
from mnpo.llm.stages.records import Samples
from mnpo.llm.stages.registry import run_here

PROMPTS = [
    Prompt(1, "a b c", (1, 2, 3)),
    Prompt(2, "d", (4,)),
    *(Prompt(i, "e", (i % 8, 6, 7)) for i in range(9)),
]
ASKED = WantedResponses(PROMPTS[:1], "policy", 3)
WANTED = [Wanted((1, 2, 3), "policy", k) for k in range(3)]


class Letters:
    """Stands for a tokenizer."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


def always(token: int) -> object:
    return lambda batch, seeds: [([token, 5], True) for _ in batch]


def test_seeds_are_of_the_model_and_the_question_whatever_ends_a_response(tmp_path: Path) -> None:
    """The published formula, in which the ids that end a response have no place: they only say where it stops."""
    key = {"model": "a", "temperature": 1.0}
    stores = [SampleStore(tmp_path, key, ends) for ends in ([5], [5, 1], [1, 5])]
    content = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16).digest()
    for one in WANTED:
        asked = hashlib.blake2b(json.dumps(one).encode(), digest_size=16).digest()
        expected = int.from_bytes(hashlib.blake2b(content + asked, digest_size=8).digest(), "big")
        assert [store.seed_of(one) for store in stores] == [expected] * 3
    assert SampleStore(tmp_path, {**key, "model": "b"}, [5]).seed_of(WANTED[0]) != stores[0].seed_of(
        WANTED[0]
    )


def test_responses_that_were_ended_otherwise_are_not_found(tmp_path: Path) -> None:
    first, other = (SampleStore(tmp_path, {"model": "a"}, ends) for ends in ([5], [5, 1]))
    first.draw(always(7), ASKED, first.missing(ASKED, 2), Letters())  # type: ignore[arg-type]  # a stand-in
    assert not first.missing(ASKED, 2)
    assert [len(batch) for batch in other.missing(ASKED, 2)] == [2, 1]
    other.draw(always(8), ASKED, other.missing(ASKED, 2), Letters())  # type: ignore[arg-type]  # a stand-in
    assert [[sample.ids[0] for sample in found] for found in first.found(ASKED)] == [[7] * 3]
    assert [[sample.ids[0] for sample in found] for found in other.found(ASKED)] == [[8] * 3]
    again = SampleStore(tmp_path, {"model": "a"}, [5])
    assert not again.missing(ASKED, 2)


def test_responses_are_drawn_in_one_order_and_found_by_prompt(tmp_path: Path) -> None:
    """Longest prompts first and equal ones by digest; a run that stopped after any batch forms those that are left."""
    wanted = WantedResponses(PROMPTS, "é", 4)
    everything = [Wanted(prompt.ids, "é", k) for prompt in PROMPTS for k in range(4)]
    assert wanted.at(np.arange(len(everything))) == everything
    by_digest = {one.digest(): one for one in everything}  # one prompt is there twice
    expected = [by_digest[d] for d in sorted(by_digest, key=lambda d: (-len(by_digest[d].prompt), d))]
    store = SampleStore(tmp_path, {"model": "a"}, [5])
    batches = store.missing(wanted, 7)
    assert [one for places in batches for one in wanted.at(places)] == expected

    def echo(batch: Sequence[Wanted], seeds: Sequence[int]) -> list[tuple[list[int], bool]]:
        return [([*one.prompt, one.k], False) for one in batch]

    store.draw(echo, wanted, batches[:3], Letters())
    left = store.missing(wanted, 7)
    assert [one.tolist() for one in left] == [one.tolist() for one in batches[3:]]
    store.draw(echo, wanted, left, Letters())
    found = store.found(wanted)
    assert len(found) == len(PROMPTS)
    ids = [[[*prompt.ids, k] for k in range(4)] for prompt in PROMPTS]
    assert [[sample.ids for sample in one] for one in found] == ids
    assert [[sample.ids for sample in found[place]] for place in (5, 1, -1)] == [ids[5], ids[1], ids[-1]]
    assert [sample.ids for one in found[2:4] for sample in one] == [*ids[2], *ids[3]]


def test_a_corrected_end_token_does_not_bring_old_responses_back(tmp_path: Path) -> None:
    """Responses that the new token does not cut are the same as they were: their seeds did not change."""
    folder = tiny.build("tiny:gpt2", tmp_path)
    config = configured(
        tmp_path,
        f"model_name_or_path={folder}",
        written(tmp_path, [{"prompt": text} for text in ("one", "two", "three")]),
        "eval_prompts=0", "num_generations=4", "max_new_tokens=10", "oracle=null",
    )  # fmt: skip

    def drawn() -> tuple[int, list[list[int]]]:
        record = run_here("sample", config)
        assert isinstance(record, Samples)
        rows = _rows(record)
        return record.models[0].drawn, rows

    count, before = drawn()
    assert count == 12
    # What the model says somewhere in the middle is now an end.
    end = next(ids[4] for ids in before if len(ids) > 6 and ids[4] not in ids[:4])
    settings = folder / "generation_config.json"
    (folder / "checksums.json").unlink()  # it is changed on purpose
    told = json.loads(settings.read_text())
    settings.write_text(json.dumps({**told, "eos_token_id": [*told["eos_token_id"], end]}))
    count, after = drawn()
    assert count == 12
    assert any(end in ids for ids in before)
    for old, new in zip(before, after, strict=True):
        assert new == (old[: old.index(end) + 1] if end in old else old)
    settings.write_text(json.dumps(told))
    assert drawn() == (0, before)


def _rows(record: Samples) -> list[list[int]]:
    from datasets import load_from_disk

    return [answer["ids"] for row in load_from_disk(record.folder) for answer in row["responses"]]
