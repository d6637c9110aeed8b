"""Chat completions of a model behind an OpenAI-compatible endpoint: many at a time, repeated where that helps."""

from __future__ import annotations

import itertools
import json
import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, TypeVar

from mnpo.llm.data.formats import Message, first_line
from mnpo.llm.endpoints.addresses import (
    Address,
    Limiter,
    Stopped,
    api_key,
    message_of,
    retry_after,
    sleep,
)
from mnpo.llm.endpoints.exchange import Arrived, Exchange, NoAnswer

#: Seconds before the first repetition; doubled for each further one, up to 64 times as long.
_BACKOFF = 1.0
#: Seconds of Retry-After beyond which an endpoint counts as not there.
_LONGEST_WAIT = 120.0
#: Statuses besides 5xx after which the same request may succeed.
_PASSING = (408, 409, 429)
#: Requests at a time, each with a thread of its own, and the fewest in a minute.
_MOST_AT_ONCE, _SLOWEST = 1000, 0.001
#: Words in the error of a request that an endpoint's filter stops: the request is refused, not wrong.
_FILTERS = ("content_filter", "content_policy", "content management policy")
_OURS = ("model", "messages", "temperature", "max_tokens", "stream")
#: Characters from which on a key is told from a word, and taken out of what a model said too.
_KEY = 8
#: Not the shared generator: threads that draw from it would change what a seed gives.
_JITTER = random.Random()
Answer = TypeVar("Answer")


class Request(NamedTuple):
    """A conversation that is to be answered, and fields of this request alone."""

    messages: Sequence[Message]
    fields: Mapping[str, Any] = {}  # never changed


class Reply(NamedTuple):
    """An answer.

    Attributes:
        text: what was said.
        cut: whether `max_tokens` cut it off.
        refused: whether the model, or the endpoint's filter, refused to answer; the text then says how.
        tokens: the alternatives to its first token with their log-probabilities, where the endpoint gave some.
        tries: requests that it took.
    """

    text: str
    cut: bool = False
    refused: bool = False
    tokens: Mapping[str, float] | None = None
    tries: int = 1


class Trouble(Exception):
    """What went wrong, and whether the endpoint needs time: the seconds it asks for, and whether to back off."""

    def __init__(self, message: str, *, wait: float = 0.0, backs_off: bool = True) -> None:
        super().__init__(message)
        self.wait = wait
        self.backs_off = backs_off


class Chat:
    """A model behind an endpoint."""

    def __init__(
        self,
        *,
        name: str,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        temperature: float | None = 0.0,
        max_tokens: int | None = 512,
        retries: int = 5,
        timeout: float = 60.0,
        requests_per_minute: float | None = None,
        concurrency: int = 8,
        extra: dict[str, Any] | None = None,
        role: str = "judge",
    ) -> None:
        """Prepare a client; nothing is asked yet.

        Args:
            name: how results call it.
            model: the name that the endpoint serves it under.
            base_url: of the endpoint, up to /v1; $OPENAI_BASE_URL or the client's default unless given.
            api_key_env: the environment variable that holds the key; a loopback address needs none.
            temperature: None leaves it out of the request, for models that accept no other than their own.
            max_tokens: of an answer. A model that reasons first needs thousands; None leaves it out, for
                endpoints that call it otherwise (then `extra={"max_completion_tokens": ..}`).
            retries: how often a question is asked again, whatever went wrong.
            timeout: seconds that an answer may take, from connecting to its last byte.
            requests_per_minute: of this process, repetitions included, evenly spaced.
            concurrency: requests at a time.
            extra: further fields of the request.
            role: what errors call it.

        Raises:
            ValueError: an argument out of range, no key, or the openai package is missing.
        """
        self._role = role
        for label, text in (("name", name), ("model", model), ("api_key_env", api_key_env)):
            good = isinstance(text, str) and text != "" and text.isprintable()
            self._check(good, label, text, "a name")
        given = base_url is None or isinstance(base_url, str)
        self._check(given, "base_url", base_url, "a text, or none")
        self._check_whole("retries", retries, least=0)
        self._check_whole("concurrency", concurrency, least=1, most=_MOST_AT_ONCE)
        if max_tokens is not None:
            self._check_whole("max_tokens", max_tokens, least=1)
        self._check(_is_number(timeout) and timeout > 0, "timeout", timeout, "a number of seconds above 0")
        if requests_per_minute is not None:
            good = _is_number(requests_per_minute) and requests_per_minute >= _SLOWEST
            accepted = f"a number, at least {_SLOWEST:g}, or none"
            self._check(good, "requests_per_minute", requests_per_minute, accepted)
        if temperature is not None:
            good = _is_number(temperature) and temperature >= 0
            self._check(good, "temperature", temperature, "a number, at least 0, or none")
        good = extra is None or isinstance(extra, dict)
        self._check(good, "extra", extra, "fields with their values, or none")
        self.name, self.model = name, model
        self.temperature = None if temperature is None else float(temperature)
        self.max_tokens = max_tokens
        self.extra = self._plain(extra or {})
        self._retries = retries
        self._timeout = timeout
        self._concurrency = concurrency
        self._limiter = Limiter(0.0 if requests_per_minute is None else 60 / requests_per_minute)

        address = Address.of(base_url)
        key = api_key(api_key_env, address.loopback)
        self._secrets = sorted(address.secrets | ({key} - {""}), key=len, reverse=True)
        try:
            # Retries are ours alone: they count against the rate limit, they end when another question has
            # failed, and an answer without a verdict is one of them.
            self._exchange = Exchange(address, key or "none", timeout)
        except ModuleNotFoundError:
            raise ValueError(f"a {role} needs the extra: pip install 'mnpo[judge]'") from None
        except Exception as error:  # a URL or a proxy of the environment that the client cannot use
            raise ValueError(
                f"the {role} {name} cannot be reached: {self.clean(first_line(error))}"
            ) from None
        self.url = self.clean(self._exchange.url.rstrip("/"))

    def key(self) -> dict[str, Any]:
        """Return what the answers depend on; neither the API key nor a user and password of the URL."""
        return {
            "model": self.model,
            "base_url": self.url,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "extra": dict(self.extra),
        }

    def each(
        self, count: int, request: Callable[[int], Request], read: Callable[[Reply], Answer]
    ) -> Iterator[tuple[int, Answer]]:
        """Ask up to `concurrency` questions at a time; yield each answer as it arrives, in any order.

        After a failure nothing more is asked; what is under way is awaited and yielded before the error.

        Args:
            count: of questions.
            request: makes the one with a number.
            read: makes something of a reply; raises `Trouble` where it should be asked for again.

        Raises:
            ValueError: an endpoint that is not there, refuses the request, or gives no answer that can be read,
                however often it is asked.
        """
        # Only as many as can run are handed to the pool, so a caller that is slow or gone does not pay for more.
        waiting = iter(range(count))
        running: dict[Future[Answer], int] = {}
        failure: Exception | None = None
        stop = threading.Event()
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix=self._role)
        try:
            while True:
                arrived: list[tuple[int, Answer]] = []
                for future in [future for future in running if future.done()]:
                    place = running.pop(future)
                    try:
                        arrived.append((place, future.result()))
                    except Stopped:
                        pass
                    except Exception as error:
                        failure = failure or error
                if failure is None:
                    for place in itertools.islice(waiting, self._concurrency - len(running)):
                        running[pool.submit(self._ask, request, place, read, stop)] = place
                yield from arrived
                if not running:
                    break
                wait(running, return_when=FIRST_COMPLETED)
        finally:
            stop.set()
            self._exchange.give_up()  # of what is still under way, if nobody reads on
            pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure

    def clean(self, text: str) -> str:
        """Return a text without the key, and without users and passwords of the URL and of proxies."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _said(self, text: str) -> str:
        """Return what a model said, as text that can be written to a file: without the key, and valid Unicode."""
        for secret in self._secrets:
            if len(secret) >= _KEY:
                text = text.replace(secret, "***")
        return text.encode("utf-8", "replace").decode()

    def _ask(
        self,
        request: Callable[[int], Request],
        place: int,
        read: Callable[[Reply], Answer],
        stop: threading.Event,
    ) -> Answer:
        """Ask until there is an answer; a failure stops the other threads too."""
        try:
            messages, fields = request(place)
            # JSON can hold half of a surrogate pair, UTF-8 cannot.
            sent = [
                {**turn, "content": turn["content"].encode("utf-8", "replace").decode()} for turn in messages
            ]
            for attempt in itertools.count():
                self._limiter.wait(stop)
                try:
                    return read(self._request(sent, fields)._replace(tries=attempt + 1))
                except Trouble as trouble:
                    if attempt >= self._retries or trouble.wait > _LONGEST_WAIT:
                        raise ValueError(str(trouble)) from None
                    pause = trouble.wait
                    if trouble.backs_off:
                        pause = max(pause, _BACKOFF * 2 ** min(attempt, 6) * _JITTER.uniform(0.75, 1.0))
                sleep(stop, pause)
            raise AssertionError("unreachable")
        except BaseException:
            stop.set()
            raise

    def _request(self, messages: list[Message], fields: Mapping[str, Any]) -> Reply:
        """Ask once.

        Raises:
            Trouble: it may go better the next time.
            ValueError: it will not.
        """
        ours = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        body = {k: v for k, v in ours.items() if v is not None} | self.extra | dict(fields)
        absent = f"the {self._role} {self.name} at {self.url} does not answer: "
        try:
            arrived = self._exchange.post(self.model, messages, body)
        except NoAnswer as error:
            raise Trouble(absent + self.clean(str(error))[:200]) from None
        if arrived.status // 100 != 2:
            return self._failed(arrived, absent)
        try:
            return self._reply(json.loads(arrived.text))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise Trouble(f"{absent}it sent no chat completion but {self._quote(arrived.text)}") from None

    def _reply(self, completion: Any) -> Reply:
        """Read a chat completion; whatever it raises, it is none."""
        choice = completion["choices"][0]
        content, refusal = choice["message"].get("content"), choice["message"].get("refusal")
        said = content or refusal or ""
        if not isinstance(said, str):
            raise TypeError
        reason = choice.get("finish_reason")
        refused = (not content and bool(refusal)) or reason == "content_filter"
        tokens = _first_token(choice.get("logprobs"))
        if tokens is not None:
            tokens = {self._said(token): value for token, value in tokens.items()}
        return Reply(self._said(said), reason == "length", refused, tokens)

    def _failed(self, arrived: Arrived, absent: str) -> Reply:
        """Say what a status that is no success means; a refusal by the endpoint's filter is an answer.

        Raises:
            Trouble: it may go better the next time.
            ValueError: it will not.
        """
        status, text = arrived.status, arrived.text
        try:
            told = message_of(json.loads(text), text)
        except (ValueError, RecursionError):
            told = text
        if status == 400 and any(word in text for word in _FILTERS):
            return Reply(self._said(told), refused=True)
        if status // 100 == 3:
            where = self._quote(arrived.headers.get("location", "nowhere").partition("?")[0])
            raise ValueError(
                f"the {self._role} {self.name} at {self.url} redirects to {where}, which is not followed; "
                "give the address itself as base_url"
            )
        said = f"status {status}, {self._quote(told)}"
        if status not in _PASSING and status < 500:
            raise ValueError(f"the {self._role} {self.name} at {self.url} refuses the request: {said}")
        pause = retry_after(arrived.headers)
        if pause > _LONGEST_WAIT:
            said += f"; it asks to wait for {pause:.0f} seconds"
        raise Trouble(absent + said, wait=pause)

    def _quote(self, text: str) -> str:
        """The first line of what an endpoint said, for an error message."""
        return repr((self.clean(text).strip().splitlines() or [""])[0][:200])

    def _check(self, good: bool, name: str, value: object, accepted: str) -> None:
        if not good:
            raise ValueError(f"{name} of a {self._role} must be {accepted}, not {value!r}")

    def _check_whole(self, name: str, value: object, least: int, most: int = 10**9) -> None:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        self._check(good, name, value, f"a whole number, at least {least} and at most {most}")

    def _plain(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        for name in _OURS:
            if name in extra:
                raise ValueError(
                    f"extra of a {self._role} may hold none of {', '.join(_OURS)}; it holds {name!r}"
                )
        try:
            text = json.dumps(extra, allow_nan=False, ensure_ascii=False)
            return dict(json.loads(text.encode()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra of a {self._role} must be plain data: {first_line(error)}") from None


def _first_token(given: Any) -> dict[str, float] | None:
    """Return the alternatives to an answer's first token, as OpenAI sends them; None where it did not."""
    try:
        first = given["content"][0]
        listed = first.get("top_logprobs") or [first]
        found = {str(one["token"]): float(one["logprob"]) for one in listed}
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return found if found and all(value <= 1e-6 for value in found.values()) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
