"""A live channel's log gives the same answers everywhere: where it runs, in another process, behind Redis."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from media.hls.date_range import DateRange
from media.mp3.id3 import write_id3v2
from media.mp4.codecs.sample_entry import SampleEntry
from media.subtitles.webvtt import Cue
from origin.answers.asgi import handler_routes
from origin.live.handler import LiveHandler
from origin.live.requests.addresses import PATTERNS
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.publish.live_stream import FoldedLog, LiveStream
from packager.window.cadence import cadence
from packager.window.log import CadenceEntry, Entry, Log, RenditionFormat
from packager.window.log_encoding import LogDecoder, encode
from packager.window.model import LivePart, LiveSegment
from packager.window.rendition_log_writer import RenditionWriter
from tests.copied_channel import film
from tests.live_server import running
from tests.origin.live.served_log import ABSENT, LOG_BYTES, Answer, LogClock, LogKeeper, NoCommands, answers
from tests.packager.cluster.live_nodes import is_level, node, owner
from tests.redis_server import RedisServer
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[3]
OPTIONS = ChannelOptions("test", ladder=("240p",), part_duration=0.25, segment_duration=1.0, captions=("en",))
QUERIES = ("", "?_HLS_skip=YES", "?_HLS_skip=v2", "?token=a%20b", "?_HLS_skip=YES&token=ab")


def listed(channel: Channel, name: str = "240p") -> list[LiveSegment]:
    return list(channel.renditions[name].window.listed)


def targets_of(channel: Channel) -> list[str]:
    """Give every address that players of a channel know, and some of what isn't there."""
    names = [
        "master.m3u8",
        "master.m3u8?token=ab",
        "manifest.mpd",
        "manifest.mpd?token=ab",
        "none/media.m3u8",
    ]
    for name, rendition in channel.renditions.items():
        window = rendition.window
        numbers = [one.number for one in window.listed]
        last, part = window.last or (0, 0)
        queries = [*QUERIES, f"?_HLS_msn={numbers[-1]}", f"?_HLS_msn={last}&_HLS_part={part}"]
        queries += [
            f"?_HLS_msn={numbers[0]}&_HLS_skip=YES",
            f"?_HLS_msn={last + 9}",
            "?_HLS_part=1",
            "?_HLS_msn=a",
        ]
        found = [f"media.m3u8{query}" for query in queries]
        text = channel.presentation.media(name).decode()
        found += re.findall(r'URI="([^".][^"]*)"', text)
        reach = range(window.finished.oldest_number - 2, window.next_number + 3)
        found += [f"init-{number}.mp4" for number in (0, *reach)]
        # Captions are there for DASH, too, as fragments.
        for extension in {window.extension, "m4s"}:
            found += [f"{number}.{extension}" for number in reach]
            found += [f"{number}.{index}.{extension}" for number in reach for index in range(6)]
        names += [f"{name}/{one}" for one in dict.fromkeys(found)]
    return [f"/live/{channel.name}/{name}" for name in names]


def is_to_come(channel: Channel, target: str) -> bool:
    """Tell whether an address is that of media, or of an init segment, behind all that a rendition has."""
    name, _, file = target.removeprefix(f"/live/{channel.name}/").partition("/")
    number = file.partition(".")[0].removeprefix("init-")
    return number.isdecimal() and int(number) >= channel.renditions[name].window.next_number


def answered_elsewhere(log: bytes, targets: list[str], moment: float, folder: Path) -> list[Answer]:
    """Give the answers of a process that has nothing but the log."""
    (folder / "log").write_bytes(log)
    (folder / "targets").write_text("\n".join(targets))
    (folder / "moment").write_text(repr(moment))
    command = [sys.executable, "-m", "tests.origin.live.served_log", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    modules = done.stdout.split()
    assert "packager.publish.hls" in modules
    assert [name for name in modules if name.startswith(ABSENT)] == []
    return msgspec.msgpack.decode((folder / "answers").read_bytes(), type=list[Answer])


class Recording:
    """A recorded log, which a node can share as that of a channel.

    Args:
        data: the log.
    """

    def __init__(self, data: bytes) -> None:
        reader = LogDecoder(LOG_BYTES)
        reader.receive_data(data)
        first, *self.entries = reader.entries()
        reader.receive_eof()
        assert isinstance(first, CadenceEntry)
        self.clock = LogClock()
        self.folded = FoldedLog(first, clock=self.clock)
        self.log = Log(self.folded.fold, first)
        self.log.follow()

    def play_on(self) -> None:
        """Let the next entry come."""
        self.log.append(self.entries.pop(0))
        self.clock.count += 1


async def answered_behind_redis(
    log: bytes, targets: list[str], moment: float, server: RedisServer
) -> list[Answer]:
    """Give the answers of a node that has the log over Redis from another one."""
    server.command("FLUSHALL")
    recording = Recording(log)
    while not all(one.window.has_segments() for one in recording.folded.renditions.values()):
        recording.play_on()
    async with node(server, recording) as packager, node(server) as edge:
        await until(lambda: owner(packager) and is_level(recording, edge), "the first segment")
        # Playlists leave out date ranges by their age: none gets older here, however slow the machine is.
        began = time.monotonic()
        edge.streams["test"].presentation.clock = lambda: began
        while recording.entries:
            recording.play_on()
            await asyncio.sleep(0)
        await until(lambda: is_level(recording, edge), "all of it")
        stream = edge.streams["test"]
        stream.wall_clock = lambda: moment
        stream.close()
        return await answers(stream, targets)


async def served_elsewhere(channel: Channel, log: LogKeeper, folder: Path) -> list[Answer]:
    """Ask for everything here and in a process that has the log, and compare."""
    targets, moment = targets_of(channel), time.time()
    channel.stream.wall_clock = lambda: moment
    here = await answers(channel.stream, targets)
    there = await asyncio.to_thread(answered_elsewhere, bytes(log.data), targets, moment, folder)
    for one, other in zip(here, there, strict=True):
        assert one == other
    return here


async def test_a_channel_with_captions_gaps_breaks_and_events(
    tools: Tools, tmp_path: Path, redis_server: RedisServer
) -> None:
    log = LogKeeper()
    channel = Channel(OPTIONS, tools, followers=[log.take], clock=log.clock)
    commands = channel.stream.commands
    async with running(channel):
        await until(lambda: channel.ready, "the first segment")
        edge = channel.presentation.live_edge
        assert edge is not None
        async with commands.feeding_captions():
            assert commands.add_captions("en", [Cue(500, 2500, "words"), Cue(3000, 9000, "more")], edge) == 0
        tag = DateRange("a", edge, None, None, Fraction(3), {"X-A": "b"})
        commands.publish_metadata(tag, write_id3v2([("TIT2", "title")]))
        await until(lambda: b"words" in channel.presentation.media("captions-en") or len(listed(channel)) > 3)
        # It stands still for long enough to be late, and then dies.
        assert channel.pid is not None
        os.kill(channel.pid, signal.SIGSTOP)
        await until(lambda: listed(channel)[-1].gap, "a gap")
        os.kill(channel.pid, signal.SIGKILL)
        commands.publish_metadata(replace(tag, duration=Fraction(2), client_attributes={}), b"")
        await until(lambda: channel.restarts and channel.state == "live", "the restart")
        count = len(listed(channel))
        await until(lambda: len([one for one in listed(channel)[count:] if not one.gap]) > 2, "segments")
    found = await served_elsewhere(channel, log, tmp_path)
    targets, moment = targets_of(channel), channel.stream.wall_clock()
    there = await answered_behind_redis(bytes(log.data), targets, moment, redis_server)
    for one, other in zip(found, there, strict=True):
        # What is to come may be at another node already: there it isn't unknown.
        assert one == other or (is_to_come(channel, one[0]) and (one[1], other[1]) == (404, 503))
    seen = Counter(status for _, status, _, _ in found)
    assert seen[200] > 200
    assert {400, 404} <= set(seen)
    text = channel.presentation.media("240p").decode()
    assert {"#EXT-X-GAP", "#EXT-X-DISCONTINUITY", "#EXT-X-PART", "#EXT-X-DATERANGE"} <= {
        line.partition(":")[0] for line in text.splitlines()
    }
    assert any(b"words" in body for target, _, _, body in found if target.endswith(".vtt"))
    assert any(b"emsg" in body for target, _, _, body in found if "/240p/" in target)


async def test_a_channel_that_goes_on_with_what_was_left_on_disk(tools: Tools, tmp_path: Path) -> None:
    shown = await asyncio.to_thread(film)
    options = replace(OPTIONS, source=str(shown), ladder=("source",), data=tmp_path / "data", dvr_window=3600)
    former = Channel(options, tools)
    async with running(former):
        await until(
            lambda: all(
                sum(one.stored is not None for one in listed(former, name)) > 2 for name in former.renditions
            ),
            "segments on disk",
        )
    log = LogKeeper()
    channel = Channel(options, tools, followers=[log.take], clock=log.clock)
    async with running(channel):
        await until(
            lambda: (
                channel.state == "live"
                and all(
                    sum(one.stored is not None and not one.data for one in listed(channel, name)) > 4
                    for name in channel.renditions
                )
            ),
            "segments that have left memory",
        )
    found = await served_elsewhere(channel, log, tmp_path)
    behind = [one.number for one in listed(channel, "source") if one.stored and not one.data]
    stored = {f"/live/test/source/{number}.m4s" for number in behind}
    assert stored
    assert {target for target, status, _, _ in found if status == 200} >= stored


async def test_who_waits_where_a_log_is_served_is_answered_when_the_part_comes() -> None:
    stream, reader = LiveStream("test", NoCommands()), LogDecoder(LOG_BYTES)

    def follow(entry: Entry) -> None:
        reader.receive_data(encode(entry))
        for one in reader.entries():
            stream.fold(one)

    times, part = cadence(Fraction(30), 1.0, 0.25), LivePart(b"part", Fraction(1, 4), independent=True)
    entry = CadenceEntry(times, (RenditionFormat("240p", True, 1000),), 100)
    folded = FoldedLog(entry)
    log = Log(folded.fold, entry)
    log.follow(follow)
    writer = RenditionWriter(log, "240p", folded.renditions["240p"].window)
    writer.begin(b"init", SampleEntry(b"avc1", "avc1.42c01f", b"", (), width=426, height=240))
    transport = httpx.ASGITransport(Starlette(routes=handler_routes(LiveHandler({"test": stream}), PATTERNS)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test/live/test/240p/") as client:
        # The first waits for something to play, which comes with the first segment.
        asked = [asyncio.create_task(client.get("media.m3u8", timeout=100))]
        await until(lambda: stream.blocked == 1, "the wait for the first segment")
        for index in range(4):
            writer.append(part, 100 + index * part.duration, ends_segment=index == 3)
        targets = ["media.m3u8?_HLS_msn=101&_HLS_part=0", "101.0.m4s", "101.m4s"]
        asked += [asyncio.create_task(client.get(target, timeout=100)) for target in targets]
        await until(lambda: stream.blocked == 3, "the waits for the next part")
        for index in range(4):
            writer.append(part, 101 + index * part.duration, ends_segment=index == 3)
        found = await asyncio.gather(*asked)
    assert [answer.status_code for answer in found] == [200] * 4
    assert "100.m4s" in found[0].text
    assert 'URI="101.0.m4s"' in found[1].text
    assert [answer.content for answer in found[2:]] == [b"part", 4 * b"part"]
