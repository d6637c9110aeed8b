"""Progress is shown where somebody looks, and never where a program reads."""

import sys

import pytest

from mnpo.common import progress as module
from mnpo.common.progress import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_printed_without_a_terminal(capsys):
    with progress() as report:
        report("work", 1, 2)
    with progress(False, lines=True) as report:
        report("work", 2, 2)
    assert capsys.readouterr() == ("", "")


def test_lines_come_now_and_then_with_the_time_left(capsys, clock):
    clock[0] = 100.0
    with progress(lines=True) as report:
        for done in range(5):
            report("work", done, 4)
            clock[0] += 10.0
    out, err = capsys.readouterr()
    assert out == ""
    # Ten seconds a part: the line after twenty seconds has two parts to go.
    assert err.splitlines() == ["work: 0 of 4", "work: 2 of 4, 20 s left", "work: 4 of 4"]


def test_time_left_is_counted_for_each_group(capsys, clock):
    clock[0] = 100.0
    with progress(lines=True, group=lambda what: what.partition(":")[0]) as report:
        report("first: a", 0, 2)
        clock[0] += 100.0
        report("second: a", 5, 10)
        clock[0] += 20.0
        report("second: b", 6, 10)
    assert capsys.readouterr().err.splitlines()[-1] == "second: b: 6 of 10, 80 s left"


def test_bars_on_a_terminal_are_gone_in_the_end(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(group=lambda what: what[:1]) as report:
        report("a: begun", 0, 2)
        report("b: begun", 0, 3)
        report("a: done", 2, 2)
    assert capsys.readouterr().out == ""
