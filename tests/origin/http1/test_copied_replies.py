"""Replies whose bytes no kernel can send from a file, such as those of S3, and are read meanwhile."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from starlette.applications import Starlette

from origin.answers.asgi import handler_routes
from origin.answers.byte_sources import COPY_STEP
from origin.answers.heads import PlainHead
from origin.answers.reply import Reply
from origin.answers.request import Request
from origin.http.byte_ranges import SelectedRange
from origin.http1.fast_path import FastPath
from tests.conformance.conftest import serving
from tests.waiting import wait_for

SIZE = 1 << 30


class Zeros:
    """A gigabyte without a descriptor, which counts how often it is read and released."""

    def __init__(self) -> None:
        self.reads = self.releases = 0

    def descriptor(self) -> int | None:
        return None

    async def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return bytes(length)

    def release(self) -> None:
        self.releases += 1


class Gigabyte:
    """A handler that replies to everything with it."""

    def __init__(self) -> None:
        self.source = Zeros()

    def handle(self, request: Request) -> Reply:
        head = PlainHead(200, ((b"content-length", b"%d" % SIZE),))
        return Reply(head, (SelectedRange(0, SIZE - 1),), self.source)

    def absent(self, request: Request) -> Reply:
        raise AssertionError("all is here")


@pytest.mark.clause("CWE-400")
@pytest.mark.parametrize("by", ["connection", "application"])
def test_nothing_more_is_read_for_a_client_that_has_gone(tmp_path: Path, by: str) -> None:
    handler = Gigabyte()
    app = Starlette(routes=handler_routes(handler, ["/held/{name}"]))
    handlers = FastPath({"held": handler}) if by == "connection" else None
    with serving(app, tmp_path, "uvloop", fast_path=handlers) as origin:
        with origin.connect(receive_buffer=4096) as client:
            client.send("GET /held/x HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: handler.source.reads > 0, "the reply to begin")
            assert client.socket.recv(100).startswith(b"HTTP/1.1 200")
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: handler.source.releases == 1, "the source to be released")
        assert handler.source.reads < SIZE // COPY_STEP // 2
