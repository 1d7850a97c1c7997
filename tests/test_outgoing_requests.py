"""Outgoing requests of the program: one module makes its HTTP clients, and each of them is bounded."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from origin.access.limits import WebhookLimits
from origin.access.token_keys import KeySet
from origin.access.webhook import DeniedError, UnansweredError, Webhook
from origin.cli.check import CheckError, check
from origin.cli.server_requests import ServerRequests
from origin.config.errors import CommandError
from origin.events.remote_channel import NotPublishedError, RemoteChannel
from packager.sources.limits import DEFAULT_LIMITS
from packager.sources.pullers.guarded_http import certificates, guarded_client, read_content
from packager.sources.pullers.hls_fetcher import HlsFetcher
from packager.sources.retries import PullError

ROOT = Path(__file__).parent.parent

OPENING = frozenset(
    {
        *("AsyncClient", "HTTPTransport", "AsyncHTTPTransport", "AsyncConnectionPool", "urlopen"),
        *("HTTPConnection", "HTTPSConnection", "open_connection", "create_connection", "S3Store"),
    }
)
"""Names of what opens connections to other servers."""

SENDING = frozenset({"Client", "get", "post", "put", "request", "stream"})
"""Names of what else does in httpx."""

ALLOWED = {
    "packager/sources/pullers/guarded_http.py": "the HTTP client of all others",
    "packager/sources/pullers/address_guard.py": "connects to addresses that were checked, for RTSP",
    "packager/s3/client.py": "the bucket's, see packager/s3/endpoint.py",
    "origin/token_relay/upstream_connection.py": "one request by way of the guard, without a redirect",
    "origin/cli/check.py": "files of a folder, without a network",
    "origin/cli/doctor.py": "the heads of the server itself",
    "origin/cli/doctor_s3.py": "the head of the bucket's endpoint",
    "origin/cli/ingest.py": "a stream to the server that is named, with its head bounded",
}


def opened_in(path: Path) -> set[str]:
    """Return the names by which a module opens connections; types of annotations aren't among them."""
    tree = [*ast.walk(ast.parse(path.read_text("utf-8")))]
    called = [node.func for node in tree if isinstance(node, ast.Call)]
    names = {one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in called}
    found = [node for node in tree if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    of_httpx = {one.attr for one in found if isinstance(one.value, ast.Name) and one.value.id == "httpx"}
    # These may be chosen first, and called by another name.
    classes = {node.attr for node in tree if isinstance(node, ast.Attribute)} & {"HTTPConnection"}
    return names & OPENING | of_httpx & SENDING | classes


def test_no_other_module_opens_connections_to_servers() -> None:
    found = {
        str(path.relative_to(ROOT))
        for floor in ("media", "packager", "origin")
        for path in (ROOT / floor).rglob("*.py")
        if opened_in(path)
    }
    assert found == set(ALLOWED)


Respond = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def answering(respond: Respond, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Run a server that answers each request in a hostile way; yield its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await respond(await reader.readuntil(b"\r\n\r\n"), writer)
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    async with server:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())


async def endless_head(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: %b\r\n" % (b"y" * 1000))
        await writer.drain()


async def endless_body(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.apple.mpegurl\r\n\r\n#EXTM3U\n")
    while True:
        writer.write(b"#" * (1 << 16))
        await writer.drain()


async def hook(url: str) -> None:
    await Webhook(url, WebhookLimits(seconds=60.0)).ask({})


async def key_set(url: str) -> None:
    await KeySet(url, lambda: None)._read()


async def playlist(url: str) -> None:
    async with guarded_client(url, redirects=3, timeout=60) as client:
        await HlsFetcher(client, DEFAULT_LIMITS).playlist(url)


async def channel(url: str) -> None:
    async def events() -> AsyncIterator[str]:
        yield "one"

    async with RemoteChannel(url, "a-token-of-the-channel") as remote:
        await remote.publish_from(events())


async def judged(url: str) -> None:
    report = await check(f"{url}/live.m3u8")
    if report.findings:
        raise CheckError(report.findings[0])


async def read_again(url: str) -> None:
    requests = ServerRequests(url, "an-admin-token", ssl.create_default_context())
    await asyncio.to_thread(requests.reload)


CLIENTS = {one.__name__: one for one in (hook, key_set, playlist, channel, judged, read_again)}
FAILURES = (
    *(
        DeniedError,
        UnansweredError,
        PullError,
        CheckError,
        CommandError,
        NotPublishedError,
        httpx.HTTPError,
        ValueError,
    ),
)


@pytest.fixture(autouse=True)
def _certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    certificates()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_ends_by_itself_where_a_head_has_no_end(client: str) -> None:
    async with answering(endless_head) as url:
        with pytest.raises(FAILURES):
            await CLIENTS[client](url)


@pytest.mark.parametrize("client", sorted(CLIENTS.keys() - {"hook"}))
async def test_a_client_ends_by_itself_where_a_body_has_no_end(client: str) -> None:
    async with answering(endless_body) as url:
        with pytest.raises(FAILURES):
            await CLIENTS[client](url)


@pytest.mark.parametrize("client", CLIENTS)
async def test_no_credential_goes_to_a_host_to_which_a_server_leads(client: str) -> None:
    heads = list[bytes]()

    async def note(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    async with answering(note, "127.0.0.2") as other:

        async def lead(_: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 307 x\r\nlocation: %b/x\r\ncontent-length: 0\r\n\r\n" % other.encode())

        async with answering(lead) as url:
            with pytest.raises(FAILURES):
                await CLIENTS[client](url.replace("//", "//anna:secret@") if client != "read_again" else url)
    assert not any(b"authorization" in head.lower() or b"token" in head.lower() for head in heads)
    # Only what is public follows redirects.
    assert not heads or client in ("playlist", "judged")


async def test_content_is_read_up_to_its_limit() -> None:
    async with (
        answering(endless_body) as url,
        guarded_client(url) as client,
        client.stream("GET", url) as answer,
    ):
        with pytest.raises(httpx.RemoteProtocolError, match="longer than 1000 bytes"):
            await read_content(answer, 1000)
