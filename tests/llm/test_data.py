"""Preference data in every published format and from every source, and the token ids made of them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import processors

from mnpo.llm import tiny
from mnpo.llm.formats import Malformed, Row, as_row, read
from mnpo.llm.pairs import Encoder, Report, content_digest, describe, encode_rows
from support import DATA

HH = DATA / "hh_harmless_test.jsonl.gz"
needs_hh = pytest.mark.skipif(not HH.exists(), reason="the real data files are not beside the repository")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def told(prompt: Any, chosen: str, rejected: str, **numbers: float) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": [assistant(chosen)], "rejected": [assistant(rejected)], **numbers}


# --- formats --------------------------------------------------------------------------------------------------

SKY = [user("What colour is the sky?")]
TALK = [user("Hi"), assistant("Hello"), *SKY]
SYSTEM = [{"role": "system", "content": "Be brief."}, *SKY]

#: What the data say -> prompt, chosen, rejected, numbers.
FORMATS: dict[str, tuple[dict[str, Any], tuple[Any, Any, Any, dict[str, float]]]] = {
    "standard": (
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        ("The sky is", " blue.", " green.", {}),
    ),
    "standard, implicit prompt": (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        ("The sky is", " blue.", " black.", {}),
    ),
    "conversational": (told(SKY, "Blue.", "Green."), (SKY, "Blue.", "Green.", {})),
    "conversational, implicit prompt": (
        {"chosen": [*TALK, assistant("Blue.")], "rejected": [*TALK, assistant("Green.")]},
        (TALK, "Blue.", "Green.", {}),
    ),
    "prompt repeated in both conversations": (
        {"prompt": SKY, "chosen": [*SKY, assistant("Blue.")], "rejected": [*SKY, assistant("Green.")]},
        (SKY, "Blue.", "Green.", {}),
    ),
    "prompt's text beside conversations with a system turn": (
        {
            "prompt": SKY[0]["content"],
            "chosen": [*SYSTEM, assistant("Blue.")],
            "rejected": [*SYSTEM, assistant("Green.")],
        },
        (SYSTEM, "Blue.", "Green.", {}),
    ),
    "messages answered by texts": (
        {"prompt": TALK, "chosen": "Blue.", "rejected": "Green."},
        (TALK, "Blue.", "Green.", {}),
    ),
    "all responses, beside a pair": (
        {
            "prompt": "Sky?",
            "all_generated_responses": ["Red.", "Blue.", "Green."],
            "all_rm_scores": [0.5, 2, -1],
            **{side: [user("Sky?"), assistant("?")] for side in ("chosen", "rejected")},
        },
        ([user("Sky?")], "Blue.", "Green.", {"reward_chosen": 2, "reward_rejected": -1}),
    ),
    "hh-rlhf": (
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: Blue.",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: Human: no",
        },
        ([user("Hi"), assistant("Hello"), user("Sky?")], "Blue.", "Human: no", {}),
    ),
    "numbers": (
        told("Sky?", "Blue.", "Green.", chosen_probability=0.75, win_chosen=1, win_rejected=0, margin=-3)
        | {"score_chosen": 7, "rejected_score": 1.5, "uncertainty_chosen": None},
        (
            [user("Sky?")],
            "Blue.",
            "Green.",
            {
                "preference": 0.75, "win_chosen": 1, "win_rejected": 0, "margin": -3,
                "reward_chosen": 7, "reward_rejected": 1.5,
            },
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_published_format_is_the_same_pair(name: str) -> None:
    raw, (prompt, chosen, rejected, numbers) = FORMATS[name]
    row = as_row(5, raw)
    sides = [s if isinstance(s, str) else s[0]["content"] for s in (row.chosen, row.rejected)]
    assert (row.number, row.prompt, *sides, row.numbers) == (5, prompt, chosen, rejected, numbers)
    assert isinstance(row.chosen, str) == isinstance(row.prompt, str)


MALFORMED: dict[str, tuple[Mapping[str, Any], str]] = {
    "null": ({"prompt": "a", "chosen": "b", "rejected": None}, "no 'rejected'"),
    "mixed": ({"prompt": "a", "chosen": "b", "rejected": [assistant("c")]}, "different kinds"),
    "number for a text": ({"prompt": "a", "chosen": 1, "rejected": 2}, "'chosen' is neither a text"),
    "number for a prompt": ({"prompt": 1, "chosen": "a", "rejected": "b"}, "'prompt' is neither a text"),
    "other messages": ({"chosen": [{"from": "human", "value": "a"}], "rejected": []}, "lacks a 'role'"),
    "two turns": (
        {"prompt": SKY, "chosen": [assistant("a"), user("b")], "rejected": [assistant("c")]},
        "'chosen' must have one assistant turn; it has assistant, user",
    ),
    "dialogues part early": (
        {"chosen": [*SKY, assistant("a")], "rejected": [user("Hi"), assistant("b")]},
        "do not begin alike",
    ),
    "no prompt": ({"chosen": "yes", "rejected": "no"}, "no 'prompt'"),
    "score is NaN": (told("a", "b", "c", score_chosen=float("nan")), "'score_chosen' is not a finite number"),
    "number too large": (told("a", "b", "c", margin=10**400), "'margin' is not a finite number: '1000"),
    "number as text": (told("a", "b", "c") | {"margin": "2"}, "'margin' is not a finite number: '2'"),
    "no probability": (told("a", "b", "c", preference=1.5), "'preference' is not between 0 and 1: 1.5"),
    "scores of fewer": (
        {"prompt": "a", "all_generated_responses": ["b", "c"], "all_rm_scores": [1]},
        "not lists of the same length",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_row_says_what_is_wrong(name: str) -> None:
    raw, reason = MALFORMED[name]
    with pytest.raises(Malformed, match=reason):
        as_row(1, raw)


# --- sources --------------------------------------------------------------------------------------------------

ROWS = [told(f"Question {i}?", f"yes {i}", "no", margin=float(i)) for i in range(4)]


def saved_json_lines(folder: Path) -> Path:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return folder / "a.jsonl"


def saved_gzip(folder: Path) -> Path:
    with gzip.open(folder / "a.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, ROWS)))
    return folder / "a.jsonl.gz"


def saved_array(folder: Path) -> Path:
    (folder / "a.json").write_text("\n" + json.dumps(ROWS, indent=1))
    return folder / "a.json"


def saved_parquet(folder: Path) -> Path:
    Dataset.from_list(ROWS).to_parquet(str(folder / "a.parquet"))
    return folder / "a.parquet"


def saved_as_on_the_hub(folder: Path) -> Path:
    (folder / "data").mkdir()
    Dataset.from_list(ROWS).to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    Dataset.from_list(ROWS[:1]).to_parquet(str(folder / "data" / "test-00000-of-00001.parquet"))
    return folder


def saved_data_set(folder: Path) -> Path:
    Dataset.from_list(ROWS).save_to_disk(str(folder / "set"))
    return folder / "set"


def saved_splits(folder: Path) -> Path:
    splits = {"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}
    DatasetDict(splits).save_to_disk(str(folder / "sets"))
    return folder / "sets"


FILES = (saved_json_lines, saved_gzip, saved_array, saved_parquet)
SPLITS = (saved_as_on_the_hub, saved_splits)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("save", [*FILES, saved_data_set, *SPLITS])
@pytest.mark.usefixtures("cached")
def test_every_source_gives_the_same_rows(save: Callable[[Path], Path], tmp_path: Path) -> None:
    expected = [as_row(number, row) for number, row in enumerate(ROWS, start=1)]
    name = str(save(tmp_path))
    assert list(read(name)) == list(read(name, split="train")) == expected
    assert list(read(name, limit=2)) == expected[:2]
    if save in SPLITS:
        assert list(read(name, split="test")) == expected[:1]
    with pytest.raises(ValueError, match=r"split .*nowhere") as error:
        list(read(name, split="nowhere"))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_of_json_lines_are_numbered_by_line(tmp_path: Path) -> None:
    lines = ["", json.dumps(ROWS[0]), "", "{", "[1]", json.dumps(ROWS[1]), json.dumps({"chosen": "a"})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = [
        (row.number, "") if isinstance(row, Row) else (row[0], str(row[1]))
        for row in read(str(tmp_path / "a.jsonl"))
    ]
    assert found == [(2, ""), (4, "not JSON"), (5, "not a JSON object"), (6, ""), (7, "no 'rejected'")]


def test_columns_are_renamed(tmp_path: Path) -> None:
    raw = {"question": "a", "yes": " b", "no": " c", "chosen": 3, "margin": "wide", "score_chosen": 1.0}
    (tmp_path / "a.jsonl").write_text(json.dumps(raw))
    names = {"prompt": "question", "chosen": "yes", "rejected": "no", "margin": "score_chosen"}
    (row,) = read(str(tmp_path / "a.jsonl"), columns=names)
    assert row == Row(1, "a", " b", " c", {"margin": 1.0})


BAD: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "no file": ("./nowhere.jsonl", b"", {}, "no such file"),
    "another kind": ("a.csv", b"a,b", {}, r"unknown kind of file; known are \.jsonl"),
    "empty": ("a.jsonl", b"\n", {}, "has no rows"),
    "all malformed": ("a.jsonl", b"{\n[]", {}, "no preference pair .row 1: not JSON; row 2: not a JSON"),
    "not compressed": ("a.jsonl.gz", b"{}", {}, "Not a gzipped file"),
    "cut off": ("a.jsonl.gz", gzip.compress(b"{}" * 99)[:20], {}, "ended before"),
    "array cut off": ("a.json", b"[{", {}, "line 1 column 3"),
    "not Parquet": ("a.parquet", b"{}", {}, "Parquet"),
    "missing columns": (
        "a.jsonl",
        b'{"question": "a", "chosen": "b"}',
        {},
        "lacks the column rejected; it has",
    ),
    "columns that are not there": (
        "a.jsonl",
        b'{"prompt": "a", "chosen": "b", "rejected": "c"}',
        {"columns": {"prompt": "question", "margin": "gap"}},
        "lacks the columns gap, question; it has chosen, prompt, rejected",
    ),
    "unknown column": ("a.jsonl", b"{}", {"columns": {"choosen": "a"}}, "'choosen'; did you mean 'chosen'"),
    "made on the spot": ("tiny:pears:3", b"", {}, "tiny:pairs:<count>"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, content, options, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    if content:
        Path(file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(read(file, **options))
    assert "\n" not in str(error.value)


def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r"^dataset some/pairs: no such file .* Hub .*: no route$"):
        list(read("some/pairs"))


# --- token ids ------------------------------------------------------------------------------------------------

BOS, EOS, END = 2, 1, 5


def tokenizer_of(kind: str) -> Any:
    found = tiny.tokenizer()
    if kind in ("$A", "<bos> $A", "<bos> $A <eos>", "$A <eos>"):
        found._tokenizer.post_processor = processors.TemplateProcessing(
            single=kind, pair=None, special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
        )
    if kind == "no end of turn":
        found.chat_template = "{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}"
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


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


@pytest.mark.parametrize("kind", ["$A", "<bos> $A", "<bos> $A <eos>", "$A <eos>", "no end of turn"])
@pytest.mark.parametrize("name", [name for name in FORMATS if "system" not in name])
def test_token_ids_are_those_of_trl(kind: str, name: str) -> None:
    """But for what follows the end of the turn, and an EOS where a template writes no end at all."""
    utils = pytest.importorskip("trl.data_utils")
    tokenizer = tokenizer_of(kind)
    row = as_row(1, FORMATS[name][0])
    for response in (row.chosen, row.rejected):
        plain = isinstance(response, str)
        both = row.prompt + response + "<eos>" if plain else [*row.prompt, *response]
        options = {} if plain else {"add_generation_prompt": True}
        prompt = utils._tokenize(tokenizer, row.prompt, **options)["input_ids"]
        whole = utils._tokenize(tokenizer, both)["input_ids"]
        start = utils.common_prefix_length(prompt, whole)
        ours = Encoder(tokenizer).encode(row.prompt, response)
        assert ours.prompt == whole[:start]
        rest = whole[start:]
        if kind == "no end of turn" and not plain:
            assert ours.response == [*rest, EOS]
        else:
            assert ours.response == rest[: len(ours.response)]
            assert ours.response[-1] == (EOS if plain else END)
            assert tokenizer.decode(rest[len(ours.response) :]) in ("", "\n", "<eos>")


def test_there_is_one_bos(tokenizer: Any) -> None:
    automatic = tokenizer_of("<bos> $A <eos>")
    for prompt, response in (("a", "b"), ("<bos>a", "b"), ([user("a")], [assistant("b")])):
        found = Encoder(automatic).encode(prompt, response)
        assert [*found.prompt, *found.response].count(BOS) == 1 == found.prompt.count(BOS)
        assert found.response[-1] in (EOS, END)
        assert EOS not in found.response[:-1]
    assert Encoder(tokenizer).encode("a", "b<eos>").response == Encoder(tokenizer).encode("a", "b").response
    automatic.chat_template = "<bos>" + tiny.CHAT_TEMPLATE
    assert Encoder(automatic).encode([user("a")], [assistant("b")]).prompt.count(BOS) == 1


def test_a_special_end_of_turn_need_not_be_listed_by_name() -> None:
    """Several published tokenizers mark it as special among the added tokens and nowhere else."""
    tokenizer = tokenizer_of("")
    tokenizer.add_tokens("<|end|>", special_tokens=True)
    assert "<|end|>" not in tokenizer.all_special_tokens
    tokenizer.chat_template = tiny.CHAT_TEMPLATE.replace("<end_of_turn>", "<|end|>")
    found = Encoder(tokenizer).encode([user("a")], [assistant("b")])
    assert tokenizer.decode(found.response) == "b<|end|>"


def test_conversations_need_a_template_and_texts_do_not(tokenizer: Any) -> None:
    bare = tokenizer_of("")
    bare.chat_template = bare.pad_token = bare.eos_token = bare.bos_token = None
    with pytest.raises(ValueError, match="no chat template"):
        Encoder(bare).encode([user("a")], [assistant("b")])
    assert bare.decode(Encoder(bare).encode("a", " b").response) == " b"


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
def test_real_dialogues(tokenizer: Any) -> None:
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
