"""All judged benchmarks on real questions with a small model and a judge that goes by a rule: does it all run, and
how long does it take?

    python benchmarks/llm_judged.py DATA MODEL [QUESTIONS]

DATA holds the published files of MT-Bench and Arena-Hard; MODEL is a folder. AlpacaEval's instructions are not
among them: the questions of Arena-Hard stand in for them, with the same baseline. The judge runs on the loopback
and prefers, or rates higher, what shares more words with the question; that says nothing about a model.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mnpo.llm.benchmarks.suites import configured
from mnpo.llm.runtime.progress import quiet
from mnpo.llm.stages.running import run_stage

#: Where judge prompts of our own put their parts.
_PART = re.compile(r"--- ([^\n]*) [0-9a-f]{16} ---\n(.*?)(?=\n--- |\Z)", re.DOTALL)


class Rule(BaseHTTPRequestHandler):
    """A judge that counts words."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one question."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = _verdict(body["messages"][-1]["content"])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        data = json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _verdict(content: str) -> str:
    parts = dict(_PART.findall(content))
    question = _words(parts.get("Second request", parts.get("Request", "")))
    answers = [text for name, text in parts.items() if "answer" in name.lower() and "Right" not in name]
    shares = [len(question & _words(text)) / max(len(question), 1) for text in answers]
    if "[[n]]" in content:
        return f"[[{1 + round(9 * shares[-1])}]]"
    first, second = shares
    if "m or M" in content:
        return "m" if first >= second else "M"
    gap = first - second
    mark = (
        "A=B" if gap == 0 else f"A{'>' * (1 + (gap > 0.3))}B" if gap > 0 else f"B{'>' * (1 + (gap < -0.3))}A"
    )
    return f"[[{mark}]]"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w{4,}", text.lower()))


def main(data: str, model: str, count: str = "4") -> None:
    """Run the three, print what each took."""
    quiet()
    with ThreadingHTTPServer(("127.0.0.1", 0), Rule) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = Path(data)
        hard, base = (
            found / "arena_hard_v0.1_questions.jsonl.gz",
            found / "arena_hard_v0.1_gpt-4-0314.jsonl.gz",
        )
        files = {
            "mt-bench": [
                f"questions={found.parent / 'mt_bench_prompts.jsonl'}",
                f"references={found / 'mt_bench_reference_gpt-4.jsonl'}",
            ],
            "alpaca-eval-2": [f"questions={hard}", f"baselines={base}"],
            "arena-hard": [f"questions={hard}", f"baselines={base}"],
        }
        for suite, words in files.items():
            start = time.monotonic()
            config = configured(
                suite,
                [f"model={{name: small, model: '{model}'}}",
                 f"judge={{model: rule, base_url: 'http://127.0.0.1:{server.server_address[1]}/v1'}}",
                 f"most_questions={count}", "max_new_tokens=128", "use_cpu=true", "output_dir=runs/judged", *words],
            )  # fmt: skip
            row = run_stage("benchmark", config).as_dict()["suites"][suite]["models"]["small"]
            value = next(f"{key} {row[key]:.2f}" for key in ("win_rate", "score") if key in row)
            counts = ", ".join(
                f"{row.get(key, 0)} {key}" for key in ("asked", "reused", "unparsed", "refused")
            )
            print(
                f"{suite}: {value}; {count} questions, {counts}; {time.monotonic() - start:.0f} s", flush=True
            )
        server.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
