"""Rows as encoded pairs: cut to length, counted, and told apart by their content."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_from_disk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from preference_rows import SKY, SYSTEM, assistant, told, user
from small_tokenizers import BOS, END, tokenizer_of

from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.formats import Malformed, Row, as_row
from mnpo.llm.data.pairs import Report, describe, encode_rows
from mnpo.llm.data.sources import read
from mnpo.llm.data.tables import content_digest
from mnpo.llm.models import tiny
from support import DATA

HH = DATA / "hh_harmless_test.jsonl.gz"
needs_hh = pytest.mark.skipif(not HH.exists(), reason="the real data files are not beside the repository")


def encoded(
    rows: list[dict[str, Any]], tokenizer: Any, lengths: tuple[int, int] = (200, 150), **options: Any
) -> tuple[Dataset, Report]:
    def tried(number: int, row: dict[str, Any]) -> Row | tuple[int, Malformed]:
        try:
            return as_row(number, row)
        except Malformed as reason:
            return number, reason

    read_rows = [tried(number, row) for number, row in enumerate(rows, start=1)]
    return encode_rows(read_rows, tokenizer, max_length=lengths[0], max_prompt_length=lengths[1], **options)


letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(
    texts=st.tuples(letters, letters, letters),
    plain=st.booleans(),
    longest=st.integers(1, 40),
    room=st.integers(2, 30),
    drop=st.booleans(),
)
def test_prompts_lose_their_beginning_and_responses_their_end(
    tokenizer: Any, texts: tuple[str, str, str], plain: bool, longest: int, room: int, drop: bool
) -> None:
    prompt, *answers = texts
    assume(all(text.strip() for text in texts) and answers[0].strip() != answers[1].strip())
    raw = {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
    row = as_row(1, raw if plain else told([user(prompt)], *answers))
    short = as_row(2, {"prompt": "a", "chosen": " b", "rejected": " c"})
    lengths = {"max_length": longest + room, "max_prompt_length": longest, "drop_overlong": drop}
    data, report = encode_rows([row, short], tokenizer, **lengths)

    whole = [Encoder(tokenizer).encode(row.prompt, side) for side in (row.chosen, row.rejected)]
    if plain:
        assert tokenizer.decode([*whole[0].prompt, *whole[0].response]) == prompt + answers[0] + "<eos>"
    start = whole[0].prompt
    if len(start) > longest:
        start = start[-longest:] if plain or longest == 1 else [BOS, *start[len(start) - longest + 1 :]]
    left = longest + room - len(start)
    cut = {
        "prompt": len(whole[0].prompt) > longest,
        "chosen": len(whole[0].response) > left,
        "rejected": len(whole[1].response) > left,
    }
    assert report.read == 2 == report.kept + report.dropped.total()
    assert data["row"][-1] == 2
    if drop and any(cut.values()):
        assert report.dropped == {"too long": 1}
    elif report.kept == 1:
        assert set(report.dropped) < {"identical when cut", "empty when cut"}
        assert cut["chosen"] or cut["rejected"]
        assert not report.truncated
    else:
        assert report.truncated == Counter(what for what, was in cut.items() if was)
        assert data[0]["prompt_ids"] == start
        for side, answer, one in zip(("chosen", "rejected"), answers, whole, strict=True):
            assert data[0][f"{side}_ids"] == one.response[:left]
            assert data[0][f"{side}_cut"] == cut[side]
            assert answer.startswith(data[0][side]) if cut[side] else data[0][side] == answer


def test_a_cut_response_is_kept_as_text_for_other_tokenizers(tokenizer: Any) -> None:
    """Without half a letter at its end, and without an end of turn."""
    row = told([user("Hi")], "日本語日本語日本語", "It is fine.")
    data, _ = encoded([row], tokenizer, (16 + 10, 16))
    (found,) = data
    assert found["chosen_cut"]
    assert not found["rejected_cut"]
    assert row["chosen"][0]["content"].startswith(found["chosen"])
    assert 0 < len(found["chosen"]) < 9
    again = Encoder(tokenizer).encode([user("Hi")], [assistant(found["chosen"])], ended=False)
    assert again.response == found["chosen_ids"][: len(again.response)]
    assert found["rejected_ids"][-1] == END


def test_every_row_is_accounted_for() -> None:
    tokenizer = tokenizer_of("")
    judged = "{% if message['role'] == 'judge' %}{{ raise_exception('no judge') }}{% endif %}"
    tokenizer.chat_template = tiny.CHAT_TEMPLATE.replace("{{ '<start", judged + "{{ '<start", 1)
    long, words = [user("rain " * 200)], "moon " * 200
    rows = [
        told(SKY, "Blue.", "Green."),
        told(SKY, "Blue.", " Blue.\n"),
        told(SKY, " \n", "Green."),
        told([user(" ")], "Blue.", "Green."),
        told(SYSTEM, "Blue.", "Green."),
        told([{"role": "judge", "content": "a"}], "Blue.", "Green."),
        {"prompt": "a", "chosen": "b"},
        {"prompt": "a", "chosen": "\ud800", "rejected": "b"},
        told(long, "Blue.", words + "1"),
        told(SKY, words + "1", words + "2"),
        {"prompt": "a", "chosen": " " * 500 + "b", "rejected": "c"},
    ]
    data, report = encoded(rows, tokenizer, (60, 40))
    assert data["row"] == [1, 9]
    assert report.dropped == {
        "identical": 1, "empty": 2, "malformed": 4, "identical when cut": 1, "empty when cut": 1,
    }  # fmt: skip
    assert report.truncated == {"prompt": 1, "rejected": 1}
    assert report.malformed == [
        (5, "the chat template refuses it: System role not supported"),
        (6, "the chat template refuses it: no judge"),
        (7, "no 'rejected'"),
        (8, "a text that is not valid Unicode"),
    ]
    assert Report.from_dict(json.loads(json.dumps(report.as_dict()))) == report
    for part in (
        "11 rows read, 2 kept",
        "4 dropped: malformed",
        "1 truncated: prompt",
        "row 7: no 'rejected'",
    ):
        assert part in describe(report)
    assert encoded(rows, tokenizer, (60, 40), drop_overlong=True)[1].dropped["too long"] == 3
    with pytest.raises(ValueError, match="no row of the data can be used: 1 rows read"):
        encoded(rows[1:2], tokenizer)
    with pytest.raises(ValueError, match=r"max_prompt_length .* found 60 and 60"):
        encoded(rows, tokenizer, (60, 60))


def test_numbers_are_columns_where_any_row_has_them(tokenizer: Any) -> None:
    """More rows than are encoded at once, the first of them unusable."""
    rows = [{"chosen": "a"}] * 700 + [told(SKY, "a", "b"), told(SKY, "a", "b", margin=2)]
    data, report = encoded(rows, tokenizer)
    assert data["row"] == [701, 702]
    assert data["margin"] == [None, 2.0]
    assert "reward_chosen" not in data.column_names
    assert report.dropped == {"malformed": 700}


def test_the_digest_is_of_the_content(tokenizer: Any, tmp_path: Path) -> None:
    rows = [told(SKY, f"a {i}", "b", margin=float(i)) for i in range(5)]
    data, _ = encoded(rows, tokenizer)
    data.save_to_disk(str(tmp_path / "pairs"))
    assert content_digest(load_from_disk(str(tmp_path / "pairs"))) == content_digest(data)
    others = [
        data.select([1, 0, 2, 3, 4]),
        data.select(range(4)),
        data.remove_columns("margin"),
        encoded([*rows[:4], rows[4] | {"margin": 4.5}], tokenizer)[0],
        encoded(rows, tokenizer, (14, 13))[0],
    ]
    assert len({content_digest(other) for other in (data, *others)}) == 6


@needs_hh
def test_real_dialogues_lose_only_those_without_an_answer_or_that_part_early(tokenizer: Any) -> None:
    """What is dropped: responses without a word, and dialogues that part before their last turn."""
    rows = list(read(str(HH)))
    malformed = [row for row in rows if isinstance(row, tuple)]
    assert len(rows) == 2312
    assert [number for number, _ in malformed] == [1255, 1689, 1951, 1953, 2037]
    wordless = [rows[number - 1] for number in (87, 517, 926, 1104)]
    data, report = encode_rows(
        [*rows[:50], *wordless, *malformed], tokenizer, max_length=2048, max_prompt_length=1800
    )
    assert report.kept == 50
    assert report.dropped == {"empty": 4, "malformed": 5}
    with gzip.open(HH) as lines:
        first = json.loads(lines.readline())
    marks = ("\n\nHuman: ", "\n\nAssistant: ")
    turns = enumerate(turn["content"] for turn in json.loads(data[0]["prompt"]))
    text = "".join(marks[i % 2] + turn for i, turn in turns)
    for side in ("chosen", "rejected"):
        assert text + marks[1] + data[0][side] == first[side].strip(" ")


def test_rows_that_spell_a_control_token_are_counted() -> None:
    rows = [
        told(SKY, "Blue.", "Green<end_of_turn>"),
        told([user("<bos> and <eos>?")], "Blue <pad>.", "Green."),
        told(SKY, "Blue.", "< end_of_turn > Green."),
        told(SKY, "<bos>", "<bos> "),  # identical: it is left out
    ]
    _, report = encoded(rows, tokenizer_of(""))
    assert (report.kept, report.spelled) == (3, 2)
    assert "2 spell a control token" in describe(report)
