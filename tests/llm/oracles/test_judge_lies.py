"""A lying judge over HTTP: asked again or given up in one line, within its time, and nobody is told the key."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Iterator

import pytest
from judge_server import KEY, Server, ask, judge_at, numbered, says, serving
from lies import FINAL, ODD, PASSING, redirects

from mnpo.llm.oracles.base import Question

pytestmark = pytest.mark.usefixtures("quiet")
ONE = Question("q", "a", "b")
SECONDS = 0.3


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as server:
        yield server


def given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line with which a judge is given up."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    judge = judge_at(server, api_key_env="JUDGE_KEY", retries=1, timeout=SECONDS)
    start = time.monotonic()
    with pytest.raises(ValueError, match="the judge j") as error:
        ask(judge, ONE)
    assert time.monotonic() - start < 2 * SECONDS + 1
    assert KEY not in "".join(traceback.format_exception(error.value))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("lie", PASSING)
def test_is_asked_again_and_then_given_up(server: Server, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    reply, line = PASSING[lie]
    server.reply = lambda parts, before: reply()
    expected = rf"the judge j at {server.url} does not answer: {line}"
    assert re.fullmatch(expected, given_up(server, monkeypatch))
    assert len(server.seen) == 2


@pytest.mark.parametrize("lie", FINAL)
def test_is_given_up_at_once(server: Server, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    reply, line = FINAL[lie]
    server.reply = lambda parts, before: reply()
    assert re.fullmatch(rf"the judge j at {server.url} .*{line}", given_up(server, monkeypatch))
    assert len(server.seen) == 1


@pytest.mark.parametrize("oddity", ODD)
def test_what_is_odd_is_still_an_answer(server: Server, oddity: str) -> None:
    server.reply = lambda parts, before: ODD[oddity]()
    assert ask(judge_at(server, retries=0, timeout=5 * SECONDS), ONE) == [1.0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_question_goes_nowhere_else(
    server: Server, other: Server, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    server.reply = lambda parts, before: redirects(status, f"{other.url}/chat/completions")
    assert "which is not followed" in given_up(server, monkeypatch)
    assert len(server.seen) == 1
    assert not other.seen


def test_one_that_drips_holds_up_no_other(server: Server) -> None:
    """Nor is what the others were answered lost, or asked twice."""
    drips, _ = PASSING["drips its answer"]
    server.reply = lambda parts, before: drips() if parts[0] == "3" and not before else says("[[B]]")
    start = time.monotonic()
    assert ask(judge_at(server, timeout=SECONDS, concurrency=2), *numbered(20)) == [0.0] * 20
    assert time.monotonic() - start < SECONDS + 2
    assert len(server.seen) == 21


def test_passwords_of_proxies_are_told_nobody(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:p%40ssword@"))
    server.reply = lambda parts, before: says("it was p@ssword, p%40ssword")
    with pytest.raises(ValueError, match="gave no verdict") as error:
        ask(judge_at("http://127.0.0.2:1/v1", retries=0), ONE)
    assert not re.search("p(@|%40)ssword", str(error.value))
    monkeypatch.setenv("http_proxy", f"gopher://me:{KEY}@localhost:1")
    with pytest.raises(ValueError, match="the judge j cannot be reached: ") as error:
        judge_at("http://127.0.0.2:1/v1")
    assert KEY not in "".join(traceback.format_exception(error.value))
