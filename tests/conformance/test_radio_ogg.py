"""What a mount of Ogg owes its listeners: headers first, whole pages, and one valid chain (RFC 3533)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from media.ogg.page import FIRST, paginate
from origin.radio.mounts.mount import Mount
from origin.radio.relay import Relay, RelayOptions
from packager.radio.audio_blocks import AudioBlock
from packager.radio.audio_source import NO_STATION_INFO
from packager.radio.ogg_block_reader import OggBlockReader
from packager.radio.source_client_station import SourceClientStation
from tests import icecast
from tests.conformance.ogg_mount import AUTH, OGG, PASSWORD, heard, published, rest, send
from tests.ogg import ENCODERS, SECONDS, encoded, judged, packets
from tests.patience import MOUNT
from tests.radio_server import LIMIT, Feed, mount_options, serving
from tests.waiting import until

TITLES_TOO = "Icy-MetaData: 1"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {codec: encoded(codec, f"Öne {codec}") for codec in ENCODERS}


def halves(data: bytes) -> tuple[bytes, bytes]:
    """Cut within the second page of audio; the first two pages are headers."""
    cut = [match.start() for match in re.finditer(b"OggS", data)][3] + 200
    return data[:cut], data[cut:]


# Icecast 2.4.4 has no icy-metaint for Ogg either: the titles are in the stream's own comments.
@pytest.mark.parametrize("codec", ENCODERS)
async def test_a_listener_gets_the_stream_as_it_was_sent_without_icy_blocks(
    codec: str, files: dict[str, bytes]
) -> None:
    async with published() as (mount, server):
        listener = await server.open(TITLES_TOO)
        assert listener.headers["content-type"] == OGG
        assert "icy-metaint" not in listener.headers
        await send(server, mount, files[codec], SECONDS)
        got = await heard(mount, listener)
    assert await asyncio.to_thread(packets, got) == await asyncio.to_thread(packets, files[codec])
    report = await asyncio.to_thread(judged, got)
    assert (report.types, report.titles, report.warnings) == ([codec], [f"Öne {codec}"], [])


@pytest.mark.parametrize("codec", ENCODERS)
async def test_who_comes_later_gets_the_headers_and_then_whole_packets(
    codec: str, files: dict[str, bytes]
) -> None:
    size = len(files[codec])
    async with published(mount_options(burst_bytes=size // 2)) as (mount, server):
        await send(server, mount, files[codec], SECONDS)
        listener = await server.open(TITLES_TOO)
        got = await heard(mount, listener)
    everything, found = packets(files[codec]), packets(got)
    assert len(everything) // 5 < len(found) < len(everything)
    assert found == everything[-len(found) :]
    report = await asyncio.to_thread(judged, got)
    assert (report.types, report.titles) == ([codec], [f"Öne {codec}"])


async def test_who_comes_without_a_burst_waits_for_the_next_page_with_its_headers(
    files: dict[str, bytes],
) -> None:
    data = files["vorbis"]
    begun, remaining = halves(data)
    async with published(mount_options(burst_bytes=0)) as (mount, server):
        source = await send(server, mount, begun, 1)
        listener = await server.open()
        source.writer.write(remaining)
        await until(lambda: mount.media_time >= SECONDS)
        got = await heard(mount, listener)
    found = await asyncio.to_thread(packets, got)
    assert found
    assert found == (await asyncio.to_thread(packets, data))[-len(found) :]


# HEAD and HTTP/1.0 as of every mount: the headers alone; a body that ends with the connection.
async def test_the_head_says_ogg_and_an_old_client_gets_plain_pages(files: dict[str, bytes]) -> None:
    async with published() as (mount, server):
        await send(server, mount, files["opus"], SECONDS)
        asked = await server.open(TITLES_TOO, method="HEAD")
        assert (asked.status, asked.headers["content-type"]) == (200, OGG)
        old = await server.open(version="1.0")
        assert "transfer-encoding" not in old.headers
        async with asyncio.timeout(LIMIT):
            assert await old.reader.readexactly(4) == b"OggS"


# RFC 3533 §4: the links of a chain follow each other, each with a serial number of its own, begun and ended.
async def test_a_listener_stays_over_sources_of_whom_one_is_cut_off(files: dict[str, bytes]) -> None:
    first, second = files["vorbis"], await asyncio.to_thread(encoded, "vorbis", "Other")
    async with published() as (mount, server):
        listener = await server.open()
        source = await send(server, mount, halves(first)[0], 1)
        source.abort()
        await until(lambda: not mount.station.available)
        await send(server, mount, second, 1 + SECONDS)
        got = await heard(mount, listener)
    report = await asyncio.to_thread(judged, got)
    assert (report.titles, report.warnings) == (["Öne vorbis", "Other"], [])


async def test_a_chain_of_the_source_stays_one_with_its_titles(files: dict[str, bytes]) -> None:
    second = await asyncio.to_thread(encoded, "flac", "Later")
    async with published() as (mount, server):
        listener = await server.open()
        await send(server, mount, files["flac"] + second, 2 * SECONDS)
        assert mount.title == "Maker - Later"
        assert [title.text for title in mount.now.titles] == ["Maker - Öne flac", "Maker - Later"]
        assert [float(title.media_time) for title in mount.now.titles] == [0, SECONDS]
        got = await heard(mount, listener)
    report = await asyncio.to_thread(judged, got)
    assert (report.titles, report.warnings) == (["Öne flac", "Later"], [])


async def test_a_fallback_of_ogg_is_heard_and_left_again(files: dict[str, bytes]) -> None:
    main, spare = (
        Mount("main", SourceClientStation(128, OGG), mount_options()),
        Mount("spare", SourceClientStation(128, OGG), mount_options()),
    )
    main.fall_back_to(spare)
    passwords = {"main": PASSWORD, "spare": PASSWORD}
    begun, remaining = halves(await asyncio.to_thread(encoded, "vorbis", "Spare"))
    async with serving({"main": main, "spare": spare}, passwords=passwords) as server:
        listener = await server.open(path="/radio/main")
        fallback = await send(server, main, begun, 1, "spare")
        source = await send(server, main, files["vorbis"], 1 + SECONDS, "main")
        source.abort()
        await until(lambda: main.is_silent)
        fallback.writer.write(remaining)
        await until(lambda: main.media_time >= 2 * SECONDS - 0.1)
        got = await heard(main, listener)
    report = await asyncio.to_thread(judged, got)
    assert (report.titles, report.warnings) == (["Spare", "Öne vorbis", "Spare"], [])


# A response has one type. FFmpeg's players can't follow a chain into another codec, so it is of the type.
async def test_a_fallback_of_another_type_isnt_heard_while_there_are_listeners(
    files: dict[str, bytes],
) -> None:
    options = mount_options(hold_seconds=30, limits=replace(MOUNT, watch_seconds=0.05))
    now = 1000.0
    main = Mount("main", SourceClientStation(128, OGG), options, clock=lambda: now)
    feed = Feed()
    spare = Mount("spare", feed, mount_options())
    main.fall_back_to(spare)
    with capture_logs() as logs:
        async with serving({"main": main, "spare": spare}, passwords={"main": PASSWORD}) as server:
            source = await send(server, main, files["opus"], SECONDS, "main")
            listener = await server.open(path="/radio/main")
            source.abort()
            await until(lambda: main.is_silent)
            for _ in range(3):
                feed.push()
            await feed.settled()
            assert main.media_time == SECONDS
            now += 31
            # RFC 9112 §7.1: it was all there is.
            got = await rest(listener)
            feed.push()
            await until(lambda: main.media_type == "audio/mpeg", "the fallback")
    assert await asyncio.to_thread(packets, got) == await asyncio.to_thread(packets, files["opus"])
    told = [line for line in logs if "fallback" in line["event"]]
    assert [(line["type"], line["not_heard"]) for line in told] == [(f"{OGG}; codecs=opus", "audio/mpeg")]


async def test_a_source_of_another_codec_ends_the_listeners_of_the_first(files: dict[str, bytes]) -> None:
    async with published() as (mount, server):
        source = await send(server, mount, files["vorbis"], SECONDS)
        listener = await server.open()
        source.abort()
        await until(lambda: not mount.station.available)
        await send(server, mount, files["opus"], 2 * SECONDS)
        assert await asyncio.to_thread(packets, await rest(listener)) == packets(files["vorbis"])
        again = await server.open()
        got = await heard(mount, again)
    assert (await asyncio.to_thread(judged, got)).types == ["opus"]


# Icecast 2.4.4 can do it for Vorbis alone.
@pytest.mark.parametrize("codec", ENCODERS)
async def test_a_title_that_comes_beside_the_stream_gets_into_it(codec: str, files: dict[str, bytes]) -> None:
    begun, remaining = halves(files[codec])
    async with published() as (mount, server):
        listener = await server.open()
        source = await send(server, mount, begun, 0.9)
        query = "mode=updinfo&mount=/radio/test&song=Sp%C3%A4ter"
        answer = await server.open(AUTH, "Connection: close", path=f"/admin/metadata?{query}")
        assert answer.status == 200
        source.writer.write(remaining)
        await until(lambda: mount.media_time >= SECONDS)
        status = await server.open("Connection: close", path="/status-json.xsl")
        async with asyncio.timeout(LIMIT):
            shown = json.loads(await status.reader.read())["icestats"]["source"][0]
        assert (shown["title"], shown["server_type"]) == ("Später", OGG)
        got = await heard(mount, listener)
    report = await asyncio.to_thread(judged, got)
    assert (report.types, report.titles, report.warnings) == ([codec] * 2, [f"Öne {codec}", "Später"], [])


class Pages:
    """A source that gives blocks of Ogg as soon as it is told to."""

    media_type = OGG
    available = True
    is_idle = False
    trouble = ""
    station_info = NO_STATION_INFO
    bitrate = 128

    def __init__(self) -> None:
        self.queue: asyncio.Queue[AudioBlock] = asyncio.Queue()

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Give what was pushed."""
        while True:
            yield await self.queue.get()


async def test_a_listener_that_is_set_forward_goes_on_with_a_whole_page() -> None:
    noise = await asyncio.to_thread(encoded, "flac", "Loud", seconds=20, source="anoisesrc=color=white")
    found = OggBlockReader().receive_data(noise)
    pages = Pages()
    mount = Mount("test", pages, mount_options(burst_bytes=128 * 1024, queue_bytes=256 * 1024, skips=True))
    got = bytearray()

    async def read() -> None:
        while chunk := await listener.chunk():
            got.extend(chunk)

    async with serving({"test": mount}) as server:
        listener = await server.open()
        await until(lambda: mount.listeners)
        for block in found[:-5]:
            pages.queue.put_nowait(block)
        await until(lambda: mount.audience.skipped, "its being set forward")
        await until(lambda: pages.queue.empty())
        reading = asyncio.create_task(read())
        for block in found[-5:]:
            pages.queue.put_nowait(block)
        last = found[-1].ogg.pages[-1].body[-100:] if found[-1].ogg else b""
        async with asyncio.timeout(LIMIT):
            while last not in got:
                await mount.audience.flush()
                await asyncio.sleep(0.005)
        mount.close()
        await reading
    sent = await asyncio.to_thread(packets, noise)
    heard_packets = await asyncio.to_thread(packets, bytes(got))
    assert [one for one in sent if one in set(heard_packets)] == heard_packets
    assert len(heard_packets) < len(sent)
    report = await asyncio.to_thread(judged, bytes(got))
    # Its headers come once, and what it hasn't heard is a hole that its decoder is told of.
    assert report.titles == ["Loud"]
    assert [warning for warning in report.warnings if "gap" in warning]


@pytest.mark.parametrize("place", ["between pages", "within a page"])
async def test_garbage_in_the_middle_costs_no_more_than_a_page(place: str, files: dict[str, bytes]) -> None:
    data = files["opus"]
    at = data.index(b"OggS", len(data) // 2) + (500 if place == "within a page" else 0)
    async with published() as (mount, server):
        listener = await server.open()
        await send(server, mount, data[:at] + bytes(range(256)) * 100 + data[at:], SECONDS)
        got = await heard(mount, listener)
    sent, found = packets(data), packets(got)
    assert set(found) <= set(sent)
    assert len(found) >= len(sent) - (0 if place == "between pages" else 60)


BIG = b"OpusTags" + bytes(4) + b"\1\0\0\0" + (10 << 20).to_bytes(4, "little") + b"X=" + bytes((10 << 20) - 2)


@pytest.mark.parametrize("what", ["garbage", "headers of 10 MB", "another codec", "no stream"])
async def test_what_is_no_audio_is_refused(what: str, files: dict[str, bytes]) -> None:
    first = files["opus"][: files["opus"].index(b"OggS", 4)]
    serial = int.from_bytes(first[14:18], "little")
    data = {
        "garbage": bytes(200_000),
        "headers of 10 MB": first + b"".join(page.serialize() for page in paginate([BIG], serial, 1)),
        "another codec": paginate([b"\x80theora\3\2\1" + bytes(32)], 1, 0, FIRST)[0].serialize(),
        "no stream": b"OggS",
    }[what]
    async with published() as (mount, server):
        length = f"Content-Length: {len(data)}"
        source = await server.begin("PUT", AUTH, f"Content-Type: {OGG}", length)
        source.writer.write(data)
        async with asyncio.timeout(LIMIT):
            assert (await source.reader.readline()).startswith(b"HTTP/1.1 415 ")
        await until(lambda: not mount.station.available)
        assert mount.state != "live"


async def test_a_source_that_sends_headers_and_never_audio_loses_its_place(files: dict[str, bytes]) -> None:
    headers = files["vorbis"][:4028]
    async with published(silent_seconds=0.5) as (mount, server):
        source = await server.source("test", AUTH, media_type=OGG)

        async def repeat() -> None:
            while True:
                source.writer.write(headers)
                await asyncio.sleep(0.05)

        sending = asyncio.create_task(repeat())
        try:
            await until(lambda: not mount.station.available, "its end")
        finally:
            sending.cancel()
            await asyncio.wait([sending])
        assert mount.media_time == 0


async def test_a_relay_of_ours_gives_the_same_packets(files: dict[str, bytes]) -> None:
    copy_options = mount_options(burst_bytes=512 * 1024)
    async with published() as (mount, upstream):
        await send(upstream, mount, files["vorbis"], SECONDS)
        relay = Relay(RelayOptions("copy", f"{upstream.url}/radio/test", media_type=OGG))
        copy = Mount("copy", relay, copy_options)
        async with serving({"copy": copy}) as server:
            await until(lambda: copy.media_time >= SECONDS - 0.1)
            assert (copy.title, copy.media_type) == ("Maker - Öne vorbis", OGG)
            listener = await server.open(path="/radio/copy")
            got = await heard(copy, listener)
    assert await asyncio.to_thread(packets, got) == await asyncio.to_thread(packets, files["vorbis"])


async def test_icecasts_ogg_is_relayed() -> None:
    if not icecast.is_installed():
        pytest.skip("Icecast isn't installed (Debian: apt-get install icecast2)")
    words = ["-re", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-ac", "2", "-c:a", "libopus"]
    words += ["-page_duration", "200000", "-metadata", "title=Far", "-content_type", OGG, "-f", "ogg"]

    async with contextlib.AsyncExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, icecast.running())
        command = ["ffmpeg", "-nostdin", "-v", "error", *words, server.source_url("far.ogg")]
        process = await asyncio.to_thread(subprocess.Popen, command)
        try:
            relay = Relay(RelayOptions("copy", f"{server.url}/far.ogg", media_type=OGG))
            copy = Mount("copy", relay, mount_options(burst_bytes=512 * 1024))
            async with serving({"copy": copy}) as door:
                await until(lambda: copy.media_time > 1.5)
                assert copy.title == "Far"
                listener = await door.open(path="/radio/copy")
                got = await heard(copy, listener)
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
    report = await asyncio.to_thread(judged, got)
    assert (report.types, report.titles) == (["opus"], ["Far"])
    assert len(await asyncio.to_thread(packets, got)) > 50
