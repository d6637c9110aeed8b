"""A judge over HTTP against a server on the loopback that answers as each test scripts it."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch

from mnpo.llm.oracles import judge as module
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.judge import Judge

CPU = torch.device("cpu")
#: Lets a script tell the parts of a question apart.
TERSE = "{prompt}|{first}|{second}"
KEY = "sk-secret-0123456789"


class Reply(NamedTuple):
    text: str
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    seconds: float = 0.0
    hangs_up: bool = False


class Seen(NamedTuple):
    time: float
    prompt: str
    authorization: str | None
    body: dict[str, Any]


def says(content: str | None, finish: str = "stop", **more: Any) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return Reply(json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}), **more)


def fails(status: int, message: str = "not now", **more: Any) -> Reply:
    return Reply(json.dumps({"error": {"message": message, "type": "x"}}), status, **more)


class Server(ThreadingHTTPServer):
    """Replies as `reply` says, given the parts of a question and how often its prompt was asked before."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply: Callable[[list[str], int], Reply] = lambda parts, before: says("[[A]]")
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.active = self.most = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that no longer waits

    def script(self, **replies: list[Reply]) -> None:
        """Give each prompt its replies in turn, the last one for good."""
        self.reply = lambda parts, before: replies[parts[0]][min(before, len(replies[parts[0]]) - 1)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = body["messages"][-1]["content"].split("|")
        with server.lock:
            before = sum(seen.prompt == parts[0] for seen in server.seen)
            server.seen.append(Seen(time.monotonic(), parts[0], self.headers["Authorization"], body))
            server.active += 1
            server.most = max(server.most, server.active)
        assert self.path == "/v1/chat/completions"
        reply = server.reply(parts, before)
        time.sleep(reply.seconds)
        with server.lock:  # before the client can have the answer and send the next request
            server.active -= 1
        if reply.hangs_up:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        data = reply.text.encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(module, "_BACKOFF", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def judge_at(server: Server | str, **arguments: Any) -> Judge:
    url = server if isinstance(server, str) else server.url
    return Judge(**{"name": "j", "model": "m", "base_url": url, "template": TERSE, **arguments})


def ask(judge: Judge, *questions: Question) -> list[float]:
    """Answers in the order of the questions."""
    answers = [answer for batch in judge.answer(questions, CPU) for answer in batch]
    assert sorted(place for place, _ in answers) == list(range(len(questions)))
    return [value for _, value in sorted(answers)]


def numbered(count: int) -> list[Question]:
    return [Question(str(place), "a", "b") for place in range(count)]


# --- what is asked and what is understood ---------------------------------------------------------------------


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


# --- retries --------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"does not answer: nothing came within 0\.2 seconds$"):
        ask(judge_at(server, retries=0, timeout=0.2), Question("q", "a", "b"))


# --- many questions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [fails(400), Reply("", hangs_up=True)], ids=["refuses", "goes down"])
def test_answers_before_a_failure_are_kept_and_nothing_is_asked_twice(server: Server, failure: Reply) -> None:
    questions = numbered(20)
    down = threading.Event()

    def reply(parts: list[str], before: int) -> Reply:
        if parts[0] == "5":
            down.set()
        if parts[0] == "5" or (failure.hangs_up and down.is_set()):
            return failure
        # One waits to be asked again for longer than this test may take; the others are slower than the failure.
        return fails(503, headers={"Retry-After": "100"}) if parts[0] == "2" else says("[[B]]", seconds=0.15)

    server.reply = reply
    kept: dict[int, float] = {}
    start = time.monotonic()
    answers = judge_at(server, concurrency=4, retries=1).answer(questions, CPU)
    with pytest.raises(ValueError, match="refuses" if failure.status == 400 else "does not answer"):
        kept.update(answer for batch in answers for answer in batch)
    assert time.monotonic() - start < 2
    asked = Counter(seen.prompt for seen in server.seen)
    served = {int(prompt) for prompt in asked} - {2, 5}
    if failure.status == 400:
        assert kept.keys() == served
        assert set(asked.values()) == {1}
    assert kept.keys() >= {0, 1, 3}
    assert len(asked) < 10
    server.reply = lambda parts, before: says("[[B]]")
    missing = [question for place, question in enumerate(questions) if place not in kept]
    ask(judge_at(server), *missing)
    assert all(sum(seen.prompt == str(place) for seen in server.seen) == 1 for place in kept)


def test_closing_early_asks_no_more(server: Server) -> None:
    server.reply = lambda parts, before: says("[[A]]", seconds=0.02)
    answers = judge_at(server, concurrency=2).answer(numbered(50), CPU)
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator
    time.sleep(0.3)
    assert len(server.seen) <= 4


def test_requests_overlap_up_to_the_limit(server: Server) -> None:
    four = threading.Barrier(4)

    def reply(parts: list[str], before: int) -> Reply:
        four.wait(2)
        return says("[[A]]")

    server.reply = reply
    assert ask(judge_at(server, concurrency=4), *numbered(12)) == [1.0] * 12
    assert server.most == 4


def test_rate_limit_counts_repetitions(server: Server) -> None:
    server.reply = lambda parts, before: fails(500) if parts[0] == "3" and not before else says("[[A]]")
    ask(judge_at(server, requests_per_minute=600), *numbered(6))
    times = [seen.time for seen in server.seen]
    assert len(times) == 7
    assert 0.7 * 0.6 < times[-1] - times[0] < 2


# --- keys and addresses ---------------------------------------------------------------------------------------


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
        ({"retries": -1}, "retries of a judge must be a whole number, at least 0, not -1"),
        ({"concurrency": "8"}, "concurrency of a judge must be a whole number, at least 1, not '8'"),
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
