"""What a client of an endpoint needs besides requests: its address, its key, its pace, and what it says."""

from __future__ import annotations

import email.utils
import ipaddress
import math
import os
import re
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit


class Stopped(Exception):
    """Another question failed, or nobody waits for the answer any more."""


class Limiter:
    """Spaces the requests of all threads evenly."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._free = -math.inf

    def wait(self, stop: threading.Event) -> None:
        """Wait for the next turn; raises `Stopped` as `sleep` does."""
        # The lock is held while waiting: the others would wait longer still, and who stops takes up no turn.
        with self._lock:
            sleep(stop, max(0.0, self._free - time.monotonic()))
            self._free = time.monotonic() + self._interval


def sleep(stop: threading.Event, seconds: float) -> None:
    """Wait some seconds.

    Raises:
        Stopped: nobody waits for the answer any more.
    """
    if stop.wait(seconds):
        raise Stopped


def message_of(body: object, text: str) -> str:
    """Return the message of an error: {"error": {"message": ..}} as OpenAI sends it, or what others make of it."""
    while isinstance(body, Mapping):
        body = next((body[name] for name in ("error", "message", "detail") if body.get(name)), None)
    return body if isinstance(body, str) else text


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a response asks to wait, given as a number or as a date; 0 if it does not."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, TypeError, IndexError):  # all that it raises for what is no date
            return 0.0
    return seconds if seconds > 0 else 0.0


@dataclass(frozen=True)
class Address:
    """Where an endpoint is.

    Attributes:
        url: up to /v1, without user and password; None for the client's default.
        login: user and password, where the address has them.
        secrets: what of it nobody may be told, and the passwords of proxies: as they are written, and decoded.
    """

    url: str | None
    login: tuple[str, str] | None
    secrets: frozenset[str]

    @property
    def loopback(self) -> bool:
        """Whether it is this machine."""
        return self.url is not None and is_loopback(urlsplit(self.url).hostname or "")

    @classmethod
    def of(cls, given: str | None) -> Address:
        """Take an address apart; $OPENAI_BASE_URL, or the client's default, unless given.

        Raises:
            ValueError: no URL of an endpoint; does not repeat one that may hold a password.
        """
        text = os.environ.get("OPENAI_BASE_URL") if given is None else given
        proxies = _secrets_of(map(_split, urllib.request.getproxies().values()))
        if text is None:
            return cls(None, None, proxies)
        url = _split(text)
        if url is None or url.scheme not in ("http", "https") or not url.hostname or "@" in url.path:
            found = "one with a user or password that is not percent-encoded" if "@" in text else repr(text)
        elif url.query or url.fragment:
            found = "one with a query"
        else:
            login = None
            if url.username is not None:
                login = unquote(url.username), unquote(url.password or "")
            place = url._replace(netloc=url.netloc.rpartition("@")[2])
            return cls(urlunsplit(place), login, proxies | _secrets_of([url]))
        raise ValueError(f"base_url of a judge must be http://host:port/v1 or https://host/v1, not {found}")


def _split(address: str) -> SplitResult | None:
    """Take a URL apart; None for one whose host or port are none."""
    try:
        url = urlsplit(address)
        return None if url.port == 0 else url
    except ValueError:
        return None


def _secrets_of(urls: Iterable[SplitResult | None]) -> frozenset[str]:
    """Return users and passwords of URLs, as they are written and decoded."""
    found = {text or "" for url in urls if url is not None for text in (url.username, url.password)}
    return frozenset({*found, *map(unquote, found)} - {""})


#: Keys whose values are secrets, wherever they stand.
_SECRET = re.compile(
    r"api[-_]?key|authorization|password|secret|(access|auth|bearer)[-_]?token", re.IGNORECASE
)


def check_no_secret(spec: object, who: str) -> None:
    """Refuse a specification that holds a key or a password: it would stand in the files of the run.

    Args:
        spec: plain data, with dictionaries and lists in it.
        who: what errors call it.

    Raises:
        ValueError: names the place, and never repeats what it found.
    """
    if isinstance(spec, Mapping):
        for name, value in spec.items():
            if value is not None and name != "api_key_env" and _SECRET.search(str(name)):
                raise ValueError(
                    f"{who}: {name} must not stand in a configuration, which is written to files; give the key in "
                    "the environment, under the name in api_key_env"
                )
            check_no_secret(value, who)
    elif isinstance(spec, list | tuple):
        for value in spec:
            check_no_secret(value, who)
    elif isinstance(spec, str) and "://" in spec:
        url = _split(spec)
        if url is not None and ("@" in url.netloc or url.query):
            raise ValueError(
                f"{who}: a URL must not hold a password or a query, which would stand in the run's files; give the "
                "key in the environment, under the name in api_key_env"
            )


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def api_key(variable: str, loopback: bool) -> str:
    """Return the API key that an environment variable holds; empty where none is needed.

    Raises:
        ValueError: no name of a variable, or one that holds no key; never repeats what it found.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", variable, re.ASCII):
        raise ValueError(
            "api_key_env of a judge must be the name of an environment variable, not a key itself"
        )
    key = os.environ.get(variable, "").strip()
    if not key and not loopback:
        raise ValueError(f"a judge needs an API key in the environment variable {variable}, which is not set")
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"the environment variable {variable} holds no API key: not all of it is printable ASCII"
        )
    return key
