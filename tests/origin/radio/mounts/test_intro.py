"""What each listener of a station hears first: a file, where the station's audio is like it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import structlog

from media.errors import MediaError
from media.mp3.icy import Deinterleaver
from origin.config.load import load
from origin.config.options import Config, ConfigError, RadioOptions
from origin.radio.mounts.listeners import INTRO_STALLED_SECONDS
from origin.radio.mounts.mount import Mount
from origin.radio.station_factory import StationMaker, make_stations
from packager.process.ffmpeg_discovery import Tools
from packager.radio.intro import Intro, read_intro
from packager.radio.limits import StationLimits
from packager.radio.source_client_station import SourceClientStation
from tests.patience import CLIENT_SECONDS, MOUNT
from tests.radio_server import (
    FRAME_BYTES,
    mount_options,
    numbered_frame,
    numbers,
    one_mount,
    serving,
)
from tests.waiting import until

FIRST = 900_000
FRAMES = 400
"""More than is sent of it at once."""

AUTH = "Authorization: Basic c291cmNlOnB3"  # source:pw, by coreutils' base64


@pytest.fixture
def intro(tmp_path: Path) -> Intro:
    path = tmp_path / "welcome.mp3"
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
    path.write_bytes(tag + b"".join(map(numbered_frame, range(FIRST, FIRST + FRAMES))))
    return read_intro(path, StationLimits())


def test_its_frames_are_read_without_tags(intro: Intro) -> None:
    assert numbers(intro.data) == list(range(FIRST, FIRST + FRAMES))
    # ISO/IEC 11172-3: 1,152 samples.
    assert intro.seconds == Fraction(1152 * FRAMES, 44100)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "."),
        (bytes(5000), "."),
        (
            numbered_frame(0) * 4 + b"\xff\xfb\x94\x00" + bytes(380) + b"\xff\xfb\x94\x00" + bytes(380),
            "sample rate or channels change",
        ),
        (numbered_frame(0) * 30, "larger than 10000 bytes"),
    ],
)
def test_what_cant_be_played_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.mp3").write_bytes(content)
    with pytest.raises(MediaError, match=reason):
        read_intro(tmp_path / "x.mp3", StationLimits(intro_bytes=10_000))


async def test_each_listener_hears_it_first_and_then_the_station(intro: Intro) -> None:
    async with one_mount(mount_options(intro=intro)) as (feed, mount, server):
        feed.push(39, "Title")
        await feed.settled()
        for fields in ([], ["Icy-MetaData: 1"]):
            listener = await server.open(*fields)
            splitter, audio = Deinterleaver(16000 if fields else 0), b""
            while len(audio) < (FRAMES + 39) * FRAME_BYTES:
                audio += b"".join(piece for piece, _ in splitter.receive_data(await listener.chunk()))
            found = numbers(audio)
            assert found == [*range(FIRST, FIRST + FRAMES), *range(39)]
            assert splitter.title == ("Title" if fields else "")
        # Who has heard it goes on with the others.
        feed.push()
        await feed.settled()
        await until(lambda: mount.listeners == 2)


async def test_it_is_left_out_where_the_station_sends_something_else(intro: Intro) -> None:
    mono = b"\xff\xfb\x90\xc0" + bytes(413)
    mount = Mount("test", SourceClientStation(128), mount_options(intro=intro))
    async with serving({"test": mount}, passwords={"test": "pw"}) as server:
        with structlog.testing.capture_logs() as lines:
            source = await server.source("test", AUTH)
            source.writer.write(mono * 39 * 3)
            await until(lambda: mount.state == "live")
            listener = await server.open()
            assert (await listener.body(FRAME_BYTES))[:FRAME_BYTES] == mono
    (line,) = [one for one in lines if one["event"] == "intro isn't played"]
    assert (
        line["reason"] == "it has mp3 of 44100 Hz, channels: 2, and the station mp3 of 44100 Hz, channels: 1"
    )


async def test_a_listener_that_goes_in_the_middle_leaves_nothing_and_one_that_stays_is_ended(
    intro: Intro,
) -> None:
    async with one_mount(mount_options(intro=intro)) as (feed, mount, server):
        feed.push()
        await feed.settled()
        (await server.open()).abort()
        await until(lambda: mount.listeners == 0, "its end")
        listener = await server.open()
        await until(lambda: mount.listeners == 1)
        mount.audience.close()
        assert mount.listeners == 0
        # RFC 9112 §8: without the last chunk it knows that this wasn't all.
        async with asyncio.timeout(CLIENT_SECONDS):
            with contextlib.suppress(ConnectionResetError):
                assert not (await listener.reader.read()).endswith(b"0\r\n\r\n")


async def test_one_that_takes_nothing_of_it_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "long.mp3"
    path.write_bytes(b"".join(map(numbered_frame, range(10_000))))
    long = await asyncio.to_thread(read_intro, path, StationLimits())
    now, options = 1000.0, mount_options(intro=long, hold_seconds=1e9)
    async with one_mount(options, clock=lambda: now) as (feed, mount, server):
        feed.push()
        await feed.settled()
        await server.open()
        sent = -1
        # Until its socket and its transport are full.
        while mount.audience.sent_bytes != sent:
            sent = mount.audience.sent_bytes
            for _ in range(20):
                await mount.audience.introduce()
                await asyncio.sleep(0.01)
        assert mount.listeners == 1
        now += INTRO_STALLED_SECONDS + 1
        await until(lambda: mount.listeners == 0, "its end")


async def test_a_crowd_that_hears_it_is_sent_more_in_turns(intro: Intro) -> None:
    limits = replace(MOUNT, written_at_once=2, intro_step_bytes=100)
    options = mount_options(intro=intro, limits=limits)
    async with one_mount(options) as (feed, mount, server):
        feed.push()
        await feed.settled()
        for _ in range(5):
            await server.open()
        await until(lambda: mount.listeners == 5)
        introducing, dismissing = mount.audience.introduce(), mount.audience.dismiss_after(0.0)
        before = mount.audience.sent_bytes
        introducing.send(None)
        # RFC 9112 §7.1: a chunk of 100 bytes takes 106.
        assert mount.audience.sent_bytes - before == 2 * 106
        dismissing.send(None)
        assert mount.listeners == 3
        # Who was dismissed meanwhile is left out.
        for rest in dismissing, introducing:
            with contextlib.suppress(StopIteration):
                while True:
                    rest.send(None)
        assert mount.audience.sent_bytes - before == 2 * 106
        assert mount.listeners == 0


def test_a_station_of_ogg_with_one_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text('[[radio]]\nname = "a.ogg"\nsource = "publish"\nintro = "welcome.mp3"\n')
    with pytest.raises(ConfigError, match=r"radio 'a\.ogg': intro: only a station of MP3 or AAC has one"):
        load(file, {}, {})


def test_one_that_isnt_there_is_a_line_in_the_log(tmp_path: Path, tools: Tools) -> None:
    station = RadioOptions(name="one", source="publish", intro=str(tmp_path / "none.mp3"))
    with structlog.testing.capture_logs() as lines:
        stations = make_stations(Config(radio=(station,)), StationMaker(tools, lambda _: None))
    assert stations.mounts["one"].options.intro is None
    (line,) = lines
    assert (line["event"], line["mount"], line["reason"]) == (
        "intro isn't played",
        "one",
        "No such file or directory",
    )
