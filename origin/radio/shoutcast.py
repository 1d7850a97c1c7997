"""HTTP to older SHOUTcast servers, which begin answers with ``ICY 200 OK`` instead of a version of HTTP."""

from __future__ import annotations

import re
import ssl
from typing import Any

import httpcore

from packager.sources.guarded_http import GuardedBackend

_ICY, _HTTP = b"ICY ", b"HTTP/1.0 "
HEAD_BYTES, HEAD_FIELDS = 32 * 1024, 128
"""Longest head of an answer: tens of thousands of fields would hold everybody while they are read."""

_HEAD_END = re.compile(rb"\n\r?\n")


class IcyBackend(GuardedBackend):
    """Connects to servers that may answer so."""

    async def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        """Connect; see httpcore."""
        return _Stream(await super().connect_tcp(*arguments, **options))


class _Stream(httpcore.AsyncNetworkStream):
    """A connection, the first bytes of whose answer may be replaced, and whose head is bounded."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._begun = False
        # What has come of the head; None behind it.
        self._head: bytes | None = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        data = await self._first(max_bytes, timeout)
        if self._head is not None:
            self._head += data
            end = _HEAD_END.search(self._head)
            head = self._head if end is None else self._head[: end.start()]
            if len(head) > HEAD_BYTES or head.count(b"\n") > HEAD_FIELDS:
                raise httpcore.RemoteProtocolError("the head of its answer is too long")
            self._head = None if end else head
        return data

    async def _first(self, max_bytes: int, timeout: float | None) -> bytes:  # noqa: ASYNC109
        data = await self._stream.read(max_bytes, timeout)
        if self._begun:
            return data
        self._begun = True
        while data and len(data) < len(_ICY) and _ICY.startswith(data):
            more = await self._stream.read(max_bytes, timeout)
            if not more:
                break
            data += more
        return _HTTP + data[len(_ICY) :] if data.startswith(_ICY) else data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._head = b""  # an answer follows
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
