"""What publishers push to a channel: which of several is on air, and what no stream is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from media.errors import MediaError
from media.flv.demuxer import FlvDemuxer
from media.flv.tags import FILE_HEADER, complete_tags, write_tags
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.process.process import Process
from packager.sources.limits import SourceLimits
from packager.sources.probe import inspect_supply
from packager.sources.publication import Publication, PublicationEndedError, Publisher
from packager.sources.published_source import (
    PUBLISH,
    PublishedSource,
    TakenError,
    Takeover,
    TooManyPublishersError,
)
from packager.sources.pump import StreamTaker
from tests.live_server import running
from tests.patience import CLIENT_SECONDS, LIVE
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

AT_ONCE = SourceLimits(ahead_seconds=1e6, untaken_seconds=1e6, publications=4)
"""Streams that come faster than they are played aren't slowed down."""

FIRST, SECOND = Publisher("http", "192.0.2.1"), Publisher("rtmp", "192.0.2.2")
CODING = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 10 -c:a aac"


@pytest.fixture(scope="module")
def stream(tools: Tools) -> Callable[[str, str], bytes]:
    """Make four seconds of a stream in a container, of a size."""
    made: dict[tuple[str, str], bytes] = {}

    def make(container: str, size: str = "160x120") -> bytes:
        if (container, size) not in made:
            picture = f"-f lavfi -i testsrc2=size={size}:rate=10 -f lavfi -i sine=440"
            line = f"-nostdin -v error {picture} -t 4 {CODING} -f {container} pipe:1"
            run = subprocess.run([str(tools.ffmpeg), *line.split()], capture_output=True, check=True)
            made[container, size] = run.stdout
        return made[container, size]

    return make


Streams = Callable[..., bytes]


@pytest.mark.parametrize("container", ["mpegts", "flv"])
@pytest.mark.clause("A publisher's stream is on air as soon as it is known to be one")
async def test_a_stream_is_on_air_with_its_first_key_frame_however_its_bytes_come(
    stream: Streams, container: str
) -> None:
    source = PublishedSource("studio", limits=AT_ONCE)
    publication = source.begin(FIRST)
    data = stream(container)
    for start in range(0, 20_000, 100):
        await publication.receive_data(data[start : start + 100])
    assert source.live is publication
    assert source.container == container
    publication.end()
    assert not source.live
    assert not source.publications
    assert not publication.end_reason


def hurried(data: bytes) -> bytes:
    """Let each tag come 2.9 s behind the one before by its time (FLV 10.1 §E.4.1), which is no jump yet."""
    tags = complete_tags(memoryview(data), FILE_HEADER)
    hurried = ((kind, 2900 * n, data[body:end]) for n, (kind, _, body, end) in enumerate(tags))
    return data[:FILE_HEADER] + write_tags(hurried)


@pytest.mark.clause("A clock that is wrong is told to the publisher, who isn't held back for hours meanwhile")
async def test_a_publisher_whose_clock_runs_away_is_told(stream: Streams) -> None:
    publication = PublishedSource("studio", takeover=Takeover.REFUSE).begin(FIRST)
    async with asyncio.timeout(CLIENT_SECONDS):
        with pytest.raises(MediaError, match="ahead of those at which it comes"):
            await publication.receive_data(hurried(stream("flv")))


@pytest.mark.clause("A second publisher takes the place of the first when its stream is known to be one")
async def test_the_newer_publisher_takes_over_and_the_older_hears_why(stream: Streams) -> None:
    source, told = PublishedSource("studio", limits=AT_ONCE), list[str]()
    older = source.begin(FIRST, on_end=told.append)
    await older.receive_data(stream("mpegts"))
    newer = source.begin(SECOND)
    await newer.receive_data(stream("flv")[:500])
    assert source.live is older
    await newer.receive_data(stream("flv")[500:])
    assert source.live is newer
    assert told == [older.end_reason] == ["another publisher took over"]
    with pytest.raises(PublicationEndedError, match="another publisher took over"):
        await older.receive_data(b"G")
    older.end("too late")
    assert source.publications == (newer,)


@pytest.mark.parametrize("looked_at", [False, True])
async def test_a_streams_format_is_known_behind_its_end_whether_it_was_looked_at_or_not(
    stream: Streams, looked_at: bool
) -> None:
    source = PublishedSource("studio", limits=AT_ONCE, kept_seconds=1.0)
    first, second = source.begin(FIRST), source.begin(SECOND)
    await first.receive_data(stream("mpegts"))
    await second.receive_data(stream("flv"))
    await second.receive_further_video_track(1, FlvDemuxer().receive_data(stream("flv")))
    assert second.pump is not None
    expected = ((second.pump.stream, [(1, second.further_video_tracks[1].signature)]), "flv")
    if looked_at:
        assert (source.stream, source.container) == expected
    second.end()
    assert (source.stream, source.container) == expected


async def test_a_spare_publisher_does_not_take_over_while_all_are_ended(stream: Streams) -> None:
    source, seen = PublishedSource("studio", Takeover.BACKUP, AT_ONCE), list[Publication | None]()
    first = source.begin(FIRST, on_end=lambda _: seen.append(source.live))
    spare = source.begin(SECOND)
    for one in (first, spare):
        await one.receive_data(stream("mpegts"))
    source.end_all("the key was changed")
    assert seen == [None]
    assert not source.publications


async def test_packets_without_a_picture_take_nobodys_place_however_many_they_are(stream: Streams) -> None:
    source = PublishedSource("studio", limits=AT_ONCE)
    first, second = source.begin(FIRST), source.begin(SECOND)
    await first.receive_data(stream("mpegts"))
    await second.receive_data((b"\x47\x1f\xff\x10" + bytes(184)) * 4000)
    assert second.is_playable
    assert source.live is first


async def test_nothing_is_kept_of_a_stream_that_has_ended_and_the_next_one_is_not_blamed_for_it(
    stream: Streams, tools: Tools
) -> None:
    source = PublishedSource("studio", limits=AT_ONCE)
    publication = source.begin(FIRST)
    await publication.receive_data(stream("mpegts"))
    process = await Process.start([str(tools.ffmpeg), "-version"], stdin=True)
    async with background_task(source.feed(process)):
        await asyncio.sleep(0)  # it begins
        publication.end()
    await process.stop()
    newer = source.begin(SECOND)
    await newer.receive_data(stream("flv"))
    source.reject("what was looked at is no stream")
    assert source.live is newer
    kept = weakref.ref(publication)
    del publication
    gc.collect()
    assert kept() is None


async def test_a_publisher_whose_place_was_taken_while_it_was_read_does_not_take_it_back(
    stream: Streams,
) -> None:
    taken_while_read = 0
    for steps in range(1, 25):
        source = PublishedSource("studio", limits=AT_ONCE)
        older, newer = source.begin(FIRST), source.begin(SECOND)
        await older.receive_data(stream("mpegts"))
        reading = asyncio.create_task(older.receive_data(stream("mpegts") * 50))
        for _ in range(steps):
            await asyncio.sleep(0)
        taken_while_read += not reading.done()
        await newer.receive_data(stream("flv"))
        await asyncio.wait([reading])
        # It may all have been read before.
        with pytest.raises(PublicationEndedError, match="another publisher took over"):
            await (older.receive_data(b"G") if reading.exception() is None else reading)
        older.end()
        assert source.publications == (source.live,) == (newer,)
    assert taken_while_read


@pytest.mark.clause("A publisher with no stream leaves the one that is on air alone")
@pytest.mark.parametrize("takeover", list(Takeover))
async def test_what_is_no_stream_leaves_the_one_on_air_alone(stream: Streams, takeover: Takeover) -> None:
    source = PublishedSource("studio", Takeover.REPLACE, limits=AT_ONCE)
    good = source.begin(FIRST)
    await good.receive_data(stream("mpegts"))
    for bad in (os.urandom(8192), b"\x89PNG\r\n" + bytes(8192), b"<html>" * 1000, b"FLV" + b"\xff" * 50_000):
        other = source.begin(SECOND)
        with pytest.raises(MediaError):
            await other.receive_data(bad)
        other.end("no stream")
    packets = source.begin(SECOND)
    await packets.receive_data(
        (b"G\x1f\xff\x10" + bytes(184)) * 6000
    )  # null packets, more than a start may have
    assert source.live is good
    assert source.last_error == "no stream"
    source.warn("rare key frames")
    assert source.last_error == "rare key frames"
    good.end()  # and with it what was wrong with its stream
    assert source.last_error == ""


async def test_the_end_of_what_has_no_stream_is_told(stream: Streams) -> None:
    source = PublishedSource("studio", limits=AT_ONCE)
    for bad in (b"", b"FLV", stream("mpegts")[:600]):
        publication = source.begin(FIRST)
        await publication.receive_data(bad)
        with pytest.raises(MediaError):
            publication.check_complete()
        publication.end("it has none")
    assert source.publications == ()


async def test_a_channel_that_refuses_others_keeps_its_first_publisher(stream: Streams) -> None:
    source, told = PublishedSource("studio", Takeover.REFUSE, AT_ONCE), list[str]()
    first, second = source.begin(FIRST), source.begin(SECOND, on_end=told.append)
    await first.receive_data(stream("mpegts"))
    with pytest.raises(TakenError):
        source.begin(SECOND)
    with pytest.raises(PublicationEndedError):
        await second.receive_data(stream("flv"))
    assert told
    assert source.live is first
    first.end()
    assert source.begin(SECOND)


async def test_a_spare_publisher_takes_over_when_the_first_goes(stream: Streams) -> None:
    source = PublishedSource("studio", Takeover.BACKUP, AT_ONCE)
    first, unready, spare = source.begin(FIRST), source.begin(FIRST), source.begin(SECOND)
    await first.receive_data(stream("mpegts"))
    await unready.receive_data(stream("flv")[:100])
    await spare.receive_data(stream("flv"))
    assert source.live is first
    assert not spare.end_reason
    first.end()
    assert source.live is spare
    assert source.stream == (spare.pump and spare.pump.stream)
    spare.end()
    assert not source.live
    await unready.receive_data(stream("flv")[100:])
    assert source.live is unready


async def test_there_are_no_more_publishers_than_allowed_and_none_after_the_end() -> None:
    source = PublishedSource("studio", limits=AT_ONCE)
    source.begin_slate()  # it takes nobody's place
    all_of_them = [source.begin(FIRST) for _ in range(4)]
    with pytest.raises(TooManyPublishersError):
        source.begin(SECOND)
    source.close()
    assert {one.end_reason for one in all_of_them} == {"the server ends"}
    with pytest.raises(PublicationEndedError):
        source.begin(SECOND)


@pytest.mark.parametrize("takeover", list(Takeover))
async def test_a_publisher_takes_the_slates_place_whatever_the_policy_is(
    stream: Streams, takeover: Takeover
) -> None:
    source = PublishedSource("studio", takeover, AT_ONCE)
    slate = source.begin_slate()
    await slate.receive_data(stream("mpegts"))
    assert source.live is slate
    assert [source.has_publisher] == [False]
    first = source.begin(FIRST)
    await first.receive_data(stream("flv"))
    assert source.live is first
    assert source.has_publisher
    with pytest.raises(PublicationEndedError):
        await slate.receive_data(stream("mpegts"))
    late = source.begin_slate()
    with pytest.raises(PublicationEndedError):
        await late.receive_data(stream("mpegts"))
    assert source.live is first
    assert not source.last_error


@contextlib.asynccontextmanager
async def publishing(
    publication: Publication, tools: Tools, container: str, size: str
) -> AsyncIterator[None]:
    """Publish a stream in real time, for as long as the block lasts or it is wanted."""
    picture = f"-re -f lavfi -i testsrc2=size={size}:rate=10 -re -f lavfi -i sine=440"
    argv = f"{tools.ffmpeg} -nostdin -v error {picture} {CODING} -f {container} pipe:1".split()
    encoder = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)

    async def bring() -> None:
        assert encoder.stdout is not None
        with contextlib.suppress(PublicationEndedError):
            while data := await encoder.stdout.read(1 << 14):
                await publication.receive_data(data)

    try:
        async with background_task(bring()):
            yield
    finally:
        publication.end()
        encoder.kill()
        await encoder.communicate()


@pytest.mark.clause("Another publisher's stream is played on the same playlists, behind a discontinuity")
async def test_a_channel_goes_on_with_the_stream_of_another_publisher(tools: Tools) -> None:
    options = ChannelOptions(
        "studio", PUBLISH, ladder=("240p",), part_duration=0.25, segment_duration=1.0, limits=LIVE
    )
    channel = Channel(options, tools)
    source = channel.published
    assert source is not None
    async with running(channel):
        assert channel.state == "idle"
        async with publishing(source.begin(FIRST), tools, "mpegts", "160x120"):
            await until(lambda: channel.state == "live")
            window = channel.renditions["240p"].window
            number, second = window.next_number, source.begin(SECOND)
            async with publishing(second, tools, "flv", "320x240"):
                await until(
                    lambda: any(one.number >= number and one.discontinuity for one in window.listed),
                    what="a segment of the other stream",
                )
                assert source.live is second
                assert channel.renditions["240p"].window is window
        assert channel.state == "idle"


async def bring(publication: Publication, data: bytes) -> None:
    """Publish half of a stream, and the rest in small pieces: something always follows."""
    start, size = 0, len(data) // 2
    with contextlib.suppress(PublicationEndedError):
        while start < len(data):
            await publication.receive_data(data[start : start + size])
            await asyncio.sleep(0.05)
            start, size = start + size, 1000


class Overtaken(PublishedSource):
    """A channel to which a second publisher comes when the first one's ffprobe has just been started."""

    def __init__(self, other: bytes) -> None:
        super().__init__("studio", limits=AT_ONCE)
        self._other = other
        self.coming: asyncio.Task[None] | None = None

    async def feed_only(self, publication: Publication | None, taker: StreamTaker, **more: Any) -> None:
        if self.coming is None:
            second = self.begin(SECOND)
            self.coming = asyncio.create_task(bring(second, self._other))
            await until(lambda: self.live is second)
        await super().feed_only(publication, taker, **more)


async def test_who_takes_over_while_the_first_is_looked_at_is_not_refused_for_it(
    stream: Streams, tools: Tools
) -> None:
    source = Overtaken(stream("flv", "320x240"))
    async with background_task(bring(source.begin(FIRST), stream("mpegts"))), asyncio.timeout(60):
        found = await inspect_supply(source, tools)
    assert source.coming is not None
    source.coming.cancel()
    assert source.live is not None
    assert (source.live.publisher, source.container) == (SECOND, "flv")
    assert (found.size, found.stream) == ((320, 240), source.stream)


@pytest.mark.parametrize("container", ["mpegts", "flv"])
@pytest.mark.clause("A publisher's codecs, size and frame rate are known after half a second of its stream")
async def test_a_stream_is_known_by_its_beginning(stream: Streams, tools: Tools, container: str) -> None:
    source = PublishedSource("studio", limits=AT_ONCE)
    data = stream(container)
    publication = source.begin(FIRST)
    # A second and a half of four; nothing follows, so that who asks for more waits until it is too late.
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(inspect_supply(source, tools, SourceLimits(probe_seconds=60)))
        for start in range(0, len(data) * 3 // 8, 500):
            await publication.receive_data(data[start : start + 500])
            await asyncio.sleep(0)
    found = looking.result()
    assert (found.video_codec, found.audio_codec) == ("h264", "aac")
    assert found.size == (160, 120)
    assert found.frame_rate == 10
