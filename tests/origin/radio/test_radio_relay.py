"""Stations that another server plays: Icecast itself, and one of ours; and what happens when it goes away."""

import asyncio
import contextlib
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from origin.radio.mounts.limits import RELAY_RETRY, RadioLimits
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.options import MountOptions
from origin.radio.relay import Relay, RelayOptions
from packager.retry_policy import RetryPolicy
from tests import icecast
from tests.clients.stations import frames
from tests.hostile_upstream import hostile_upstream
from tests.packager.sources.guarded_hosts import answering, outside
from tests.patience import MOUNT, PATIENCE_SECONDS
from tests.ports import kept_port
from tests.radio_server import FRAME_BYTES, Server, mount_options, numbered_frame, numbers, one_mount, serving
from tests.waiting import until

SECOND = 39
AS_BEFORE = mount_options(burst_bytes=512 * 1024)


PATIENT = RadioLimits(connect_seconds=PATIENCE_SECONDS, silent_seconds=PATIENCE_SECONDS)
"""No relay asks again since the machine stood still."""


@contextlib.asynccontextmanager
async def relaying(
    url: str, options: MountOptions = AS_BEFORE, limits: RadioLimits = PATIENT
) -> AsyncIterator[tuple[Mount, Server]]:
    mount = Mount("copy", Relay(RelayOptions("copy", url, limits=limits)), options)
    async with serving({"copy": mount}) as server:
        yield mount, server


async def test_the_same_frames_and_titles_come_out_of_a_relay() -> None:
    about = mount_options(title="Küche", genre="Tones", url="http://u.example", burst_bytes=512 * 1024)
    async with one_mount(about) as (feed, _mount, upstream):
        for number in range(6):
            feed.push(SECOND, f"Title {number // 3}'s")
        await feed.settled()
        async with relaying(f"{upstream.url}/radio/test") as (copy, server):
            await until(lambda: copy.media_time > 5)
            listener = await server.open(path="/radio/copy")
            told = {"icy-name": "Küche", "icy-genre": "Tones", "icy-url": "http://u.example"}
            assert told.items() <= listener.headers.items()
            found = numbers(await listener.body(5 * SECOND * FRAME_BYTES))
            assert found == list(range(len(found)))
            await until(lambda: copy.title == "Title 1\u2019s", "the title")


async def test_a_relay_that_is_sent_to_a_name_that_is_none_says_so_and_asks_again() -> None:
    nowhere = (
        b"HTTP/1.1 302 Found\r\nLocation: http://xn--zzzzzzzzzzzzz-.example/\r\nContent-Length: 0\r\n\r\n"
    )
    hasty = replace(PATIENT, relay_retry=RetryPolicy(0.01, 0.01))
    with hostile_upstream({"": nowhere}) as upstream:
        async with relaying(f"{upstream.url}/radio/test", limits=hasty) as (copy, _):
            await until(lambda: len(upstream.asked) > 2, "another attempt")
            assert "redirects to a name that is none" in copy.station.trouble


async def test_a_relay_asks_again_and_its_listener_stays() -> None:
    hasty = replace(PATIENT, relay_retry=replace(RELAY_RETRY, first_seconds=0.05))
    async with one_mount(AS_BEFORE) as (feed, mount, upstream):
        feed.push(SECOND)
        await feed.settled()
        async with relaying(f"{upstream.url}/radio/test", limits=hasty) as (copy, server):
            await until(lambda: copy.state == "live")
            listener = await server.open(path="/radio/copy")
            assert numbers(await listener.body(SECOND * FRAME_BYTES)) == list(range(SECOND))
            mount.audience.close()
            await until(lambda: mount.listeners == 0, "the upstream's end")
            await until(lambda: mount.listeners == 1, "the relay's return")
            feed.push(SECOND)
            # The upstream's burst comes again, then what is new.
            data = b""
            while not data.endswith(numbered_end(2 * SECOND - 1)):
                data += await listener.chunk()
            assert set(numbers(data)) == set(range(2 * SECOND))


def numbered_end(number: int) -> bytes:
    return number.to_bytes(8, "big") + bytes(373)


async def test_on_demand_the_other_server_is_only_asked_while_somebody_listens() -> None:
    async with one_mount(AS_BEFORE) as (feed, mount, upstream):
        feed.push(SECOND)
        await feed.settled()
        options = mount_options(on_demand=True, limits=replace(MOUNT, idle_seconds=0.2))
        async with relaying(f"{upstream.url}/radio/test", options) as (copy, server):
            assert copy.state == "idle"
            assert mount.listeners == 0
            listener = await server.open(path="/radio/copy")
            assert listener.status == 200
            assert numbers(await listener.body(SECOND * FRAME_BYTES)) == list(range(SECOND))
            assert mount.listeners == 1
            await listener.close()
            await until(lambda: mount.listeners == 0, "the relay's leaving")
            assert copy.state == "idle"


@pytest.mark.parametrize("portion", [1, 3, 4096])
async def test_a_shoutcast_server_of_the_older_kind_is_relayed_with_its_titles(portion: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        assert b"icy-metadata: 1" in asked.lower()
        # As SHOUTcast 1.9.8 writes it.
        head = b"ICY 200 OK\r\nicy-notice1:<BR>SHOUTcast<BR>\r\nicy-name:Old FM\r\nicy-pub:0\r\n"
        head += b"content-type:audio/mpeg\r\nicy-metaint:16680\r\nicy-br:128\r\n\r\n"
        frames = [numbered_frame(number) for number in range(160)]
        title = b"\2" + b"StreamTitle='Old song';".ljust(32, b"\0")
        parts = [b"".join(frames[start : start + 40]) for start in range(0, 160, 40)]
        data = head + parts[0] + title + parts[1] + b"\0" + parts[2] + b"\0" + parts[3]
        for start in range(0, 40, portion):
            writer.write(data[start : min(start + portion, 40)])
            await writer.drain()
        writer.write(data[40:])
        await reader.read()
        writer.close()

    old = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with old:
        url = f"http://127.0.0.1:{old.sockets[0].getsockname()[1]}/"
        async with relaying(url) as (copy, server):
            await until(lambda: copy.title == "Old song", "the title")
            listener = await server.open(path="/radio/copy")
            found = numbers(await listener.body(2 * SECOND * FRAME_BYTES))
            assert found == list(range(len(found)))


@pytest.mark.parametrize("path", ["/radio/nothing", "/status-json.xsl"])
async def test_what_is_no_stream_is_not_relayed(path: str) -> None:
    async with one_mount() as (_, _, upstream), relaying(f"{upstream.url}{path}") as (copy, server):
        await asyncio.sleep(0.3)
        assert copy.media_time == 0
        assert not copy.station.available
        copy.close()
        assert (await server.open(path="/radio/copy")).status == 503


async def test_no_redirect_leads_a_relay_from_the_network_into_this_machine() -> None:
    address = outside()
    async with answering() as (inside, asked):
        redirect = f"HTTP/1.1 302 Found\r\nLocation: http://localhost:{inside}/\r\nContent-Length: 0\r\n\r\n"
        async with answering(redirect.encode(), address) as (port, requests):
            with capture_logs() as logs:
                async with relaying(f"http://{address}:{port}/"):
                    await until(lambda: [line for line in logs if line["event"] == "relay broke"])
            assert requests
        assert not asked
    assert "private address" in next(line["reason"] for line in logs if line["event"] == "relay broke")


# Icecast itself


@contextlib.contextmanager
def feeding(url: str) -> Iterator[None]:
    source = ["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]
    words = [*source, "-ac", "2", "-c:a", "libmp3lame", "-b:a", "128k", "-content_type", "audio/mpeg"]
    with subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *words, "-f", "mp3", url]) as process:
        try:
            yield
        finally:
            process.kill()


def set_title(server: icecast.Icecast, title: str) -> None:
    query = f"mode=updinfo&mount=/tone&charset=UTF-8&song={quote(title)}"
    manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    manager.add_password(None, server.url, "source", icecast.PASSWORD)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    with opener.open(f"{server.url}/admin/metadata?{query}", timeout=120) as answer:
        assert b"<return>1</return>" in answer.read()


@pytest.mark.timeout(900)
@pytest.mark.skipif(not icecast.is_installed(), reason="Icecast isn't installed (Debian: icecast2)")
async def test_icecast_is_relayed_with_its_titles_and_over_its_restart() -> None:
    hasty = replace(PATIENT, relay_retry=RetryPolicy(first_seconds=0.2, longest_seconds=0.5))
    # Its port is kept between its two runs.
    with kept_port() as port, contextlib.ExitStack() as first:
        server = await asyncio.to_thread(first.enter_context, icecast.running(port=port))
        await asyncio.to_thread(first.enter_context, feeding(server.source_url("tone")))
        # However long it takes until there is another one.
        holding = mount_options(hold_seconds=PATIENCE_SECONDS)
        async with relaying(f"{server.url}/tone", holding, hasty) as (copy, door):
            await until(lambda: copy.state == "live")
            assert copy.media_type == "audio/mpeg"
            listener = await door.open(path="/radio/copy")
            assert len(frames(await listener.body(20_000))) > 40
            await asyncio.to_thread(set_title, server, "K\u00f6nig \u2013 \u6771\u4eac")
            await until(lambda: copy.title == "K\u00f6nig \u2013 \u6771\u4eac", "the title")
            await asyncio.to_thread(first.close)
            await until(lambda: not copy.station.available, "Icecast's end")
            with contextlib.ExitStack() as second:
                await asyncio.to_thread(second.enter_context, icecast.running(port=port))
                await asyncio.to_thread(second.enter_context, feeding(server.source_url("tone")))
                await until(lambda: copy.station.available, "its return")
                before = copy.media_time
                await until(lambda: copy.media_time > before + 2)
                rest = await listener.body(30_000)
                assert len(frames(rest)) > 60
                assert copy.listeners == 1
                await asyncio.to_thread(second.close)
