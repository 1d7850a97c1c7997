"""Where a pulled playlist and its redirects may lead (server-side request forgery)."""

from __future__ import annotations

import asyncio
import functools
import socket

import httpx
import pytest
from structlog.testing import capture_logs

from media.hls.playlist_reader import Resource
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.retry_policy import RetryPolicy
from packager.sources.limits import SourceLimits
from packager.sources.pullers.address_guard import AddressGuard, AddressScope, address_scope
from packager.sources.pullers.guarded_http import GuardedTransport, guarded_client
from packager.sources.pullers.hls_fetcher import HlsFetcher
from packager.sources.retries import PullError
from tests.live_server import running
from tests.packager.sources.guarded_hosts import answering, outside
from tests.waiting import until


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        # The registries of special-purpose addresses: RFC 6890
        ("93.184.216.34", AddressScope.PUBLIC),
        ("2606:4700::1111", AddressScope.PUBLIC),
        ("10.1.2.3", AddressScope.PRIVATE),
        ("172.31.255.255", AddressScope.PRIVATE),
        ("192.168.0.1", AddressScope.PRIVATE),
        ("100.64.0.1", AddressScope.PRIVATE),
        ("fd00::1", AddressScope.PRIVATE),
        ("127.8.8.8", AddressScope.LOCAL),
        ("0.0.0.0", AddressScope.LOCAL),
        ("0.1.2.3", AddressScope.LOCAL),
        ("169.254.169.254", AddressScope.LOCAL),
        ("224.0.0.1", AddressScope.LOCAL),
        ("255.255.255.255", AddressScope.LOCAL),
        ("::1", AddressScope.LOCAL),
        ("fe80::1%lo", AddressScope.LOCAL),
        # IPv4 in IPv6: RFC 4291 §2.5.5.2, RFC 6052, RFC 3056
        ("::ffff:127.0.0.1", AddressScope.LOCAL),
        ("64:ff9b::7f00:1", AddressScope.LOCAL),
        ("2002:a00:1::", AddressScope.PRIVATE),
        ("64:ff9b::808:808", AddressScope.PUBLIC),
        ("64:ff9b::a9fe:a9fe", AddressScope.LOCAL),
        ("::ffff:10.0.0.1", AddressScope.PRIVATE),
        ("::ffff:169.254.169.254", AddressScope.LOCAL),
        ("::7f00:1", AddressScope.LOCAL),
        ("2002:7f00:1::", AddressScope.LOCAL),
        ("2001:0:808:808:0:0:80ff:fffe", AddressScope.LOCAL),  # RFC 4380: 127.0.0.1 with its bits turned over
        # RFC 8215, RFC 5214 §6.1, RFC 2765, RFC 3879, RFC 9637, RFC 6666
        ("64:ff9b:1::8.8.8.8", AddressScope.LOCAL),
        ("2606:4700::5efe:127.0.0.1", AddressScope.LOCAL),
        ("2606:4700::200:5efe:10.0.0.1", AddressScope.PRIVATE),
        ("2606:4700::5efe:8.8.8.8", AddressScope.PUBLIC),
        ("fe80::5efe:8.8.8.8", AddressScope.LOCAL),
        ("::ffff:0:127.0.0.1", AddressScope.LOCAL),
        ("fec0::1", AddressScope.PRIVATE),
        ("3fff::1", AddressScope.PRIVATE),
        ("100::1", AddressScope.LOCAL),
        ("192.88.99.1", AddressScope.PRIVATE),
        ("198.18.0.1", AddressScope.PRIVATE),
        ("192.0.2.1", AddressScope.PRIVATE),
        ("240.0.0.1", AddressScope.LOCAL),
        ("::", AddressScope.LOCAL),
        ("ff02::1%lo", AddressScope.LOCAL),
        # What clouds tell their machines
        ("100.100.100.200", AddressScope.LOCAL),
        ("168.63.129.16", AddressScope.LOCAL),
        ("fd00:ec2::254", AddressScope.LOCAL),
    ],
)
def test_an_address_is_as_far_inside_as_the_registries_say(address: str, expected: AddressScope) -> None:
    assert address_scope(address) is expected


DISGUISES = [
    "127.0.0.1", "localhost", "LOCALHOST", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001",
    "127.1", "0", "0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]",
    "good.example@127.0.0.1", "good.example:80@127.0.0.1", "127。0。0。1",
    "\uff11\uff12\uff17.0.0.1", "①②⑦.⓪.⓪.①",
    "127.0.0.1\\@media.example", "media.example\\@127.0.0.1",
]  # fmt: skip
"""This machine, written in the ways in which resolvers and readers of URLs differ (RFC 3986 §7.4)."""


@pytest.mark.parametrize("host", DISGUISES)
@pytest.mark.parametrize("limit", [AddressScope.PUBLIC, AddressScope.PRIVATE])
async def test_what_a_playlist_outside_names_inside_is_not_asked_for_however_it_is_written(
    host: str, limit: AddressScope
) -> None:
    at_once = SourceLimits(segment_retry=RetryPolicy(first_seconds=0.0, longest_seconds=0.0, retries=2))
    guard = AddressGuard("media.example", limit)
    async with answering() as (port, asked), httpx.AsyncClient(transport=GuardedTransport(guard)) as client:
        fetcher = HlsFetcher(client, at_once)
        with pytest.raises(PullError, match=r"private|InvalidURL|ConnectError"):
            await fetcher.segment("http://media.example/", Resource(f"http://{host}:{port}/1.ts"))
        assert not asked


async def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Let names be answered so, the last answer for ever."""
    left = list(answers)

    async def getaddrinfo(_: str, port: int, **__: object) -> list[object]:
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)


async def test_a_name_with_a_public_and_a_private_address_leads_outside_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await resolving(monkeypatch, ["10.0.0.1", "93.184.216.34", "127.0.0.1"], ["10.0.0.1"])
    guard = AddressGuard("media.example")
    assert await guard.resolve("media.example", 80) == ["93.184.216.34"]
    with pytest.raises(PullError, match="private"):
        await guard.resolve("inside.example", 80)
    with pytest.raises(PullError, match="private"):
        await guard.resolve("media.example", 80)


async def test_a_name_that_leads_elsewhere_the_second_time_is_not_followed_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with answering(host="127.0.0.1") as (port, asked):
        await resolving(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
        guard = AddressGuard("media.example")
        assert await guard.resolve("media.example", port) == ["93.184.216.34"]
        async with httpx.AsyncClient(transport=GuardedTransport(guard)) as client:
            with pytest.raises(PullError, match="private"):
                await client.get(f"http://media.example:{port}/")
        with pytest.raises(PullError, match="private"):
            await guard.connect("media.example", port)
        assert not asked


async def test_what_is_connected_to_is_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(host="127.0.0.1") as (port, asked):
        # A second look would find nothing.
        await resolving(monkeypatch, ["127.0.0.1"], [])
        async with httpx.AsyncClient(
            transport=GuardedTransport(AddressGuard("media.example")), timeout=120
        ) as client:
            assert (await client.get(f"http://media.example:{port}/")).content == b"media"
    assert f"host: media.example:{port}".encode() in asked[0].lower()


async def test_where_an_address_of_a_name_does_not_answer_the_next_one_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await resolving(monkeypatch, ["127.0.0.2", "127.0.0.1"])  # RFC 5735 §3: all of 127/8 is this machine
    async with answering(host="127.0.0.1") as (port, _):
        guard = AddressGuard("media.example")
        async with httpx.AsyncClient(transport=GuardedTransport(guard), timeout=120) as client:
            assert (await client.get(f"http://media.example:{port}/")).content == b"media"
        _, writer = await guard.connect("media.example", port)
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()
        await writer.wait_closed()


async def test_where_none_answers_the_last_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(host="127.0.0.1") as (port, _):
        await resolving(monkeypatch, ["127.0.0.2", "127.0.0.3"])
        guard = AddressGuard("media.example")
        async with httpx.AsyncClient(transport=GuardedTransport(guard), timeout=120) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://media.example:{port}/")
        with pytest.raises(ConnectionRefusedError):
            await guard.connect("media.example", port)


async def test_an_answer_of_older_shoutcast_servers_is_read_whoever_asks() -> None:
    icy = b"ICY 200 OK\r\ncontent-type:audio/mpeg\r\n\r\nmusic"
    async with (
        answering(icy) as (port, _),
        guarded_client(f"http://127.0.0.1:{port}/", timeout=120) as client,
    ):
        answer = await client.get(f"http://127.0.0.1:{port}/")
        assert (answer.status_code, answer.content) == (200, b"music")
        assert answer.headers["content-type"] == "audio/mpeg"


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
    async with (
        answering() as (port, asked),
        guarded_client(f"http://localhost:{port}/", timeout=120) as client,
    ):
        assert (await client.get(f"http://localhost:{port}/a")).content == b"media"
        assert (await client.get(f"http://127.0.0.1:{port}/b")).content == b"media"
    assert f"host: localhost:{port}".encode() in asked[0].lower()
    assert f"host: 127.0.0.1:{port}".encode() in asked[1].lower()
