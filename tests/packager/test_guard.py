"""Where a pulled playlist and its redirects may lead (server-side request forgery)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from structlog.testing import capture_logs

from media.m3u8reader import Resource
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.sources import fetching
from packager.sources.fetching import Fetcher, PullError
from packager.sources.guard import Guard, GuardedTransport, Reach, guarded, reach
from packager.tools import Tools
from tests.live_server import running
from tests.waiting import until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nmedia"


@contextlib.asynccontextmanager
async def answering(
    answer: bytes = ANSWER, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers all in the same way; gives its port, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        # The registries of special-purpose addresses: RFC 6890
        ("93.184.216.34", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("10.1.2.3", Reach.PRIVATE),
        ("172.31.255.255", Reach.PRIVATE),
        ("192.168.0.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("127.8.8.8", Reach.OWN),
        ("0.0.0.0", Reach.OWN),
        ("0.1.2.3", Reach.OWN),
        ("169.254.169.254", Reach.OWN),
        ("224.0.0.1", Reach.OWN),
        ("255.255.255.255", Reach.OWN),
        ("::1", Reach.OWN),
        ("fe80::1%lo", Reach.OWN),
        # IPv4 in IPv6: RFC 4291 §2.5.5.2, RFC 6052, RFC 3056
        ("::ffff:127.0.0.1", Reach.OWN),
        ("64:ff9b::7f00:1", Reach.OWN),
        ("2002:a00:1::", Reach.PRIVATE),
        ("64:ff9b::808:808", Reach.PUBLIC),
    ],
)
def test_an_address_is_as_far_inside_as_the_registries_say(address: str, expected: Reach) -> None:
    assert reach(address) is expected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("limit", [Reach.PUBLIC, Reach.PRIVATE])
async def test_what_a_playlist_outside_names_inside_is_not_asked_for_however_it_is_written(
    host: str, limit: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "RETRY_PAUSE", 0.0)
    guard = Guard("http://media.example/live.m3u8", limit)
    async with answering() as (port, asked), httpx.AsyncClient(transport=GuardedTransport(guard)) as client:
        with pytest.raises(PullError, match="private"):
            await Fetcher(client).segment("http://media.example/", Resource(f"http://{host}:{port}/1.ts"))
        assert not asked


def outside() -> str:
    """An address of this machine that isn't its loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's; nothing is sent
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


async def test_neither_a_redirect_nor_a_playlist_leads_from_the_network_into_this_machine(
    tools: Tools,
) -> None:
    address = outside()
    async with answering() as (inside, asked):
        secret = f"http://localhost:{inside}/secret"
        redirect = f"HTTP/1.1 302 Found\r\nLocation: {secret}\r\nContent-Length: 0\r\n\r\n".encode()
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n".encode()
        listing = f"HTTP/1.1 200 OK\r\nContent-Length: {len(playlist)}\r\n\r\n".encode() + playlist
        for answer in (redirect, listing):
            async with answering(answer, address) as (port, requests):
                with capture_logs() as logs:
                    async with running(Channel(ChannelOptions("a", f"http://{address}:{port}/"), tools)):
                        await until(functools.partial(len, logs))
                assert requests
            assert [line["reason"] for line in logs if "private address" in line["reason"]]
        assert not asked


async def test_what_is_configured_on_this_machine_is_asked_by_its_name_and_may_lead_there() -> None:
    # httpx's own patience is 5 s, and who asks and who answers may stand still together.
    async with answering() as (port, asked), guarded(f"http://localhost:{port}/", timeout=120) as client:
        assert (await client.get(f"http://localhost:{port}/a")).content == b"media"
        assert (await client.get(f"http://127.0.0.1:{port}/b")).content == b"media"
    assert f"host: localhost:{port}".encode() in asked[0].lower()
    assert f"host: 127.0.0.1:{port}".encode() in asked[1].lower()
