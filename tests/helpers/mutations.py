"""Valid files made hostile, for the readers of any format.

`mutated` works on bytes: flipped, cut, doubled, swapped, and words of the format put in. `reshaped` works on plain data
that stand in a file as JSON (or YAML, which JSON is): at any depth another value, another key, nested, left out.
`fuzz` hands them to a reader, which returns what is valid or refuses in one short line that names the file.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mnpo.cli.main import LONGEST, _one_line

#: Words of a format that mean something in the wrong place.
JSON_WORDS = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"1.5",
    b"1" * 30, b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b'""', b"\\ud800", b"\\u0000", b"\n", b"\r", b"\x00",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\x28", b"\xe2\x80\xa8",
)  # fmt: skip
TABLE_WORDS = (
    b",", b";", b"\t", b'"', b'""', b"#", b"\n", b"\r", b"\r\n", b"\x00", b"nan", b"inf", b"-inf", b"1e999", b"-1",
    b"0.5", b"1_0", b"0x1p3", b" ", b"a", b"x,y", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\x28", b"\xc2\xa0",
    b"1" * 400, b"x" * 140_000,
)  # fmt: skip
#: What a place in plain data may hold in place of what it should.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, -1, 10**6, 10**9, 2**63, 10**400, 0.0, 0.5, -0.5, 1.5, 1e-320, 1e308, 5e-324,
    float("nan"), float("inf"), -float("inf"), "", "1", "nan", "\ud800", "\x00", "\x1b[31m", "a\nb", "x" * 100_000, [],
    [[]], {}, {"": None}, [None], [0.5, "0.5"], [True, False], [[0.5], [0.5, 0.5]], [1e308, 1e308],
)  # fmt: skip


@st.composite
def mutated(draw: Any, seeds: Sequence[bytes], words: Sequence[bytes] = JSON_WORDS) -> bytes:
    """Draw a valid file to which something was done one to six times."""
    content = draw(st.sampled_from(seeds))
    place = st.integers(0, 1 << 20)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(place) % (len(content) + 1)
        end = min(len(content), at + draw(st.sampled_from([1, 1, 2, 4, 16, 64, 4096])))
        part = content[at:end]
        match draw(
            st.sampled_from(["flip", "cut", "keep", "double", "swap", "word", "word", "many", "byte"])
        ):
            case "flip":
                part = bytes([part[0] ^ (1 << draw(st.integers(0, 7)))]) + part[1:] if part else part
            case "cut":
                part = b""
            case "keep":
                content, part = content[:end], content[at:end]
            case "double":
                part = part * draw(st.sampled_from([2, 2, 3, 100]))
            case "swap":
                part = part[len(part) // 2 :] + part[: len(part) // 2]
            case "word":
                part = draw(st.sampled_from(words)) + part
            case "many":
                part = draw(st.sampled_from(words))[:64] * draw(st.sampled_from([2, 50, 1000]))
            case "byte":
                part = bytes([draw(st.integers(0, 255))]) + part[1:]
        content = content[:at] + part + content[end:]
    return content


@st.composite
def reshaped(draw: Any, seeds: Sequence[Any], keys: Sequence[str] = (), *, lines: bool = False) -> bytes:
    """Draw the JSON of valid plain data in which one to three places hold something else.

    Args:
        draw: hypothesis's.
        seeds: valid data.
        keys: names of keys that are put in where an object is.
        lines: whether each entry of a seed, which is a list, is a line of its own.
    """
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from(list(_places(data))))
        data = _with(data, where, lambda found: _changed(draw, found, keys))
    if lines:
        rows = data if isinstance(data, list) else [data]
        return "\n".join(json.dumps(row) for row in rows).encode()
    return json.dumps(data).encode()


def _changed(draw: Any, found: Any, keys: Sequence[str]) -> Any:
    how = draw(st.sampled_from(["odd", "odd", "nest", "bare", "more", "fewer", "scale"]))
    if how == "nest":
        for _ in range(draw(st.sampled_from([1, 2, 200]))):
            found = [found]
        return found
    if how == "bare" and isinstance(found, list) and found:
        return found[0]
    if how == "more" and isinstance(found, list):
        return found + [found[-1] if found else None] * draw(st.sampled_from([1, 3, 300]))
    if how == "more" and isinstance(found, dict):
        return {
            **found,
            draw(st.sampled_from([*keys, "", "a\nb", "\ud800", "[red]"])): draw(st.sampled_from(ODD)),
        }
    if how == "fewer" and isinstance(found, list | dict) and found:
        if isinstance(found, list):
            return found[:-1]
        left = draw(st.sampled_from(sorted(found)))
        return {key: value for key, value in found.items() if key != left}
    if (
        how == "scale"
        and isinstance(found, int | float)
        and abs(found) < 1e300
        and not isinstance(found, bool)
    ):
        return found * draw(st.sampled_from([-1, 0, 1.000001, 10, 1e9, 1e300]))
    return draw(st.sampled_from(ODD))


def _places(data: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield where
    if len(where) < 8 and isinstance(data, list | dict):
        for key in data if isinstance(data, dict) else range(min(len(data), 8)):
            yield from _places(data[key], (*where, key))


def _with(data: Any, where: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Return a copy of data whose place is changed."""
    if not where:
        return change(data)
    copied = dict(data) if isinstance(data, dict) else list(data)
    copied[where[0]] = _with(data[where[0]], where[1:], change)
    return copied


def fuzz(
    contents: st.SearchStrategy[bytes],
    path: Path,
    read: Callable[[Path], Any],
    check: Callable[[Any], None],
    *,
    examples: int = 200,
    seconds: float | None = None,
) -> tuple[int, int]:
    """Have a reader read mutated files, and assert that it refuses them as it must or that what it returns is valid.

    Args:
        contents: what stands in the file.
        path: of the file, written anew for each.
        read: the reader.
        check: asserts that what was read is valid.
        examples: how many files, always the same.
        seconds: for how long, other files in each round, in place of a number.

    Returns:
        How many files were tried, and how many of them were read.
    """
    tried, taken, largest = 0, 0, 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def one(content: bytes) -> None:
        nonlocal tried, taken, largest
        path.write_bytes(content)
        largest = max(largest, len(content))
        tried += 1
        taken += read_or_refused(path, read, check)

    def round_of(count: int, number: int | None) -> None:
        test = given(content=contents)(lambda content: one(content))
        checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
        test = settings(
            max_examples=count, derandomize=number is None, database=None, deadline=None,
            suppress_health_check=checks, phases=[Phase.explicit, Phase.generate, Phase.shrink],
        )(test)  # fmt: skip
        (test if number is None else seed(number)(test))()

    if seconds is None:
        round_of(examples, None)
    else:
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            round_of(500, number)
            number += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) / 2**20
    assert grown < 1 + 64 * largest / 2**30, f"reading files of up to {largest} bytes took {grown:.1f} GiB"
    return tried, taken


def read_or_refused(path: Path, read: Callable[[Path], Any], check: Callable[[Any], None]) -> bool:
    """Read a file and tell whether it was taken; assert that a refusal is one short line that names the file."""
    refusal: Exception | None = None
    try:
        with _computing(2.0):
            found = read(path)
    except (ValueError, OSError) as error:
        refusal = error
    if refusal is not None:
        line = _one_line(refusal)
        assert path.name in line, f"{type(refusal).__name__} does not name the file: {line[:300]}"
        assert "\n" not in str(refusal), f"several lines: {str(refusal)[:300]!r}"
        assert len(line) <= LONGEST + 10, f"{len(line)} characters: {line[:600]}"
        return False
    check(found)
    return True


def seconds_to_fuzz(parts: int) -> float:
    """Return for how long each of several long tests fuzzes: `MNPO_FUZZ_SECONDS` in all, or a minute."""
    return float(os.environ.get("MNPO_FUZZ_SECONDS", "60")) / parts


@contextmanager
def _computing(seconds: float) -> Iterator[None]:
    """Fail where the block computes for longer, whatever else the machine does meanwhile."""

    def ring(*_: object) -> None:
        raise AssertionError(f"computes for more than {seconds:g} s")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
