"""One request to an endpoint and its answer: bounded in time and size, and put to nobody else."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from functools import cache
from typing import Any, NamedTuple

from mnpo.llm.data.formats import Message, first_line
from mnpo.llm.endpoints.addresses import Address

#: Bytes of an answer beyond which it is none.
LARGEST = 16 << 20


class Arrived(NamedTuple):
    """An answer as it came: its status, its headers and its text."""

    status: int
    headers: Mapping[str, str]
    text: str


class NoAnswer(Exception):
    """Nothing came that is an answer; says why."""


class _Status(Exception):
    """A status that is no success."""

    def __init__(self, arrived: Arrived) -> None:
        super().__init__(arrived.status)
        self.arrived = arrived


class Exchange:
    """A client of one address. Its requests run beside all threads, where they can be given up at any point."""

    def __init__(self, address: Address, key: str, seconds: float) -> None:
        """Prepare a client.

        Args:
            address: of the endpoint.
            key: the API key.
            seconds: that an answer may take, from connecting to its last byte.

        Raises:
            ModuleNotFoundError: the openai package is missing.
            Exception: an address, or a proxy of the environment, that it cannot use.
        """
        import openai

        self._seconds = seconds
        # Redirects are not followed: they would take the question, and on the same host the key, somewhere else.
        # No compression, for a small answer could become a large one.
        http = openai.DefaultAsyncHttpxClient(
            follow_redirects=False, auth=address.login, event_hooks={"response": [_looked_at]}
        )
        self._client = openai.AsyncOpenAI(
            api_key=key, base_url=address.url, timeout=None, max_retries=0, http_client=http,
            default_headers={"Accept-Encoding": "identity"},
        )  # fmt: skip
        self.url = str(self._client.base_url)
        self._loop = _loop_of(os.getpid())
        self._under_way: set[Future[Arrived]] = set()

    def post(self, model: str, messages: Sequence[Message], fields: Mapping[str, Any]) -> Arrived:
        """Ask for a chat completion; from any thread.

        Raises:
            NoAnswer: the connection fails, the answer is too large, takes too long, or is given up.
        """
        asked = asyncio.wait_for(self._post(model, messages, fields), self._seconds)
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop)
        self._under_way.add(answer)
        try:
            return answer.result()
        except CancelledError:
            raise NoAnswer("nobody waits for its answer") from None
        except TimeoutError:
            raise NoAnswer(f"no whole answer came within {self._seconds:g} seconds") from None
        except Exception as error:
            found = _innermost(error)
            if isinstance(found, _Status):
                return found.arrived
            raise NoAnswer(_reason(found)) from None
        finally:
            self._under_way.discard(answer)

    def give_up(self) -> None:
        """Wait no longer for any answer."""
        for answer in list(self._under_way):
            answer.cancel()

    async def _post(self, model: str, messages: Sequence[Message], fields: Mapping[str, Any]) -> Arrived:
        create: Any = self._client.chat.completions.with_streaming_response.create
        async with create(model=model, messages=messages, extra_body=dict(fields)) as reply:
            text = await _text(reply.iter_bytes())
        return Arrived(reply.status_code, reply.headers, text)


@cache
def _loop_of(process: int) -> asyncio.AbstractEventLoop:
    """Return where the requests of a process run."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="exchange", daemon=True).start()
    return loop


async def _looked_at(response: Any) -> None:
    """Look at the head of an answer, and read it here where it is no success.

    Raises:
        NoAnswer: it is compressed, or too large.
        _Status: it is no success.
    """
    packed = response.headers.get("content-encoding", "identity")
    if packed != "identity":
        raise NoAnswer(f"its answer is compressed ({packed[:20]!r}), which was not asked for")
    if not response.is_success:
        raise _Status(Arrived(response.status_code, response.headers, await _text(response.aiter_raw())))


async def _text(parts: AsyncIterator[bytes]) -> str:
    """Read a text; whatever is announced, JSON is UTF-8."""
    found = bytearray()
    async for part in parts:
        found += part
        if len(found) > LARGEST:
            raise NoAnswer(f"its answer is larger than {LARGEST >> 20} MiB")
    return found.decode("utf-8", "replace")


def _innermost(error: Exception) -> Exception:
    """Return the error that led to others."""
    while not isinstance(error, _Status | NoAnswer):
        inner = (
            error.exceptions[0] if isinstance(error, ExceptionGroup) else error.__cause__ or error.__context__
        )
        if not isinstance(inner, Exception):
            break
        error = inner
    return error


def _reason(error: Exception) -> str:
    """Return in a line why there is no answer."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return first_line(error)
