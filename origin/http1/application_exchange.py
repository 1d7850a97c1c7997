"""A request that the application answers by the messages of ASGI, whatever the wire."""

from __future__ import annotations

import abc
import asyncio
import logging
import math
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Scope

from origin.answers.asgi import GONE
from origin.answers.pieces import TruncatedFileError
from origin.http1.limits import HttpLimits
from origin.http1.response_head import FAILURE, FAILURE_TEXT
from packager.concurrency import wait_within

log = structlog.get_logger()

server_log = logging.getLogger("uvicorn.error")
"""The log where uvicorn reports mistakes of an application."""

SLOW_BODY = "headwater.slow_body"
"""ASGI extension that says how long a body may pause that has neither a deadline nor a least rate."""


class SlowBodyError(Exception):
    """A request's body comes too slowly; the answer is 408 (RFC 9110 §15.5.9)."""


def take_slowly(scope: MutableMapping[str, Any], idle_seconds: float) -> None:
    """Lift the deadline of a request's body, which may be typed by hand or be live sound.

    It may pause for `idle_seconds` at a time; infinite where its reader has a limit of its own.
    """
    scope.setdefault("extensions", {})[SLOW_BODY] = {"idle_seconds": idle_seconds}


def exchange_of(scope: MutableMapping[str, Any]) -> ApplicationExchange | None:
    """Return the exchange that a request of this server belongs to; None on another server."""
    extension = scope.get("extensions", {}).get(GONE)
    exchange: ApplicationExchange | None = None if extension is None else extension["exchange"]()
    return exchange


async def wait_while_connected(request: Request, seconds: float) -> None:
    """Wait for some time, but no longer than the client of a request stays connected.

    Nobody may read the request's body any more.
    """
    exchange = exchange_of(request.scope)
    if exchange is None:
        await asyncio.sleep(seconds)
        return
    await wait_within(seconds, exchange.gone())


def log_failure(path: str, error: Exception) -> None:
    """Log why a file wasn't sent to its end, unless the client has just gone."""
    if isinstance(error, TruncatedFileError):
        log.warning("file ended while it was sent", path=path, reason=str(error))
    elif not isinstance(error, ConnectionError | TimeoutError):
        log.warning("sending a file failed", path=path, reason=str(error))


class ApplicationExchange(abc.ABC):
    """A request that the application answers by the messages of ASGI.

    Args:
        tasks: the tasks of requests, which this one's leaves at its end.

    Attributes:
        half_closed: whether the client has ended its side; it may still be reading.
        response_started: whether the application has begun to answer.
        response_complete: whether the response's last byte has been handed on.
    """

    def __init__(
        self,
        scope: Scope,
        limits: HttpLimits,
        loop: asyncio.AbstractEventLoop,
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self.scope = scope
        self.half_closed = self.response_started = self.response_complete = False
        self._limits = limits
        self._loop = loop
        self._tasks = tasks
        # Bytes of the request's body that the application hasn't taken, and what wakes it when more come:
        # made when it waits, as most never do.
        self._body = bytearray()
        self._more_body = True
        self._has_news = False
        self._news: asyncio.Event | None = None
        self._request_delivered = False
        # Bytes of the request's body that the application has taken, and the seconds it waited for them.
        self._received, self._waited = 0, 0.0
        self._disconnected = self._told_of_disconnect = False
        self._gone: asyncio.Event | None = None

    @property
    def client_host(self) -> str | None:
        """The address of the client, if it is known."""
        return self.scope["client"][0] if self.scope["client"] else None

    def _notify(self) -> None:
        """Wake the application if it waits for the request's next event."""
        self._has_news = True
        if self._news is not None:
            self._news.set()

    def feed(self, data: bytes) -> None:
        """Buffer bytes of the request's body."""
        if not self.response_complete and not self._disconnected:
            self._body += data
            self._notify()

    def end_body(self) -> None:
        """Note the end of the request's body."""
        self._more_body = False
        self._notify()

    def hang_up(self) -> None:
        """Note the client's disconnection."""
        self._disconnected = True
        if self._gone is not None:
            self._gone.set()
        self._notify()

    @property
    @abc.abstractmethod
    def has_gone(self) -> bool:
        """Whether the client has gone."""

    async def gone(self) -> None:
        """Wait until the client has gone."""
        self._gone = self._gone or asyncio.Event()
        if not self._disconnected:
            await self._gone.wait()

    async def run(self, app: ASGIApp) -> None:
        """Run the application for this request; whatever it raises is dealt with here."""
        try:
            await app(self.scope, self.next_message, self.send)
        except asyncio.CancelledError:
            # A request is only cancelled when the server ends, and its task ends here anyway.
            self.cut()
        except TruncatedFileError as error:
            # RFC 9112 §8: closing marks a message with fewer bytes than promised as incomplete.
            log_failure(self.scope["path"], error)
            self.cut()
        except Exception:  # noqa: BLE001  # it concerns this request alone, and is logged
            server_log.exception("Exception in ASGI application\n")
            await self._fail()
        else:
            if self._goes_on():
                pass
            elif self._told_of_disconnect and not self.response_complete:
                # A client that has ended its side, and whose answer isn't there yet, is taken for gone.
                self.cut()
            elif not self._disconnected and not self.response_complete:
                done = "completing" if self.response_started else "starting"
                server_log.error("ASGI callable returned without %s response.", done)
                await self._fail()
        finally:
            if (task := asyncio.current_task(self._loop)) is not None:
                self._tasks.discard(task)

    def _goes_on(self) -> bool:
        """Return whether the response goes on behind the application's return."""
        return False

    async def _fail(self) -> None:
        """Answer 500, or end a response that has begun."""
        if self.response_started:
            self._break_off()
            return
        # RFC 9110 §15.6.1.
        headers = [*FAILURE, (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": FAILURE_TEXT})

    @abc.abstractmethod
    async def send(self, message: Any) -> None:
        """Send an ASGI event of the response; do nothing if the client has gone."""

    @abc.abstractmethod
    def _break_off(self) -> None:
        """End a response behind what was sent of it; its client knows that it is incomplete."""

    @abc.abstractmethod
    def cut(self) -> None:
        """End a response at once, whatever was sent of it."""

    async def next_message(self) -> Message:
        """Return the request's next ASGI event: bytes of its body, later that the client has gone."""
        if self.half_closed:
            self._notify()
        message = await self._receive_in_time()
        if message["type"] != "http.request":
            self._told_of_disconnect = True
            return message
        self._received += len(message["body"])
        if self.half_closed and not message["body"] and (self._request_delivered or message["more_body"]):
            self._told_of_disconnect = True
            return {"type": "http.disconnect"}
        self._request_delivered = not message["more_body"]
        return message

    async def _receive_in_time(self) -> Message:
        """Return the request's next event, and watch that its body comes fast enough.

        Raises:
            SlowBodyError: the body is too slow.
        """
        if self._has_news or self._request_delivered:
            return await self._next_message()
        limits = self._limits
        slow: Any = self.scope.get("extensions", {}).get(SLOW_BODY)
        if slow is None:
            seconds = limits.body_seconds + self._received / limits.body_rate - self._waited
        else:
            seconds = float(slow["idle_seconds"])
        began = self._loop.time()
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                return await self._next_message()
        except TimeoutError:
            self._give_up_body()
            raise SlowBodyError(f"the body paused or came too slowly after {self._received} bytes") from None
        finally:
            # Only waiting counts: the time of the application's own work isn't the client's fault.
            self._waited += self._loop.time() - began

    @abc.abstractmethod
    def _give_up_body(self) -> None:
        """Note that the rest of the body isn't waited for."""

    @abc.abstractmethod
    def _ask_for_body(self) -> None:
        """Let the client send more of the body: the application waits for it."""

    async def _next_message(self) -> Message:
        """Wait for the request's next event, however long that takes."""
        self._ask_for_body()
        if not self._disconnected and not self.response_complete:
            if not self._has_news:
                self._news = self._news or asyncio.Event()
                await self._news.wait()
            self._has_news = False
            if self._news is not None:
                self._news.clear()
        if self._disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self._more_body}
