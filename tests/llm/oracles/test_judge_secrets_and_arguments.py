"""A judge over HTTP: keys and passwords that nobody is told, and arguments that are refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from judge_server import KEY, TERSE, Reply, Server, ask, fails, judge_at, says

from mnpo.llm.oracles.base import Question

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize(
    "reply",
    [
        fails(401, f"Incorrect API key provided: {KEY}"),
        Reply(f"bad key {KEY}", 403),
        fails(503, KEY),
        Reply(f"<{KEY}>"),
        says(f"You sent {KEY}"),
    ],
)
def test_key_goes_out_and_is_told_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n")
    server.script(q=[reply])
    judge = judge_at(server, api_key_env="JUDGE_KEY", retries=0)
    with pytest.raises(ValueError, match=r"\*\*\*") as error:
        ask(judge, Question("q", "a", "b"))
    assert server.seen[0].authorization == f"Bearer {KEY}"
    assert KEY not in f"{error.value!r} {judge!r} {judge.key()}"


def test_loopback_needs_no_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert ask(judge_at(server, base_url=None), Question("q", "a", "b")) == [1.0]
    assert server.seen[0].authorization == "Bearer none"


def test_password_of_the_address_is_told_nobody(server: Server) -> None:
    server.script(q=[fails(401, "not me:p@ss, p%40ss")])
    judge = judge_at(server.url.replace("//", "//me:p%40ss@"))
    with pytest.raises(ValueError, match="refuses") as error:
        ask(judge, Question("q", "a", "b"))
    assert (server.seen[0].authorization or "").startswith("Basic ")
    assert judge.key() == {
        "kind": "judge",
        "model": "m",
        "base_url": server.url,
        "template": TERSE,
        "system": None,
        "temperature": 0.0,
        "max_tokens": 512,
        "extra": {},
    }
    assert server.url in str(error.value)
    assert not any(secret in str(error.value) for secret in ("p@ss", "p%40ss"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_url": "http://elsewhere/v1"}, "needs an API key in the environment variable OPENAI_API_KEY"),
        ({"base_url": None, "api_key_env": "MINE"}, "needs an API key in the environment variable MINE"),
        ({"api_key_env": KEY}, "api_key_env of a judge must be the name of an environment variable"),
        ({"base_url": "localhost:8000/v1"}, "base_url of a judge must be .*, not 'localhost:8000/v1'"),
        (
            {"base_url": f"http://me:{KEY}/@localhost/v1"},
            "base_url of a judge must be .* not percent-encoded",
        ),
        ({"base_url": "http://:8000"}, "base_url of a judge must be"),
        ({"template": "{prompt} {first} or not?"}, "template of a judge lacks {second}"),
        ({"extra": {"stream": True}}, "extra of a judge may hold none of .*; it holds 'stream'"),
        ({"extra": {"stop": {1}}}, "extra of a judge must be plain data"),
        ({"retries": -1}, "retries of a judge must be a whole number, at least 0 .*, not -1"),
        (
            {"concurrency": "8"},
            "concurrency of a judge must be a whole number, at least 1 and at most 1000, not '8'",
        ),
        ({"timeout": 0}, "timeout of a judge must be .* above 0, not 0"),
        ({"requests_per_minute": float("nan")}, "requests_per_minute of a judge must be .* not nan"),
        ({"temperature": -1}, "temperature of a judge must be"),
        ({"max_tokens": 0}, "max_tokens of a judge must be"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        judge_at("http://localhost:1/v1", **arguments)
    assert KEY not in str(error.value)
    assert "\n" not in str(error.value)


def test_one_response_is_no_pair(server: Server) -> None:
    with pytest.raises(ValueError, match="compares two responses; question 1 has one"):
        ask(judge_at(server), Question("q", "a", "b"), Question("q", "a"))
    assert not server.seen


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=r"a judge needs the extra: pip install 'mnpo\[judge\]'"):
        judge_at("http://localhost:1/v1")
