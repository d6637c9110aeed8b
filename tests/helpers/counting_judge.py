"""A judge over HTTP that counts what it is asked."""

from __future__ import annotations

import json
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """A judge over HTTP that prefers the longer response, and the first of two equals; it counts questions."""

    questions: Counter[str]
    delay = 0.004
    answer: str | None = None

    def __init__(self) -> None:
        self.questions = Counter()
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def oracle(self) -> str:
        template = r"{prompt}\n###\n{first}\n###\n{second}"
        return (
            f'oracle={{kind: judge, name: judge, model: any, base_url: "{self.address}", template: "{template}", '
            "retries: 0, concurrency: 2}"
        )


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        self.server.questions[question] += 1
        time.sleep(self.server.delay)
        _, first, second = question.split("\n###\n")
        verdict = self.server.answer or ("[[A]]" if len(first) >= len(second) else "[[B]]")
        message = {"role": "assistant", "content": verdict}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "any",
                 "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass
