"""What is scored, read from tables: the same ids, digests and batches as in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset

from mnpo.llm.storage.store import Store
from mnpo.llm.training.further import following, mismatched, prompt_digests
from mnpo.llm.training.requests import Requests, cut
from mnpo.llm.training.scores import missing

RNG = np.random.default_rng(0)


def request_digest(prompt: Sequence[int], response: Sequence[int]) -> bytes:
    content = np.array([len(prompt), *prompt, *response], dtype="<i8").tobytes()
    return hashlib.blake2b(content, digest_size=16).digest()


ROWS = [
    {
        "prompt_ids": RNG.integers(9, size=1 + place % 3).tolist(),
        "chosen_ids": RNG.integers(99, size=1 + place % 5).tolist(),
    }
    for place in range(200)
]
TABLE = pa.concat_tables([pa.Table.from_pylist(ROWS[start : start + 64]) for start in range(0, 200, 64)])
DATA = Dataset(TABLE)


def test_requests_of_a_table_are_those_of_its_rows() -> None:
    some = RNG.permutation(200)[:50]
    for data, rows in ((DATA, ROWS), (DATA.select(some), [ROWS[place] for place in some])):
        expected = [(row["prompt_ids"], row["chosen_ids"]) for row in rows]
        found = Requests.in_table(data, "chosen_ids")
        assert list(found) == expected
        assert found.digests.tobytes() == b"".join(request_digest(*request) for request in expected)
        assert found.lengths.tolist() == [len(prompt) + len(answer) for prompt, answer in expected]
        plain = Requests.of(expected)
        assert found.digests.tobytes() == plain.digests.tobytes()
        both = Requests.joined([found, plain])
        assert list(both) == expected * 2
        assert both[-1] == expected[-1]


def test_other_rows_responses_are_cut_as_they_are_written() -> None:
    others = following(prompt_digests(DATA))
    assert others is not None
    found = Requests.in_table(DATA, "chosen_ids", others, 4)
    prompts, answers = ([row[name] for row in ROWS] for name in ("prompt_ids", "chosen_ids"))
    expected = list(zip(prompts, mismatched(prompts, answers, 4) or [], strict=True))
    assert list(found) == expected
    assert found.digests.tobytes() == b"".join(request_digest(*request) for request in expected)


def test_a_run_that_goes_on_forms_the_batches_that_were_left(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Prompts with the longest responses first, their responses together, each once, whoever asks."""
    expected = [(row["prompt_ids"], row["chosen_ids"]) for row in [*ROWS, *ROWS[:20]]]
    once = {request_digest(*request): request for request in expected}
    longest: dict[bytes, int] = {}
    for prompt, answer in expected:
        asked = request_digest(prompt, ())
        longest[asked] = max(longest.get(asked, 0), len(prompt) + len(answer))

    def place(digest: bytes) -> tuple[int, bytes, int, bytes]:
        asked = request_digest(once[digest][0], ())
        return -longest[asked], asked, -sum(map(len, once[digest])), digest

    order = sorted(once, key=place)
    store = Store(tmp_path, {"a": 1}, pa.float64())
    requests = Requests.of(expected)
    whole = [requests.take(places) for places in cut(missing(requests, store), 8)]
    assert whole == [
        [once[digest] for digest in order[start : start + 8]] for start in range(0, len(order), 8)
    ]
    with store.writer() as writer:
        writer.append(order[:16], [0.0] * 16)
    left = [requests.take(places) for places in cut(missing(requests, store), 8)]
    assert left == whole[2:]
