"""Texts that are made to be slow to read."""

from __future__ import annotations

from hostile import within

from mnpo.llm.benchmarks.arena_hard import style_of, verdict
from mnpo.llm.benchmarks.mt_bench import rating
from mnpo.llm.endpoints.chat import Reply

SIZE = 300_000


def test_verdicts_and_styles_take_no_time() -> None:
    with within(2):
        assert rating(Reply("[[" + "1" * SIZE)) is None
        assert rating(Reply("[[" + "1." * SIZE + "[[7.5]]")) == 7.5
        assert verdict(Reply("[[" + "A>" * SIZE)) is None
        assert style_of("\n" * SIZE) == [SIZE, 0, 0, 0]
        assert style_of("\n \n\t- a\n2. b\n\n* c\n") == [18, 0, 3, 0]
