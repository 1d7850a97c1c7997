"""What is heard while a source is away: another mount or a file; the listeners stay where they are."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from media.mp3.icy import Deinterleaver
from media.mp3.reader import Frame, MpegAudioReader
from origin.config.limit_options import LimitOptions
from origin.config.load import load
from origin.config.options import Config, ConfigError, RadioOptions
from origin.config.warnings import unserved
from origin.radio.mounts.mount import Mount
from origin.radio.station_factory import StationMaker, make_stations
from packager.process.ffmpeg_discovery import Tools
from packager.radio.source_client_station import SourceClientStation
from tests.patience import MOUNT
from tests.radio_server import FRAME_BYTES, Client, Feed, mount_options, numbered_frame, numbers, serving
from tests.waiting import until

SECOND = 39
AUTH = "Authorization: Basic c291cmNlOnB3"  # source:pw, by coreutils' base64


def audio(first: int, count: int) -> bytes:
    return b"".join(map(numbered_frame, range(first, first + count)))


async def read_until(client: Client, wanted: Callable[[int], bool]) -> list[int]:
    """Read whole frames' numbers until one is wanted."""
    found: list[int] = []
    while not any(map(wanted, found)):
        found += numbers(await client.chunk())
    return found


async def test_a_source_that_dies_is_replaced_by_another_mount_and_comes_back() -> None:
    main = Mount("main", SourceClientStation(128), mount_options(burst_bytes=0))
    feed = Feed()
    spare = Mount("spare", feed, mount_options(burst_bytes=0))
    main.fall_back_to(spare)
    feed.begin_at(100_000)

    async def play() -> None:
        while True:
            feed.push(SECOND)
            await asyncio.sleep(0.1)

    mounts = {"main": main, "spare": spare}
    async with serving(mounts, passwords={"main": "pw"}) as server, asyncio.TaskGroup() as group:
        playing = group.create_task(play())
        await until(lambda: main.state == "live", "the fallback before any source")
        listener = await server.open(path="/radio/main")
        assert all(number >= 100_000 for number in await read_until(listener, lambda number: True))
        for base in (1000, 2000):
            source = await server.source("main", AUTH)
            source.writer.write(audio(base, 3 * SECOND))
            found = await read_until(listener, (base + 3 * SECOND - 1).__eq__)
            own = [number for number in found if number < 100_000]
            assert own == list(range(base, base + 3 * SECOND))
            source.abort()
            found = await read_until(listener, lambda number: number >= 100_000)
            await until(lambda: not main.station.available, "the source's end")
            spare_numbers = [number for number in found if number >= 100_000]
            assert all(after == before + 1 for before, after in pairwise(spare_numbers))
        assert main.listeners == 1
        playing.cancel()


async def test_a_source_that_stalls_with_an_open_socket_is_replaced_too() -> None:
    limits = replace(MOUNT, fallback_seconds=0.5)
    main, feed = Mount("main", SourceClientStation(128), mount_options(limits=limits)), Feed()
    spare = Mount("spare", feed, mount_options())
    main.fall_back_to(spare)
    async with serving({"main": main, "spare": spare}, passwords={"main": "pw"}) as server:
        source = await server.source("main", AUTH)
        source.writer.write(audio(5000, SECOND))
        await until(lambda: main.state == "live")
        listener = await server.open(path="/radio/main")
        assert numbers(await listener.body(SECOND * FRAME_BYTES)) == list(range(5000, 5000 + SECOND))
        await until(lambda: main.is_silent)
        feed.push(SECOND)
        assert numbers(await listener.body(SECOND * FRAME_BYTES)) == list(range(SECOND))


async def test_without_a_fallback_listeners_are_held_for_a_named_time_and_then_let_go() -> None:
    now = 1000.0
    main = Mount("main", SourceClientStation(128), mount_options(hold_seconds=30), clock=lambda: now)
    async with serving({"main": main}, passwords={"main": "pw"}) as server:
        source = await server.source("main", AUTH)
        source.writer.write(audio(0, SECOND))
        await until(lambda: main.state == "live")
        listener = await server.open(path="/radio/main")
        assert numbers(await listener.body(SECOND * FRAME_BYTES)) == list(range(SECOND))
        source.abort()
        now += 29
        await asyncio.sleep(2 * MOUNT.watch_seconds)
        assert main.listeners == 1
        now += 2
        # RFC 9112 §7.1: the last chunk says that this was all.
        assert await listener.chunk() == b""
        assert main.listeners == 0


async def test_a_file_is_played_while_there_is_no_source(tmp_path: Path, tools: Tools) -> None:
    tone = tmp_path / "spare.mp3"
    words = ["-f", "lavfi", "-i", "sine=frequency=440:duration=3", "-ac", "1", "-ar", "22050", "-b:a", "32k"]
    await asyncio.to_thread(subprocess.run, ["ffmpeg", "-v", "error", *words, str(tone)], check=True)
    station = RadioOptions(name="main", source="publish", source_password="sesame", fallback=str(tone))
    config = Config(radio=(station,))
    stations = await asyncio.to_thread(make_stations, config, StationMaker(tools, lambda _: None))
    (spare,) = stations.hidden.values()
    assert stations.passwords == {"main": "sesame"}
    running = asyncio.create_task(spare.run())
    try:
        async with serving(stations.mounts, passwords=stations.passwords) as server:
            main = stations.mounts["main"]
            await until(lambda: main.state == "live", "the fallback")
            listener = await server.open(path="/radio/main")
            reader = MpegAudioReader()
            reader.receive_data(await listener.body(4 * 16_000))
            found = [event.header for event in reader.events() if isinstance(event, Frame)]
            assert {(header.sample_rate, header.bitrate) for header in found} == {(44100, 128_000)}
    finally:
        running.cancel()
        await asyncio.wait([running])


# A response has one type, so for another its listeners come again.
@pytest.mark.clause("A source may come back with another format")
async def test_a_source_of_another_codec_ends_the_listeners_of_the_first(tmp_path: Path) -> None:
    words = ["-f", "lavfi", "-i", "sine=frequency=440:duration=3", "-c:a", "aac", "-f", "adts", "pipe:1"]
    answer = await asyncio.to_thread(
        subprocess.run, ["ffmpeg", "-v", "error", *words], check=True, capture_output=True
    )
    main = Mount("main", SourceClientStation(128), mount_options())
    async with serving({"main": main}, passwords={"main": "pw"}) as server:
        source = await server.source("main", AUTH)
        source.writer.write(audio(0, SECOND))
        await until(lambda: main.state == "live")
        listener = await server.open(path="/radio/main")
        assert listener.headers["content-type"] == "audio/mpeg"
        assert numbers(await listener.body(SECOND * FRAME_BYTES)) == list(range(SECOND))
        source.abort()
        await until(lambda: not main.station.available)
        other = await server.source("main", AUTH, media_type="audio/aac")
        other.writer.write(answer.stdout)
        assert await listener.chunk() == b""
        again = await server.open(path="/radio/main")
        assert again.headers["content-type"] == "audio/aac"
        assert (await again.body(1000))[:2] in (b"\xff\xf1", b"\xff\xf9")  # ISO/IEC 13818-7 §6.2


# Pictures in tags fall away, and a change of the sample rate begins a block of its own.
@pytest.mark.clause("A source may come back with another format")
async def test_a_picture_of_16_mb_in_the_stream_is_dropped() -> None:
    size = 16 << 20
    syncsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    picture = b"ID3\x03\x00\x00" + syncsafe + bytes(size)
    main = Mount("main", SourceClientStation(128), mount_options())
    async with serving({"main": main}, passwords={"main": "pw"}) as server:
        source = await server.source("main", AUTH)
        source.writer.write(audio(0, SECOND))
        await source.writer.drain()
        source.writer.write(picture)
        await source.writer.drain()
        source.writer.write(audio(SECOND, SECOND))
        await until(lambda: main.media_time > 1.9)
        listener = await server.open(path="/radio/main")
        assert numbers(await listener.body(2 * SECOND * FRAME_BYTES)) == list(range(2 * SECOND))


LOOPS = {
    "itself": [("a", "publish", None, "a")],
    "two": [("a", "publish", None, "b"), ("b", "publish", None, "a")],
    "three": [("a", "folder", None, "b"), ("b", "folder", None, "c"), ("c", "folder", None, "a")],
    "relay of itself": [("a", "relay", "http://127.0.0.1:8000/radio/a", None)],
    "its own address": [("a", "http://localhost:8000/radio/a", None, None)],
    "fallback and relay": [("a", "publish", None, "b"), ("b", "relay", "http://[::1]:8000/radio/a", None)],
}


def entries(stations: list[tuple[str, str, str | None, str | None]]) -> list[dict[str, str]]:
    keys = ("name", "source", "url", "fallback")
    return [{key: value for key, value in zip(keys, row, strict=True) if value} for row in stations]


@pytest.mark.clause("A station never hears itself")
@pytest.mark.parametrize("stations", LOOPS.values(), ids=LOOPS)
def test_a_station_that_would_hear_itself_is_refused(
    stations: list[tuple[str, str, str | None, str | None]],
) -> None:
    with pytest.raises(ConfigError, match=r"radio '[abc]': it would hear itself: . → "):
        load(None, {}, {"radio": entries(stations)})


@pytest.mark.parametrize(
    ("stations", "words"),
    [
        ([("a.ogg", "folder", None, None)], "name: a folder goes out as MP3"),
        ([("a.ogg", "publish", None, "music.mp3")], "fallback: not possible"),
        ([("a.mp3", "publish", None, "spare.OGA")], "fallback: not possible"),
        ([("a.ogg", "publish", None, "b"), ("b", "folder", None, None)], "fallback: not possible"),
        ([("a.mp3", "publish", None, "b.opus"), ("b.opus", "publish", None, None)], "fallback: not possible"),
    ],
)
def test_ogg_and_what_cant_be_it_are_told_apart_by_their_names(
    stations: list[tuple[str, str, str | None, str | None]], words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"radio 'a\.\w+': {words}"):
        load(None, {}, {"radio": entries(stations)})


def test_a_name_says_what_listeners_are_told_before_there_is_a_source(tools: Tools) -> None:
    both = [("a.ogg", "publish", None, "b.ogg"), ("b.ogg", "publish", None, None)]
    plain = [("c", "publish", None, "a.ogg"), ("d.mp3", "relay", "http://radio.example/d", None)]
    plain += [("e.AAC", "publish", None, None)]
    stations = make_stations(
        load(None, {}, {"radio": entries([*both, *plain])}), StationMaker(tools, lambda _: None)
    )
    types = {name: mount.media_type for name, mount in stations.mounts.items()}
    ogg, mpeg = "application/ogg", "audio/mpeg"
    assert types == {"a.ogg": ogg, "b.ogg": ogg, "c": mpeg, "d.mp3": mpeg, "e.AAC": "audio/aac"}


@pytest.mark.parametrize(
    ("station", "word"),
    [
        (("a", "tape", None, None), "source"),
        (("a", "relay", None, None), "url"),
        (("a", "relay", "ftp://x/", None), "url"),
    ],
)
def test_a_station_that_cant_be_is_refused(
    station: tuple[str, str, str | None, str | None], word: str
) -> None:
    with pytest.raises(ConfigError, match=f"radio 'a': {word}: "):
        load(None, {}, {"radio": entries([station])})


def test_fallbacks_that_lead_to_an_end_are_fine_and_missing_ones_are_told() -> None:
    chain = [("a", "publish", None, "b"), ("b", "publish", None, "c"), ("c", "folder", None, None)]
    other_server = [("d", "relay", "http://radio.example:8000/radio/d", "c")]
    config = load(None, {}, {"radio": entries([*chain, *other_server])})
    assert list(unserved(config)) == []
    missing = load(None, {}, {"radio": entries([("a", "publish", None, "/nowhere.mp3")])})
    assert [line for line in unserved(missing) if "fallback" in line]
    assert LimitOptions().hold_seconds == 30


async def test_a_station_keeps_its_own_name_while_a_fallback_is_heard() -> None:
    main = Mount("main", SourceClientStation(128), mount_options(burst_bytes=0))
    feed = Feed()
    spare = Mount(
        "spare", feed, mount_options(burst_bytes=0, title="Night FM", genre="Calm", url="http://n/")
    )
    main.fall_back_to(spare)
    mounts = {"main": main, "spare": spare}
    async with serving(mounts, passwords={"main": "pw"}) as server:
        source = await server.source("main", AUTH, "ice-name: Morning show", "ice-genre: Talk")
        source.writer.write(audio(0, 3 * SECOND))
        await until(lambda: main.state == "live")
        listener = await server.open("Icy-MetaData: 1", path="/radio/main")
        assert listener.headers["icy-name"] == "Morning show"
        source.abort()
        await until(lambda: not main.station.available, "the source's end")
        feed.push(SECOND)
        await until(lambda: main.title == "Night FM", "the fallback, which has no titles")
        later = await server.open("Icy-MetaData: 1", path="/radio/main")
        assert later.headers["icy-name"] == "Morning show"
        assert later.headers["icy-genre"] == "Talk"
        assert later.headers["icy-url"] != "http://n/"
        status = await server.open("Connection: close", path="/status-json.xsl")
        text = (await status.reader.read()).decode()
        named = {one["listenurl"].rpartition("/")[2]: one for one in json.loads(text)["icestats"]["source"]}
        assert (named["main"]["server_name"], named["main"]["title"]) == ("Morning show", "Night FM")
        feed.push(3 * SECOND, "Lullaby")
        await until(lambda: main.title == "Lullaby", "a title of its own")
        # Who was there before reads the name between the audio.
        splitter = Deinterleaver(16000)
        titles = set[str]()
        while "Lullaby" not in titles:
            titles |= {title for _, title in splitter.receive_data(await listener.chunk())}
        assert "Night FM" in titles
        again = await server.source("main", AUTH, "ice-name: Noon show")
        again.writer.write(audio(0, 3 * SECOND))
        await until(lambda: main.description.name == "Noon show", "the next source")
