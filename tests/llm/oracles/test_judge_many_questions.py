"""A judge over HTTP that is asked many questions: what is kept, how many at a time, how fast."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from judge_server import CPU, Reply, Server, ask, fails, judge_at, numbered, says

pytestmark = pytest.mark.usefixtures("quiet")


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
    assert time.monotonic() - start < 60  # and not the 100 seconds that one is asked to wait
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
    # Nor does anything wait for what is under way.
    server.reply = lambda parts, before: says("[[A]]", seconds=0.0 if parts[0] == "0" else 20.0)
    answers = judge_at(server, concurrency=3).answer(numbered(50), CPU)
    next(answers)
    time.sleep(0.1)
    answers.close()  # type: ignore[attr-defined]  # a generator
    end = time.monotonic() + 5
    while any(thread.name.startswith("judge") for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_overlap_up_to_the_limit(server: Server) -> None:
    four = threading.Barrier(4)

    def reply(parts: list[str], before: int) -> Reply:
        four.wait(30)
        return says("[[A]]")

    server.reply = reply
    assert ask(judge_at(server, concurrency=4), *numbered(12)) == [1.0] * 12
    assert server.most == 4


def test_rate_limit_counts_repetitions(server: Server) -> None:
    server.reply = lambda parts, before: fails(500) if parts[0] == "3" and not before else says("[[A]]")
    ask(judge_at(server, requests_per_minute=600), *numbered(6))
    times = [seen.time for seen in server.seen]
    assert len(times) == 7
    assert times[-1] - times[0] > 0.7 * 0.6
