"""What a judge over HTTP can send that is no answer: each lie by name, with what the line then says."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterable

from judge_server import KEY, Reply, fails, says

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LONG = HEAD + b"Content-Length: 1000000000000\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
#: Judges' answer, compressed: small where it travels, large where it is read.
BOMB = gzip.compress(b" " * 10_000_000)
#: Seconds for which a lie lasts at most, should nobody go away.
_LASTS = 20.0


def sends(parts: Iterable[bytes], pause: float = 0.0) -> Reply:
    """Sends parts until there are no more, or the other side has gone, and closes."""

    def raw(connection: socket.socket) -> None:
        end = time.monotonic() + _LASTS
        try:
            for part in parts:
                if time.monotonic() > end:
                    return
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass

    return Reply("", raw=raw)


def drips(head: bytes, drop: bytes) -> Reply:
    return sends(itertools.chain([head], itertools.repeat(drop)), pause=0.02)


def floods(head: bytes, flood: bytes) -> Reply:
    return sends(itertools.chain([head], itertools.repeat(flood)))


def redirects(status: int, where: str) -> Reply:
    return Reply("", status, {"Location": where})


_CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
_DEEP = "[" * 100_000
_TIME = r"no whole answer came within 0\.3 seconds"
_LARGE = r"its answer is larger than 16 MiB"
_NONE = "it sent no chat completion but "

#: Lies after which the same question is asked again.
PASSING: dict[str, tuple[Callable[[], Reply], str]] = {
    "drips its answer": (lambda: drips(LONG, b" "), _TIME),
    "drips chunks": (lambda: drips(CHUNKED, b"1\r\n \r\n"), _TIME),
    "drips its head": (lambda: drips(HEAD, b"X"), _TIME),
    "drips heads": (lambda: drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), _TIME),
    "drips an error": (lambda: drips(LONG.replace(b"200 OK", b"500 No"), b" "), _TIME),
    "says nothing": (lambda: sends([b""], pause=1), _TIME),
    "sends gigabytes": (lambda: floods(LONG, b" " * 2**20), _LARGE),
    "sends chunks without end": (lambda: floods(CHUNKED, _CHUNK), _LARGE),
    "sends an error without end": (lambda: floods(LONG.replace(b"200 OK", b"400 No"), b" " * 2**20), _LARGE),
    "sends a head without end": (lambda: floods(HEAD + b"X: ", b" " * 2**20), ".*"),
    "sends a bomb": (
        lambda: sends([LONG[:-2] + b"Content-Encoding: gzip\r\n\r\n", BOMB]),
        r"its answer is compressed \('gzip'\), which was not asked for",
    ),
    "sends a bomb as an error": (
        lambda: sends([LONG.replace(b"200 OK", b"500 No")[:-2] + b"Content-Encoding: br\r\n\r\n", BOMB]),
        r"its answer is compressed \('br'\), which was not asked for",
    ),
    "hangs up": (lambda: Reply("", hangs_up=True), ".*"),
    "hangs up in its head": (lambda: sends([HEAD]), ".*"),
    "hangs up in its answer": (lambda: sends([LONG, b'{"choices": [']), ".*"),
    "hangs up in a chunk": (lambda: sends([CHUNKED, b"ff\r\n{"]), ".*"),
    "is no web server": (lambda: sends([b"SSH-2.0-OpenSSH_9.6\r\n"]), ".*"),
    "is on fire": (lambda: fails(500, "on fire"), "status 500, 'on fire'"),
    "tells half": (lambda: Reply('{"choices": [{"mess'), _NONE + ".*"),
    "tells another half": (lambda: Reply('{"choices": [{"message": "[[A]]"}]}'), _NONE + ".*"),
    "answers with a list": (lambda: Reply("[[]]"), _NONE + ".*"),
    "answers with a number": (lambda: says(7), _NONE + ".*"),  # type: ignore[arg-type]  # so it lies
    "nests": (lambda: Reply(_DEEP), _NONE + ".*"),
    "nests its error": (lambda: fails(503, "x")._replace(text=_DEEP), "status 503, '.*"),
    "is empty": (lambda: Reply("", 204), ".*"),
    "has other words": (lambda: Reply("<p>[[A]]", headers={"Content-Type": "text/html"}), _NONE + ".*"),
    "wants patience": (lambda: fails(429, "slow", headers={"Retry-After": "-5"}), "status 429, 'slow'"),
    "wants nonsense": (lambda: fails(429, "slow", headers={"Retry-After": "nan, 1"}), "status 429, 'slow'"),
    "wants the past": (
        lambda: fails(429, "slow", headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 -0000"}),
        "status 429, 'slow'",
    ),
}  # fmt: skip

#: Lies after which nothing more is asked.
FINAL: dict[str, tuple[Callable[[], Reply], str]] = {
    "wants an eternity": (
        lambda: fails(429, "slow", headers={"Retry-After": "1e999"}),
        "status 429, 'slow'; it asks to wait for inf seconds",
    ),
    "wants a century": (
        lambda: fails(503, "slow", headers={"Retry-After": "Thu, 31 Dec 2099 23:59:59 GMT"}),
        r"status 503, 'slow'; it asks to wait for \d+ seconds",
    ),
    "sends elsewhere": (
        lambda: redirects(307, f"https://elsewhere.example/{KEY}/v1?key={KEY}"),
        r"redirects to 'https://elsewhere\.example/\*\*\*/v1', which is not followed; give the address itself .*",
    ),
    "sends around": (lambda: redirects(308, "/v2/chat/completions"), "redirects to '/v2/chat/completions', .*"),
    "sends nowhere": (lambda: Reply("", 302), "redirects to 'nowhere', .*"),
}  # fmt: skip

#: What is odd and yet an answer: [[A]].
ODD: dict[str, Callable[[], Reply]] = {
    "no JSON by its name": lambda: says("[[A]]", headers={"Content-Type": "image/png"}),
    "a text that unpacks itself": lambda: says("[[A]]", headers={"Content-Type": "application/json; charset=zlib"}),
    "no Unicode": lambda: sends([HEAD + b"\r\n", json.dumps({"choices": [
        {"message": {"content": "? [[A]]"}}]}).encode().replace(b"?", b"\xff\xfe")]),
    "half a character": lambda: says("\ud83d [[A]]"),
    "a number beyond all": lambda: Reply(says("[[A]]").text.replace('"index": 0', '"logprobs": {"content": '
        '[{"token": "A", "logprob": 1%s}]}' % ("0" * 400))),
}  # fmt: skip
