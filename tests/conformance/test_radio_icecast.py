"""What Icecast's users have beside the stream: what sources say of themselves, playlists, the status."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from media.mp3.icy import Deinterleaver
from origin.radio.mounts.icy_headers import announced_bitrate
from origin.radio.mounts.limits import RadioLimits
from origin.radio.mounts.mount import Mount
from packager.radio.source_client_station import SourceClientStation
from tests.radio_server import (
    FRAME_BYTES,
    Client,
    Feed,
    Server,
    mount_options,
    numbered_frame,
    numbers,
    one_mount,
    serving,
)
from tests.waiting import until

SECONDS = 12
"""Blocks that are more than the kernel keeps for one listener, and that its transport has room for."""

AUTH = "Authorization: Basic c291cmNlOnNlc2FtZQ=="
SPOKEN = ("ice-name: N\u00c3\u00a4me", "ice-genre: Tones", "ice-url: http://u.example", "ice-public: 1")


async def body(client: Client) -> bytes:
    return await client.reader.readexactly(int(client.headers["content-length"]))


# Icecast's manual, "Source headers": what clients such as butt and libshout send is what listeners are told.
async def test_listeners_are_told_what_the_source_says_of_itself() -> None:
    mount = Mount("test", SourceClientStation(128), mount_options())
    async with serving({"test": mount}, passwords={"test": "sesame"}) as server:
        await server.source("test", AUTH, *SPOKEN, "ice-description: Of tones")
        listener = await server.open()
        expected = {
            "icy-name": "N\u00e4me",
            "icy-genre": "Tones",
            "icy-url": "http://u.example",
            "icy-pub": "1",
        }
        assert {**expected, "icy-description": "Of tones"}.items() <= listener.headers.items()


# Who starts a source looks at once whether it is heard; without one a station is silent after five seconds.
async def test_a_listener_may_come_before_the_sources_first_audio() -> None:
    now = 1000.0
    mount = Mount("test", SourceClientStation(128), mount_options(limits=RadioLimits()), clock=lambda: now)
    async with serving({"test": mount}, passwords={"test": "sesame"}) as server:
        now += 60
        assert (await server.open()).status == 503
        source = await server.source("test", AUTH)
        listener = await server.open()
        assert listener.status == 200
        source.writer.write(b"".join(map(numbered_frame, range(39))))
        assert numbers(await listener.body(39 * FRAME_BYTES)) == list(range(39))


# Written by libshout 2.4.6, butt 0.1.37 and ffmpeg 5.1, in this order.
@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("ice-audio-info", "samplerate=44100;channels=2;bitrate=96", 96),
        ("ice-audio-info", "ice-bitrate=64;ice-channels=2;ice-samplerate=48000", 64),
        ("ice-bitrate", "128", 128),
        ("icy-br", "192", 192),
        ("ice-audio-info", "quality=4", 0),
        ("ice-bitrate", "\u0663", 0),
        ("ice-audio-info", "bitrate=99999", 0),
    ],
)
def test_a_source_says_its_bitrate_in_several_ways(field: str, value: str, expected: int) -> None:
    assert announced_bitrate({field: value}) == expected


# RFC 9112 §5.1: whitespace around a field's value isn't part of it.
async def test_whitespace_around_what_asks_for_titles_is_no_part_of_it() -> None:
    async with one_mount() as (_feed, _mount, server):
        assert (await server.open("ICY-METADATA:\t 1 \t")).headers["icy-metaint"] == "16000"


async def test_titles_stay_at_their_places_where_a_client_takes_a_part_of_what_is_written() -> None:
    options = mount_options(burst_bytes=0)
    async with one_mount(options) as (feed, mount, server):
        listener = await server.open("Icy-MetaData: 1")
        await until(lambda: mount.listeners == 1)
        for number in range(SECONDS):
            feed.push(39, f"Title {number}")
            await feed.settled()
        splitter, audio = Deinterleaver(16000), b""
        while len(audio) < SECONDS * 39 * FRAME_BYTES:
            audio += b"".join(piece for piece, _ in splitter.receive_data(await listener.chunk()))
        assert numbers(audio) == list(range(SECONDS * 39))
        assert splitter.title == f"Title {SECONDS - 1}"


# RFC 9110 §15.5.6: Allow lists what the resource supports, and it takes sources too.
async def test_allow_names_the_methods_of_sources_too() -> None:
    async with one_mount() as (_feed, _mount, server):
        client = await server.open(method="OPTIONS")
        assert client.status == 405
        assert set(client.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "SOURCE"}


async def playlist(server: Server, ending: str, query: str = "") -> tuple[str, str]:
    client = await server.open(path=f"/radio/test.{ending}{query}")
    assert (client.status, client.headers["cache-control"]) == (200, "no-store")
    return client.headers["content-type"], (await body(client)).decode()


# Icecast's manual: ``.m3u`` and ``.xspf`` behind a mount's name are playlists of it.
async def test_a_station_has_playlists_for_players_that_open_files() -> None:
    async with one_mount() as (_feed, _mount, server):
        media_type, text = await playlist(server, "m3u")
        assert media_type == "audio/x-mpegurl"
        assert text.splitlines() == ["#EXTM3U", "#EXTINF:-1,test", "http://radio.example/radio/test"]
        media_type, text = await playlist(server, "xspf", "?key=a&b")
        assert media_type == "application/xspf+xml"
        track = ElementTree.fromstring(text).find("{*}trackList/{*}track")
        assert track is not None
        assert track.findtext("{*}location") == "http://radio.example/radio/test?key=a&b"
        assert track.findtext("{*}title") == "test"
        for path in ("/radio/other.m3u", "/radio/m3u", "/radio/test."):
            assert (await server.open(path=path)).status == 404


async def test_the_status_of_one_mount_may_be_asked_for() -> None:
    feeds = {name: Feed() for name in ("one", "two")}
    mounts = {name: Mount(name, feed, mount_options()) for name, feed in feeds.items()}
    async with serving(mounts) as server:
        for feed in feeds.values():
            feed.push()
        await until(lambda: all(mount.state == "live" for mount in mounts.values()))
        for query, expected in (("", ["one", "two"]), ("?mount=/radio/two", ["two"]), ("?mount=/x", [])):
            found = json.loads(await body(await server.open(path=f"/status-json.xsl{query}")))
            names = [one["server_name"] for one in found["icestats"]["source"]]
            assert names == expected
