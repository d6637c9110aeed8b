"""A judge over HTTP: what is asked, what is understood, and when it is asked again."""

from __future__ import annotations

import socket

import pytest
from judge_server import Reply, Server, ask, fails, judge_at, says

from mnpo.llm.endpoints import chat as module
from mnpo.llm.oracles.base import Question

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (says("[[A]]"), 1.0),
        (says("The second.\n\n[[b]]"), 0.0),
        (says("Neither: [[C]]."), 0.5),
        (says("[[A]] at first, but no: [[B]]"), 0.0),
        (says("<think>One may say [[A]]</think> [[B]] since [[A]] asks back: [[C]]"), 0.5),
        (says("[[A]] and so on and so", finish="length"), 1.0),
    ],
)
def test_last_mark_is_the_verdict(server: Server, reply: Reply, value: float) -> None:
    server.script(q=[reply])
    assert ask(judge_at(server), Question("q", "a", "b")) == [value]


def test_both_orders_undo_a_preference_for_a_position(server: Server) -> None:
    def win(first: str, second: str) -> float:
        there, back = ask(judge_at(server), Question("q", first, second), Question("q", second, first))
        return (there + 1 - back) / 2

    assert win("good", "bad") == 0.5  # the server always says A
    server.reply = lambda parts, before: says("[[A]]" if parts[1] == "good" else "[[B]]")
    assert win("good", "bad") == 1
    assert win("bad", "good") == 0


def test_question(server: Server) -> None:
    texts = ("{first} {second} {0} {", "{second}}", "{prompt} \\1 \ud83d")
    ask(judge_at(server, extra={"seed": 1, "max_completion_tokens": 9}, max_tokens=None), Question(*texts))
    assert server.seen[-1].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "{first} {second} {0} {|{second}}|{prompt} \\1 ?"}],
        "temperature": 0.0,
        "seed": 1,
        "max_completion_tokens": 9,
    }
    talk = [
        {"role": role, "content": text}
        for role, text in [("user", "Hi"), ("assistant", "Ho"), ("user", "Why?")]
    ]
    ask(judge_at(server, template=None, system="Be fair."), Question(talk, "Because.", "Who knows?"))
    system, asked = server.seen[-1].body["messages"]
    assert system == {"role": "system", "content": "Be fair."}
    order = ("User: Hi\n\nAssistant: Ho\n\nUser: Why?", "Because.", "Who knows?", "[[A]]", "[[B]]", "[[C]]")
    places = [asked["content"].index(part) for part in order]
    assert places == sorted(places)


def test_asks_again_until_there_is_a_verdict(server: Server) -> None:
    troubles = [
        Reply("", hangs_up=True),
        fails(503),
        fails(429, headers={"Retry-After": "0.4"}),
        Reply("<html>"),
        Reply('{"choices": []}'),
        says("I cannot say."),
        says("<think>[[A]] or", finish="length"),
        says("I should end with [[A]], [[B]] or [[C]]", finish="length"),
    ]
    server.script(q=[*troubles, says("[[B]]")])
    assert ask(judge_at(server, retries=len(troubles)), Question("q", "a", "b")) == [0.0]
    times = [seen.time for seen in server.seen]
    assert len(times) == len(troubles) + 1
    assert times[3] - times[2] > 0.39


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (fails(500, "on fire\nbadly"), r"the judge j at http://127\.0\.0\.1:\d+/v1 does not answer: status 500, 'on fire'"),
        (Reply("{", headers={"Content-Type": "text/plain"}), r".* does not answer: it sent no chat completion but '{'"),
        (says("Hm " * 50), r"the judge j gave no verdict \[\[A\]\], \[\[B\]\] or \[\[C\]\]; it said: '(Hm ){26}Hm'"),
        (says(None, finish="length"), r"the judge j gave no verdict .* before it reached max_tokens; it said: ''"),
    ],
)  # fmt: skip
def test_gives_up_after_retries(
    server: Server, monkeypatch: pytest.MonkeyPatch, reply: Reply, message: str
) -> None:
    monkeypatch.setattr(module, "_BACKOFF", 0.1)
    server.script(q=[reply])
    with pytest.raises(ValueError, match=f"^{message}$"):
        ask(judge_at(server, retries=2), Question("q", "a", "b"))
    first, second, third = (seen.time for seen in server.seen)
    if "does not answer" in message:
        assert second - first > 0.07
        assert third - second > 0.14


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_refusal_is_final(server: Server, status: int) -> None:
    server.script(q=[fails(status, "no such model " + "x" * 500)])
    with pytest.raises(ValueError, match=rf"refuses the request: status {status}, 'no such model x{{186}}'$"):
        ask(judge_at(server), Question("q", "a", "b"))
    assert len(server.seen) == 1


@pytest.mark.parametrize("when", ["3600", "Thu, 31 Dec 2099 23:59:59 GMT"])
def test_does_not_sleep_for_hours(server: Server, when: str) -> None:
    server.script(q=[fails(429, "quota", headers={"Retry-After": when})])
    with pytest.raises(ValueError, match=r"status 429, 'quota'; it asks to wait for \d+ seconds$"):
        ask(judge_at(server), Question("q", "a", "b"))
    assert len(server.seen) == 1


def test_nobody_there(server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(ValueError, match=f"^the judge j at {url} does not answer: .*refused"):
            ask(judge_at(url, retries=2), Question("q", "a", "b"))
    server.script(q=[says("[[A]]", seconds=0.8)])
    with pytest.raises(ValueError, match=r"does not answer: no whole answer came within 0\.2 seconds$"):
        ask(judge_at(server, retries=0, timeout=0.2), Question("q", "a", "b"))
