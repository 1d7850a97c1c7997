"""A call of gRPC, which is a request of HTTP/2 with messages in both bodies and a status behind its answer.

The rules are in grpc's PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from urllib.parse import quote

import grpc
from starlette.types import Receive, Scope, Send

from origin.events.formats import GRPC, GRPC_PREFIX_BYTES
from origin.http.answer import Headers
from origin.http_streams.application_answer import ApplicationAnswer
from origin.http_streams.stream import value_of

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""The characters of a status's line that stand for themselves."""


class CallEndedError(Exception):
    """The client has left, or its deadline has passed."""


class CallError(Exception):
    """A call ends with a status code and a line."""

    def __init__(self, code: grpc.StatusCode, line: str) -> None:
        super().__init__(line)
        self.code = code


class Call:
    """A client's call.

    Args:
        exchange: the request that it is.
        message_bytes: longest message that is read.

    Attributes:
        method: its path, such as ``/package.Service/Method``.
        metadata: names, in lower case, and values of the request's fields.
        client: address and port (0 behind a proxy).
    """

    def __init__(
        self, exchange: ApplicationAnswer, scope: Scope, receive: Receive, send: Send, message_bytes: int
    ) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._message_bytes = message_bytes
        self._unread = bytearray()
        self._has_more = True
        self.method: str = scope["path"]
        self.metadata: Headers = scope["headers"]
        self.client: tuple[str, int] = scope["client"] or ("", 0)

    @property
    def seconds(self) -> float | None:
        """How long the client waits for the call's end; None where it doesn't say."""
        found = _TIMEOUT.fullmatch(value_of(self.metadata, b"grpc-timeout"))
        return int(found[1]) * _UNIT_SECONDS[found[2]] if found else None

    async def begin(self) -> None:
        """Send the initial metadata, by which a client knows that its call is answered."""
        if not self._exchange.response_started:
            fields = [(b"content-type", GRPC.media_type.encode()), (b"grpc-accept-encoding", b"identity")]
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": fields, "trailers": True}
            )

    async def read(self) -> bytes:
        """Read the client's next message; empty where none comes any more.

        Raises:
            CallEndedError: the client has left.
            CallError: the message is too long, or compressed.
        """
        end = GRPC_PREFIX_BYTES
        while len(self._unread) < end or len(self._unread) < (end := self._message_end()):
            if not self._has_more:
                return b""
            message = await self._receive()
            if message["type"] != "http.request":
                raise CallEndedError
            self._unread += message["body"]
            self._has_more = message["more_body"]
        data = bytes(self._unread[GRPC_PREFIX_BYTES:end])
        del self._unread[:end]
        return data

    def _message_end(self) -> int:
        """Return where the message ends whose prefix has come."""
        length = int.from_bytes(self._unread[1:GRPC_PREFIX_BYTES])
        if length > self._message_bytes:
            line = f"the message is larger than max ({length} > {self._message_bytes} bytes)"
            raise CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, line)
        if self._unread[0]:
            # gRPC, "Compression": an algorithm that isn't supported is UNIMPLEMENTED, none at all INTERNAL.
            if value_of(self.metadata, b"grpc-encoding") in (b"", b"identity"):
                raise CallError(grpc.StatusCode.INTERNAL, "the message is compressed, and the call isn't")
            raise CallError(grpc.StatusCode.UNIMPLEMENTED, "grpc-encoding: identity is supported")
        return GRPC_PREFIX_BYTES + length

    async def write(self, message: bytes) -> None:
        """Send a message; this waits until the client has room for it.

        Raises:
            CallEndedError: the client has left.
        """
        await self.write_framed(b"\0" + len(message).to_bytes(GRPC_PREFIX_BYTES - 1) + message)

    async def write_framed(self, messages: bytes) -> None:
        """Send messages that have their prefixes already.

        Raises:
            CallEndedError: the client has left.
        """
        await self.begin()
        await self._send({"type": "http.response.body", "body": messages, "more_body": True})
        if self._exchange.has_gone:
            raise CallEndedError

    async def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, line: str = "") -> None:
        """Send the status behind all messages, and wait until the client has taken them."""
        await self.begin()
        await self._send({"type": "http.response.trailers", "headers": status_fields(code, line)})
        over = asyncio.Event()
        self.when_over(over.set)
        await over.wait()

    def when_over(self, callback: Callable[[], object]) -> None:
        """Have a function called once, when the status is sent, or the client has left."""
        self._exchange.when_over(callback)

    async def cut(self, code: grpc.StatusCode, line: str) -> None:
        """End the call at once, without the messages that wait for the client."""
        await self.begin()
        self._exchange.end_early(status_fields(code, line))

    async def ended(self) -> None:
        """Wait until the client has left."""
        await self._exchange.gone()


def status_fields(code: grpc.StatusCode, line: str) -> Headers:
    """Return the fields that tell a call's status."""
    fields = [(b"grpc-status", b"%d" % code.value[0])]
    return [*fields, (b"grpc-message", quote(line, safe=_PLAIN).encode())] if line else fields
