"""Channels of a stream that somebody brings: over ffmpeg's deaths and its own changes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from fractions import Fraction

import pytest
from structlog.testing import capture_logs

from media.errors import MediaError
from media.matroska.element_ids import CLUSTER, SIMPLE_BLOCK
from media.matroska.live_writer import element
from media.stream_reader import CLOCK_RATE, StreamChunk
from media.ts.stream_reader import TransportReader, TransportReaderLimits
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.process.process import Process
from packager.sources.limits import SourceLimits
from packager.sources.pump import Pump
from packager.step_budget import AUDIO_PORTION_BYTES
from tests import hostile_media
from tests.live_server import running
from tests.packager.sources.picture_widths import width_of
from tests.patience import LIVE
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)
"""All that a test waits for together."""

BRINGING = 1 << 16
"""Bytes of a stream that come together."""

BURST = 6.0
"""Seconds of a stream that come at once."""

OPTIONS = ChannelOptions("pumped", "", ladder=("240p",), part_duration=0.25, segment_duration=1.0)
PATIENT = replace(OPTIONS, limits=LIVE)
SOUND = "-re -f lavfi -i sine=frequency=440:sample_rate=44100"
BOTH = (
    f"-re -f lavfi -i testsrc2=size=320x240:rate=12 {SOUND} -c:v libx264 -preset ultrafast -tune zerolatency "
    "-g 12 -pix_fmt yuv420p -c:a aac -f mpegts pipe:1"
)


@contextlib.asynccontextmanager
async def bringing(pump: Pump, tools: Tools, arguments: str) -> AsyncIterator[None]:
    """Give a pump what an ffmpeg of another make makes."""
    argv = [str(tools.ffmpeg), "-nostdin", "-v", "error", *arguments.split()]
    maker = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)

    async def bring() -> None:
        assert maker.stdout is not None
        while data := await maker.stdout.read(1 << 14):
            await pump.receive_data(data)

    task = asyncio.create_task(bring())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(ProcessLookupError):
            maker.kill()
        await maker.communicate()


async def test_a_stream_that_is_brought_plays_over_the_death_of_its_ffmpeg(
    tools: Tools,
) -> None:
    pump = Pump("mpegts", limits=LIVE.source)
    channel = Channel(PATIENT, tools, pump=pump)
    async with bringing(pump, tools, BOTH), running(channel):
        window = channel.renditions["240p"].window
        await until(lambda: channel.ready and channel.pid)
        window = channel.renditions["240p"].window
        assert channel.cadence.frame_rate == 12
        assert channel.pid is not None
        os.kill(channel.pid, signal.SIGKILL)
        await until(lambda: channel.restarts)
        number = window.next_number
        await until(lambda: window.next_number >= number + 3)
        assert channel.restarts == 1
        assert sum(segment.discontinuity for segment in window.listed) == 1
        assert {one.duration for one in list(window.listed)[-2:]} == {Fraction(1)}


async def test_a_stream_that_ends_is_waited_for_without_an_ffmpeg(
    tools: Tools,
) -> None:
    pump = Pump("mpegts", limits=LIVE.source)
    channel = Channel(PATIENT, tools, pump=pump)
    async with running(channel):
        async with bringing(pump, tools, BOTH):
            await until(lambda: channel.ready)
        pump.receive_eof()
        await until(lambda: channel.restarts == 1 and channel.pid is None)
        before = time.monotonic()
        await until(lambda: time.monotonic() > before + 1)
        assert channel.pid is None
        number = channel.renditions["240p"].window.next_number
        pump.begin("mpegts")
        async with bringing(pump, tools, BOTH):
            await until(lambda: channel.renditions["240p"].window.next_number > number and channel.pid)


async def test_a_picture_that_changes_its_size_goes_on_behind_a_discontinuity_with_an_init_of_its_own(
    tools: Tools,
) -> None:
    pump = Pump("mpegts", limits=LIVE.source)
    channel = Channel(replace(PATIENT, ladder=("source",)), tools, pump=pump)
    async with running(channel):
        async with bringing(pump, tools, BOTH):
            await until(lambda: channel.ready)
        async with bringing(pump, tools, BOTH.replace("320x240", "160x120")):
            window = channel.renditions["source"].window
            await until(lambda: window.timeline and window.timeline.entry.width == 160 and window.open)
            number = window.next_number
            await until(lambda: window.next_number > number + 1)
    shown = [one for one in window.listed if one.timeline is not None and one.data]
    assert [key for key, _ in itertools.groupby(width_of(one) for one in shown)] == [320, 160]
    (changed,) = [one for one in window.listed if one.discontinuity and width_of(one) == 160]
    assert changed.parts[0].independent
    playlist = channel.presentation.media("source").decode()
    # RFC 8216bis §4.4.4.3: the discontinuity, and a map of its own for what is behind it
    assert f'#EXT-X-MAP:URI="init-{changed.number}.mp4"' in playlist.partition("#EXT-X-DISCONTINUITY\n")[2]


@pytest.fixture(scope="module")
def film(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A minute, with a key frame each second."""
    path = tmp_path_factory.mktemp("film") / "film.ts"
    words = BOTH.replace("-re ", "").replace("pipe:1", f"-t 60 {path}").split()
    subprocess.run([str(tools.ffmpeg), "-nostdin", "-v", "error", *words], check=True)
    return path.read_bytes()


async def test_what_could_come_at_any_speed_is_held_to_its_own_time_and_played_without_a_break(
    tools: Tools, film: bytes
) -> None:
    pump = Pump("mpegts", limits=LIVE.source)
    channel = Channel(PATIENT, tools, pump=pump)
    clock = 0.0

    async def bring() -> None:
        nonlocal clock
        reader = TransportReader()
        for start in range(0, len(film), 1 << 14):
            data = film[start : start + (1 << 14)]
            await pump.receive_data(data)
            clock = max([clock, *((piece.clock or 0) / CLOCK_RATE for piece in reader.receive_data(data))])

    async with running(channel):
        begin = time.monotonic()
        bringing_it = asyncio.create_task(bring())
        await until(lambda: len(channel.renditions["240p"].window.listed) >= 4)
        window = channel.renditions["240p"].window
        # Twenty seconds ahead of real time and no more; what comes together and the film's start are some.
        assert 4 < clock < time.monotonic() - begin + 23
        assert not any(segment.gap or segment.discontinuity for segment in window.listed)
        assert channel.restarts == 0
        bringing_it.cancel()


async def test_a_burst_at_the_beginning_of_a_live_stream_is_no_latency_for_ever(
    tools: Tools, film: bytes
) -> None:
    # In so short a time what comes a little unevenly would look like a stream that isn't live.
    pacing = SourceLimits(window_seconds=3.0, live_rate=1.3)
    pump = Pump("mpegts", limits=pacing, channel="burst")
    channel = Channel(OPTIONS, tools, pump=pump)
    clock = 0.0

    async def bring() -> None:
        nonlocal clock
        reader, begin, burst = TransportReader(), time.monotonic(), 0.0
        for start in range(0, len(film), 4096):
            data = film[start : start + 4096]
            clock = max([clock, *((piece.clock or 0) / CLOCK_RATE for piece in reader.receive_data(data))])
            if channel.pid is not None:
                burst = BURST  # now that it is played, and not before, so much comes at once
            await asyncio.sleep(max(begin + clock - burst - time.monotonic(), 0))
            await pump.receive_data(data)

    with capture_logs() as logs:
        async with running(channel):
            live = asyncio.create_task(bring())
            await until(lambda: any(line["event"].startswith("source is ahead") for line in logs))
            live.cancel()
    (told,) = [line for line in logs if line["event"].startswith("source is ahead")]
    assert told["channel"] == "burst"
    # The rest is what its unevenness asks for.
    assert told["seconds"] > 2


async def test_who_brings_a_stream_is_held_back_by_an_ffmpeg_that_is_slow_and_by_nothing_else() -> None:
    pump = Pump("mp3", limits=SourceLimits(ahead_bytes=BRINGING))
    brought = 0

    async def bring(times: int) -> None:
        nonlocal brought
        for _ in range(times):
            await pump.receive_data(bytes(BRINGING))
            brought += 1

    async with asyncio.timeout(240):
        await bring(100)  # nobody takes it
        words = [sys.executable, "-c", "import sys; sys.stdin.buffer.read()"]
        process = await Process.start(words, stdin=True, sandbox=None)
        os.kill(process.pid, signal.SIGSTOP)
        brought = 0
        giving = asyncio.create_task(pump.feed(process))
        bringing = asyncio.create_task(bring(100))
        # As much as the loop and the pipe take, and then no more, however long the child stands still.
        held = -1
        while held < brought:
            held = brought
            await asyncio.sleep(0.2)
        assert 0 < held < 20
        assert not bringing.done()
        os.kill(process.pid, signal.SIGCONT)
        await bringing
        assert brought == 100
        pump.receive_eof()
        await giving
        assert await process.stop() in (0, -signal.SIGTERM)


async def test_who_is_held_to_the_time_of_the_stream_ends_when_cancelled_at_the_moment_of_a_change(
    film: bytes,
) -> None:
    """Python 3.11's wait_for takes what has come for more than the cancellation, which is lost then."""
    pump = Pump("mpegts")
    words = [sys.executable, "-c", "import sys; sys.stdin.buffer.read()"]
    process = await Process.start(words, stdin=True, sandbox=None)
    bringing = asyncio.create_task(pump.receive_data(film))
    await until(lambda: pump._pacing.wait(time.monotonic()) > 0, "the stream to be ahead")
    giving = asyncio.create_task(pump.feed(process))
    await asyncio.sleep(0)  # which tells of the change
    bringing.cancel()
    await asyncio.wait((bringing,), timeout=60)
    assert bringing.cancelled()
    giving.cancel()
    await process.stop()


async def test_bare_audio_is_read_in_smaller_portions_as_its_frames_may_be_tiny() -> None:
    """Sixteen kilobytes of frames of eight bytes hold the event loop for 14 ms, with a stream's rest 20."""
    lengths: list[int] = []

    class Watched(Pump):
        async def push(self, pieces: Iterable[StreamChunk]) -> None:
            taken = list(pieces)
            lengths.extend(len(piece.data) for piece in taken)
            await super().push(taken)

    anytime = SourceLimits(ahead_seconds=1e9, untaken_seconds=1e9)
    pump = Watched("aac", limits=anytime)
    await pump.receive_data(hostile_media.adts_frames(BRINGING))
    assert sum(lengths) == BRINGING
    assert max(lengths) <= AUDIO_PORTION_BYTES


@pytest.mark.clause("CWE-770")
@pytest.mark.parametrize(
    ("container", "data"),
    [("mpegts", b"x" * 101), ("matroska", element(CLUSTER, element(SIMPLE_BLOCK, b"\x81" + bytes(100))))],
)
async def test_a_pumped_stream_is_divided_within_the_limits_that_are_handed_in(
    container: str, data: bytes
) -> None:
    readers = SourceLimits(
        transport_reader=TransportReaderLimits(garbage_bytes=100),
        matroska_element_bytes=100,
    )
    await Pump(container).receive_data(data)
    with pytest.raises(MediaError):
        await Pump(container, limits=readers).receive_data(data)
