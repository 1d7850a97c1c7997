"""The connection to an upstream server: what odd, broken and hostile servers send over it."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from origin.token_relay import upstream_connection
from origin.token_relay.completion_request import UpstreamRequest
from origin.token_relay.errors import CompletionError
from origin.token_relay.upstream import Upstream, UpstreamOptions
from origin.token_relay.upstream_connection import request_once
from packager.sources.pullers.guarded_http import guard_for
from tests.certificates import self_signed
from tests.completion_server import HEAD, KEY, Asked, CompletionServer, Script, completing, tokens
from tests.relay_server import PATIENT
from tests.waiting import until

CHUNKS = tokens("a", "b c", "ü")
EVENTS = [f"data: {one}\n\n".encode() for one in CHUNKS]
WHOLE = b"".join(EVENTS)
BARE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


async def events_of(url: str, **limits: Any) -> list[str]:
    """Ask a server for a stream, and return the data of its events."""
    got: list[str] = []
    upstream = Upstream(UpstreamOptions(url=url, key=KEY), replace(PATIENT, **limits))

    def take(event: Any) -> bool:
        got.append(event.data)
        return True

    await upstream.stream(UpstreamRequest(b"{}"), lambda: None, take)
    return got


def sending(*pieces: bytes) -> Script:
    """Make a script that sends bytes as they are, and closes."""

    async def script(asked: Asked) -> None:
        for piece in pieces:
            await asked.head(piece)
            await asyncio.sleep(0)
        asked.writer.close()

    return script


def in_chunks(data: bytes, size: int, extension: bytes = b"") -> bytes:
    pieces = [data[place : place + size] for place in range(0, len(data), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(one), extension, one) for one in pieces) + b"0\r\n"


CHUNKED = HEAD + in_chunks(WHOLE, 7) + b"\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED,
        HEAD + in_chunks(WHOLE, 1) + b"\r\n",
        HEAD + in_chunks(WHOLE, 50, b';name="value"') + b"trailer: one\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + CHUNKED,
        BARE + b"content-length: %d\r\n\r\n" % len(WHOLE) + WHOLE,
        BARE + b"connection: close\r\n\r\n" + WHOLE,
        BARE.replace(b"1.1", b"1.0") + b"\r\n" + WHOLE,
        # Handlers of CGI and programs that print their head end its lines with LF alone (RFC 9112 §2.2).
        b"HTTP/1.1 200 OK\nContent-Type: text/event-stream\nConnection: close\n\n" + WHOLE,
        b"HTTP/1.0 200\nContent-Type:text/event-stream\n\n" + WHOLE,
        HEAD + in_chunks(WHOLE, 7, b"  ") + b"\r\n",
    ],
)
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_an_answer_is_the_same_however_it_is_framed_and_cut(
    answer: bytes, run: Callable[[Awaitable[None]], None]
) -> None:
    async def ask() -> None:
        for size in (len(answer), 33, 1):
            pieces = [answer[place : place + size] for place in range(0, len(answer), size)]
            async with completing(sending(*pieces)) as server:
                assert await events_of(server.url) == CHUNKS

    run(ask())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        CHUNKED[:-5],
        CHUNKED[:-20],
        BARE + b"content-length: %d\r\n\r\n" % (len(WHOLE) + 1) + WHOLE,
    ],
)
async def test_an_answer_that_is_none_or_ends_too_early_is_an_error(answer: bytes) -> None:
    async with completing(sending(answer)) as server:
        with pytest.raises(CompletionError, match="broke off"):
            await events_of(server.url)


def endless(head: bytes, piece: bytes) -> Script:
    async def script(asked: Asked) -> None:
        await asked.head(head)
        while not asked.closed.is_set():
            await asked.head(piece)

    return script


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 ", b"O" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        (b"HTTP/1.1 200 OK\r\na: ", b"b" * 1000),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (HEAD + b"1\r\n:\r\n0\r\n", b"a: b\r\n"),
        (HEAD + b"1\r\n:\r\n0\r\na:", b"b" * 1000),
        (HEAD + b"1;a=", b"b" * 1000),
        (HEAD, b"0" * 1000),
    ],
)
async def test_a_head_trailers_or_framing_without_an_end_are_given_up(head: bytes, piece: bytes) -> None:
    async with completing(endless(head, piece)) as server:
        with pytest.raises(CompletionError, match="broke off"):
            await events_of(server.url)
        await until(lambda: server.asked[0].closed.is_set())


async def test_a_server_isnt_read_faster_than_its_answer_is() -> None:
    size = 64 << 20

    async def flood(asked: Asked) -> None:
        asked.writer.write(BARE + b"content-length: %d\r\n\r\n" % size)
        asked.writer.write(bytes(size))

    async with completing(flood) as server, completing(sending(CHUNKED)) as other:
        asked = httpx.Request("GET", server.url)
        response = await request_once(asked, guard_for(server.url), 10.0)
        for _ in range(50):
            await events_of(other.url)
        assert server.asked[0].writer.transport.get_write_buffer_size() > size // 2
        assert isinstance(response.stream, httpx.AsyncByteStream)
        got = 0
        async for data in response.stream:
            got += len(data)
        assert got == size
        await response.aclose()


async def test_a_user_and_a_password_of_the_address_are_sent() -> None:
    async with completing(sending(CHUNKED)) as server:
        assert await events_of(server.url.replace("//", "//user:word%20@")) == CHUNKS
        fields = server.asked[0].fields
        assert fields["authorization"] == "Basic " + base64.b64encode(b"user:word ").decode()
        assert fields["host"] == f"127.0.0.1:{server.port}"


async def test_a_server_is_asked_over_tls_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate.chain, certificate.key)
    plain = CompletionServer(sending(CHUNKED))
    server = await asyncio.start_server(plain.serve, "127.0.0.1", 0, ssl=served)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
    # Nobody has vouched for it.
    with pytest.raises(CompletionError, match="can't be reached"):
        await events_of(url)
    trusted = ssl.create_default_context(cafile=str(certificate.chain))
    monkeypatch.setattr(upstream_connection, "certificates", lambda: trusted)
    assert await events_of(url) == CHUNKS
    with pytest.raises(CompletionError, match="can't be reached"):
        await events_of(url.replace("127.0.0.1", "localhost"))
    server.close()
