"""Putting conversations to an endpoint: each is asked once, and what was answered is kept by content."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from mnpo.common.digests import bytes_digest
from mnpo.llm.endpoints.chat import Chat, Reply, Request
from mnpo.llm.models.job import Job
from mnpo.llm.storage.store import Store

#: The folder of a run in which replies are kept.
FOLDER = "replies"


@dataclass(frozen=True)
class Replies:
    """Replies to some requests, and what that took.

    Attributes:
        replies: in the order of the requests.
        asked, reused: requests that were put, and found; equal ones are put once.
        seconds: wall clock.
    """

    replies: list[Reply]
    asked: int
    reused: int
    seconds: float

    @property
    def retried(self) -> int:
        """How many of them had to be asked for more than once."""
        return sum(reply.tries > 1 for reply in self.replies)

    @property
    def refused(self) -> int:
        """How many are refusals."""
        return sum(reply.refused for reply in self.replies)


def ask_all(job: Job, chat: Chat, requests: Sequence[Request]) -> Replies:
    """Put the requests that have no reply yet; the first process asks, for all.

    Args:
        job: what is at work; replies are kept in its output folder, or beside the answers of oracles where several
            runs share these.
        chat: who is asked.
        requests: what; all of them stay in memory.

    Raises:
        ValueError: an endpoint that does not answer; the replies so far are kept.
    """
    start = time.monotonic()
    folder = job.folders.store("answers").parent / FOLDER
    store = Store(folder, {"kind": "chat", **chat.key()}, pa.string())
    digests = [_digest(request) for request in requests]

    def put() -> int:
        known = set(store.load())
        missing = {
            digest: place for place, digest in reversed(list(enumerate(digests))) if digest not in known
        }
        places = sorted(missing.values())
        if not places:
            return 0
        done, report = 0, job.part(f"ask: {chat.name}")
        try:
            with store.writer() as writer:
                for number, reply in chat.each(len(places), lambda k: requests[places[k]], lambda r: r):
                    writer.append([digests[places[number]]], [json.dumps(reply._asdict())])
                    done += 1
                    if report is not None:
                        report(done, len(places))
        except ValueError as error:
            raise unfinished(error, len(places) - done, len(places)) from None
        return len(places)

    asked = job.processes.agree(put)
    kept = store.load()
    found = [Reply(**json.loads(kept[digest])) for digest in digests]
    return Replies(found, asked, len(set(digests)) - asked, time.monotonic() - start)


def unfinished(error: ValueError, left: int, total: int) -> ValueError:
    """Return an error that says how many questions are left, and that nothing is lost."""
    return ValueError(
        f"{error} ({left} of {total} questions are left; what was answered is kept, and the same command goes on)"
    )


def _digest(request: Request) -> bytes:
    return bytes_digest(json.dumps([list(request.messages), dict(request.fields)], sort_keys=True).encode())
