"""A server on the loopback that answers a judge's requests as each test scripts it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

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
    raw: Callable[[socket.socket], None] | None = None


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


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server while the block runs."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


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
        assert self.path.endswith("/v1/chat/completions")  # a proxy is told the whole address
        reply = server.reply(parts, before)
        time.sleep(reply.seconds)
        with server.lock:  # before the client can have the answer and send the next request
            server.active -= 1
        if reply.raw is not None:
            self.close_connection = True
            reply.raw(self.connection)
            return
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
