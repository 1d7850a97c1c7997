"""Asks an OpenAI-compatible server for a completion, through the guarded connect and within limits."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx

from origin.http.media_types import media_type_in
from origin.token_relay.completion_request import UpstreamRequest
from origin.token_relay.dialects import CHAT
from origin.token_relay.errors import PASSED_FIELDS, CompletionError, DeadlineError
from origin.token_relay.limits import TokenRelayLimits
from origin.token_relay.sse_reader import DONE, ServerSentEvent, SseError, SseReader
from origin.token_relay.upstream_connection import request_once
from packager.inflation import CODINGS, Inflater
from packager.redaction import PiecewiseRedactor, Redactor, secrets_of
from packager.sources.pullers.guarded_http import certificates, guard_for
from packager.sources.retries import PullError
from packager.step_budget import StepBudget
from packager.threads import SHARED_THREADS

AUTHORIZATION = "authorization"
EVENT_STREAM, JSON = "text/event-stream", "application/json"
UNTYPED = frozenset({"", "text/plain", "application/octet-stream", "application/x-ndjson"})
"""Media types that servers and proxies give streams of events, too; clients don't look at the type."""

_PASSED = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")
"""The value of a field of an error that goes on to the caller."""

PIECE_BYTES = 8 << 10
"""Bytes of a stream that are read before other tasks of the loop may run."""

REDACTED_BYTES = 64 << 10
"""Bytes of an answer from which secrets are removed before other tasks of the loop may run."""

ERROR_BYTES = 64 << 10
"""Most bytes of an upstream server's error that are read."""

ERROR_SECONDS = 5.0
"""Longest time for reading the text of an upstream server's error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """The OpenAI-compatible server that a relay asks: its address and key.

    Attributes:
        key: that it wants; empty for none.
        key_header: the field in which it wants it; in ``Authorization`` it is a Bearer token.
    """

    url: str = field(repr=False)
    key: str = field(default="", repr=False)
    key_header: str = AUTHORIZATION


class Upstream:
    """Sends requests to the OpenAI-compatible server behind a relay.

    Args:
        limits: limits of the server's times and answers.

    Attributes:
        host: of its address, with the port where that isn't the usual one.
    """

    def __init__(self, options: UpstreamOptions, limits: TokenRelayLimits) -> None:
        self.url = options.url
        self.host = host_of(options.url)
        # A query, such as Azure's api-version, is for each address.
        path, self._mark, self._query = options.url.partition("?")
        self._base = path.removesuffix(CHAT.path) if path.endswith(CHAT.path) else None
        self._limits = limits
        # One for all requests: what the name meant at first is how far inside any of them may lead.
        self._guard = guard_for(options.url, limits.guard)
        self._key, self._key_header = "", options.key_header
        self.change_key(options.key)

    def change_key(self, key: str) -> None:
        """Use another key from the next request on; empty for none."""
        # Answers that are under way may still repeat the former one.
        self._redactor = Redactor.of((key, self._key, *secrets_of(self.url)))
        self._key = key
        self._fields = {"content-type": JSON, "accept-encoding": "identity", "user-agent": "Headwater"}
        self._fields |= self._key_field(key)

    def _key_field(self, key: str) -> dict[str, str]:
        if not key:
            return {}
        is_bearer = self._key_header.lower() == AUTHORIZATION
        return {self._key_header: f"Bearer {key}" if is_bearer else key}

    def _redactor_of(self, asked: UpstreamRequest) -> Redactor:
        """Return what removes secrets from an answer: the caller's own key, too, as others may read it."""
        return Redactor.of((asked.key, self._key, *secrets_of(self.url))) if asked.key else self._redactor

    def change_keys(self, keys: Mapping[str, str]) -> None:
        """Use another key where there is one for this server's address."""
        if self.url in keys:
            self.change_key(keys[self.url])

    @property
    def has_base(self) -> bool:
        """Whether the server's other addresses are known, by that of its chat completions."""
        return self._base is not None

    def _address(self, path: str) -> str:
        return self.url if self._base is None else f"{self._base}{path}{self._mark}{self._query}"

    async def stream(
        self,
        asked: UpstreamRequest,
        on_begin: Callable[[], None],
        on_event: Callable[[ServerSentEvent], bool],
    ) -> None:
        """Request a streamed answer from the upstream, and pass each of its events on.

        Args:
            on_begin: called when the server has answered with a stream.
            on_event: called with each event; returns whether more is to come.

        Raises:
            CompletionError: there is no stream, or it broke off. A stream that ends in order has not.
        """
        async with self._asked(asked, EVENT_STREAM) as (response, silence):
            on_begin()
            reader, size, budget = SseReader(self._limits.answer_bytes), 0, StepBudget()
            has_begun, redactor = False, self._redactor_of(asked)
            async with aclosing(self._received(response)) as received:
                async for data in _in_pieces(received, PIECE_BYTES, budget):
                    lines, size = reader.lines, size + len(data)
                    # Comments and empty lines are no events, and would otherwise never end.
                    if size > self._limits.answer_bytes:
                        raise self._too_long()
                    reader.receive_data(data)
                    # A byte now and then is no sign of life, a line is.
                    if reader.lines > lines:
                        silence.reschedule(asyncio.get_running_loop().time() + self._limits.silent_seconds)
                    for event in reader.events():
                        has_begun = True
                        if not on_event(await _redacted(event, redactor, budget)):
                            return
            # Several kinds of servers end their answers without it, or without the blank line behind it.
            unfinished = reader.unfinished
            if unfinished.strip() == DONE:
                on_event(ServerSentEvent("message", DONE))
            elif unfinished or not has_begun:
                told = "within an event" if unfinished else "before its first event"
                raise CompletionError(f"the upstream server's answer ended {told}")

    async def whole(self, asked: UpstreamRequest) -> list[bytes]:
        """Ask for an answer in one piece, which is JSON; return its portions, as copying all would take long.

        Raises:
            CompletionError: there is none.
        """
        async with self._asked(asked, JSON) as (response, _):
            answer = await self._body(response, self._limits.answer_bytes)
            if answer is None:
                raise self._too_long()
            return await _redacted_portions(answer, self._redactor_of(asked))

    def _too_long(self) -> CompletionError:
        most = self._limits.answer_bytes
        return CompletionError(f"the upstream server's answer has more than {most} bytes")

    @contextlib.asynccontextmanager
    async def _asked(
        self, asked: UpstreamRequest, kind: str
    ) -> AsyncIterator[tuple[httpx.Response, asyncio.Timeout]]:
        """Send a request; yield the successful response, and the time-out that ends a silence."""
        limits = self._limits
        try:
            async with (
                asyncio.timeout(limits.answer_seconds),
                asyncio.timeout(limits.silent_seconds) as silence,
                self._sent(asked, kind) as response,
            ):
                await self._judge(response, kind, asked)
                yield response, silence
        except TimeoutError:
            if silence.expired():
                told = f"the upstream server sent nothing for {limits.silent_seconds:g} s"
                raise CompletionError(told, 504) from None
            told = f"the upstream server took more than {limits.answer_seconds:g} s"
            raise DeadlineError(told, 504) from None
        except SseError as error:
            raise CompletionError(f"the upstream server's answer can't be read: {error}") from None
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise CompletionError("the upstream server can't be reached") from None
        except PullError as error:
            raise CompletionError(f"the upstream server may not be asked: {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # Their texts may have the address.
            told = f"the upstream server's answer broke off: {_reason_of(error)}"
            raise CompletionError(told) from None

    @contextlib.asynccontextmanager
    async def _sent(self, asked: UpstreamRequest, kind: str) -> AsyncIterator[httpx.Response]:
        if asked.on_asked is not None:
            asked.on_asked(self.host)
        await SHARED_THREADS.of("", certificates).run(certificates)
        url, headers = self._address(asked.path), {**dict(asked.fields), **self._fields, "accept": kind}
        headers |= self._key_field(asked.key)
        if not asked.body:
            del headers["content-type"]
        request = httpx.Request(asked.method, url, content=asked.body or None, headers=headers)
        if request.url.userinfo and not asked.key:
            # A user and a password of the address go before a key.
            signed = httpx.BasicAuth(request.url.username, request.url.password)
            request = next(signed.sync_auth_flow(request))
        # A redirect isn't followed: it would take the prompt and the key to where nobody has sent them.
        response = await request_once(request, self._guard, self._limits.connect_seconds)
        try:
            yield response
        finally:
            await response.aclose()

    async def _judge(self, response: httpx.Response, kind: str, asked: UpstreamRequest) -> None:
        """Check a response's head.

        Raises:
            CompletionError: it isn't what was asked for.
        """
        status, redactor = response.status_code, self._redactor_of(asked)
        if status != 200:
            body = await self._error_body(response)
            told = f"the upstream server answers {status}"
            named = {name: redactor(response.headers.get(name, "")) for name in PASSED_FIELDS}
            fields = {name: value for name, value in named.items() if _PASSED.fullmatch(value)}
            raise CompletionError(told, status, redactor(body), fields, has_own_key=bool(asked.key))
        found = media_type_in(response.headers.get("content-type", ""))
        if found == JSON != kind:
            # Some servers refuse with 200; an error in JSON says why.
            raise CompletionError(told_of(found, kind), body=redactor(await self._error_body(response)))
        if found != kind and not (kind == EVENT_STREAM and found in UNTYPED):
            raise CompletionError(told_of(found, kind))
        if (coding := _coding_of(response)) not in {"identity", *CODINGS}:
            raise CompletionError(f"the upstream server answers in the coding {coding[:50]!r}")

    async def _error_body(self, response: httpx.Response) -> str:
        with contextlib.suppress(TimeoutError, httpx.HTTPError, UnicodeDecodeError):
            async with asyncio.timeout(ERROR_SECONDS):
                return b"".join(await self._body(response, ERROR_BYTES) or ()).decode()
        return ""

    async def _body(self, response: httpx.Response, most: int) -> list[bytes] | None:
        """Receive a body in portions; None where it is longer than may be."""
        body, last, size = list[bytes](), bytearray(), 0
        async with aclosing(self._received(response)) as received:
            async for data in received:
                # A portion of each of a server's chunks would take forty times the memory of one byte.
                last += data
                size += len(data)
                if size > most:
                    return None
                if len(last) >= REDACTED_BYTES:
                    body.append(bytes(last))
                    last.clear()
        return [*body, bytes(last)]

    async def _received(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """Receive a body without its content coding, in which some servers answer though nobody asked for it.

        Raises:
            CompletionError: it is too long.
            httpx.DecodingError: it isn't in that coding.
        """
        inflater = Inflater() if _coding_of(response) in CODINGS else None
        size, budget = 0, StepBudget()
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError("the answer's body isn't asynchronous")
        async for data in response.stream:
            if inflater is None:
                yield data
                continue
            size += len(data)
            # Empty blocks are nothing when they are decoded.
            if size > self._limits.answer_bytes:
                raise self._too_long()
            try:
                for part in inflater.push(data):
                    yield part
                    await budget.spend()
            except zlib.error as error:
                raise httpx.DecodingError("") from error
            if inflater.has_ended:
                return


async def _redacted(event: ServerSentEvent, redactor: Redactor, budget: StepBudget) -> ServerSentEvent:
    """Return an event without secrets, which the upstream server may repeat anywhere."""
    name = await _without_secrets(event.name, redactor, budget)
    return ServerSentEvent(name, await _without_secrets(event.data, redactor, budget))


async def _without_secrets(text: str, redactor: Redactor, budget: StepBudget) -> str:
    await budget.spend()
    if len(text) <= REDACTED_BYTES:
        return redactor.without_known(text)
    piecewise, pieces = PiecewiseRedactor(redactor), list[str]()
    for start in range(0, len(text), REDACTED_BYTES):
        pieces.append(piecewise.push(text[start : start + REDACTED_BYTES]))
        await budget.spend()
    return "".join((*pieces, piecewise.finish()))


async def _redacted_portions(answer: Sequence[bytes], redactor: Redactor) -> list[bytes]:
    """Return an answer as UTF-8, without secrets."""
    decoder, piecewise = codecs.getincrementaldecoder("utf-8")("replace"), PiecewiseRedactor(redactor)
    budget = StepBudget()
    pieces = [
        piecewise.push(decoder.decode(portion)).encode()
        for data in answer
        async for portion in budget.portions(data, REDACTED_BYTES)
    ]
    end = piecewise.push(decoder.decode(b"", final=True)) + piecewise.finish()
    return [*pieces, end.encode()]


def host_of(url: str) -> str:
    """Return the host of a server's address, with the port where that isn't the usual one of the scheme."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return ""
    return parts.host if parts.port is None else f"{parts.host}:{parts.port}"


def _coding_of(response: httpx.Response) -> str:
    coding: str = response.headers.get("content-encoding", "identity")
    return coding.strip().lower()


def told_of(found: str, kind: str) -> str:
    """Describe an answer of another media type than the one that was asked for."""
    return f"the upstream server sends {found[:50] or 'no type'}, not {kind}"


async def _in_pieces(received: AsyncIterator[bytes], size: int, budget: StepBudget) -> AsyncIterator[bytes]:
    """Cut received data into pieces, between which the task yields to the event loop if necessary."""
    async for data in received:
        async for piece in budget.portions(data, size):
            yield piece


def _reason_of(error: Exception) -> str:
    """Return why a connection to the upstream server failed, in words without its address."""
    match error:
        case httpx.DecodingError():
            return "it isn't in its content coding"
        case httpx.RemoteProtocolError():
            return "the server closed the connection, or sent what isn't HTTP"
        case httpx.NetworkError():
            return "the connection was lost"
        case httpx.TimeoutException():
            return "the connection stood still"
        case _:
            return type(error).__name__
