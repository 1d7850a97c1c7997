"""Channels of SRT and RTSP, whose streams change, and which keep their secrets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import re
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.sources.limits import SourceLimits
from packager.sources.pullers import rtsp_srt_puller
from packager.sources.pullers.rtsp_srt_puller import Remuxer, StreamContinuity, find_libavformat
from packager.sources.schemes import without_url_secrets
from packager.window.model import LiveSegment
from tests.live_server import running
from tests.packager.sources.decoded_pictures import decoded
from tests.packager.sources.picture_widths import width_of
from tests.packager.sources.protocol_servers import free_port, rtsp_by_vlc
from tests.packager.sources.udp_positions import behind
from tests.processes import children_of
from tests.waiting import until

LARGE_SECONDS, SMALL_SECONDS = 25, 30
"""The picture is large for longer than a busy machine takes until it is watched."""

LIMITS = LiveLimits(source=SourceLimits(seen_seconds=2))
PACE = 600_000 // 8
"""Bytes a second of what is made."""

PASSPHRASE = "very-secret-phrase"


H264 = "libx264 -preset ultrafast -tune zerolatency -c:a aac"
HEVC = "libx265 -preset ultrafast -x265-params log-level=none:bframes=0 -c:a ac3 -mpegts_start_pid 0x200"


def programme(tools: Tools, folder: Path, large: int, small: int, coded: str = H264) -> tuple[bytes, bytes]:
    """Make a transport stream whose picture becomes smaller, and ``coded`` so; its clock goes on."""
    start, made = 0, list[bytes]()
    for size, seconds, coding in (("320x240", large, H264), ("160x120", small, coded)):
        path = folder / f"{size}.ts"
        words = f"-v error -f lavfi -i testsrc2=size={size}:rate=10 -f lavfi -i sine=sample_rate=48000"
        words += f" -t {seconds} -c:v {coding} -g 10 -pix_fmt yuv420p"
        words += f" -output_ts_offset {start} -muxrate {8 * PACE} {path}"
        subprocess.run([str(tools.ffmpeg), *words.split()], check=True)
        start, made = start + seconds, [*made, path.read_bytes()]
    return made[0], made[1]


@contextlib.asynccontextmanager
async def listening(tools: Tools, url: str, *parts: bytes) -> AsyncIterator[list[int]]:
    """Give whoever calls a stream at its own pace; to the next one from its beginning.

    Gives the numbers of the parts that were begun.
    """
    # Bytes as they are: no muxer of ours stands between the film and SRT.
    words = ["-nostdin", "-v", "quiet", "-f", "data", "-i", "pipe:0", "-map", "0", "-c", "copy", "-f", "data"]
    step, begun = PACE // 10, list[int]()

    async def serve() -> None:
        while True:
            sender = await asyncio.create_subprocess_exec(
                str(tools.ffmpeg), *words, url, stdin=asyncio.subprocess.PIPE
            )
            assert sender.stdin is not None
            try:
                with contextlib.suppress(ConnectionError):
                    for number, data in enumerate(parts):
                        begun.append(number)
                        for start in range(0, len(data), step):
                            sender.stdin.write(data[start : start + step])
                            await sender.stdin.drain()
                            await asyncio.sleep(0.1)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    sender.kill()
                await sender.wait()

    serving = asyncio.create_task(serve())
    try:
        yield begun
    finally:
        serving.cancel()
        await asyncio.wait([serving])


def words_of_children() -> str:
    """The arguments of what fetches for us, as any process sees them."""
    found = ""
    for pid in children_of():
        with contextlib.suppress(OSError):  # it has ended
            text = Path(f"/proc/{pid}/cmdline").read_text()
            found += f"{text}\n" if "avio_reader" in text else ""
    return found


SINE = 20 * math.log10(1 / 8 / math.sqrt(2))
"""Decibels of a sine of an eighth: lavfi's says so of its amplitude."""


SEVERAL = 4
"""Segments that are listened to and looked at: silence and a still picture stand where a source was late."""


def loudest(tools: Tools, segments: Sequence[LiveSegment]) -> float:
    """The mean of a segment's sound, of that which has most, in decibels."""
    told = [decoded(tools, one, "-af", "volumedetect", "-f", "null", "-").stderr for one in segments]
    return max(float(found) for text in told for found in re.findall(rb"mean_volume: (-?[0-9.]+) dB", text))


def pictures(tools: Tools, segment: LiveSegment) -> list[bytes]:
    """The hashes of a segment's pictures."""
    told = decoded(tools, segment, "-f", "framemd5", "-").stdout
    return [line.rpartition(b",")[2] for line in told.splitlines() if line[:1] != b"#"]


async def test_other_codecs_sizes_and_streams_within_srt_are_a_discontinuity_and_no_secret_is_seen(
    tools: Tools, tmp_path: Path
) -> None:
    if "srt" not in tools.protocols:
        pytest.skip("this ffmpeg has no SRT")
    if await asyncio.to_thread(find_libavformat) is None:
        pytest.skip("there is no libavformat")
    url = f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}?passphrase={PASSPHRASE}"
    options = ChannelOptions(
        "pulled", url, ("source", "240p"), part_duration=0.25, segment_duration=1.0, limits=LIMITS
    )
    channel = Channel(options, tools)
    parts = await asyncio.to_thread(programme, tools, tmp_path, LARGE_SECONDS, SMALL_SECONDS, HEVC)
    words = set[str]()

    def fetching() -> str:
        words.add(found := words_of_children())
        return found

    with capture_logs() as logs:
        async with listening(tools, f"{url}&mode=listener", *parts) as begun, running(channel):
            await until(lambda: channel.ready)
            await until(fetching, "the program that fetches")
            windows = [channel.renditions[name].window for name in ("source", "240p", "audio")]
            await until(lambda: 1 in begun, "the change")
            told = len(logs)
            await until(lambda: all(len(behind(window, windows[0])) > 2 for window in windows))
    assert PASSPHRASE not in f"{words} {logs}"
    widths = [width_of(one) for one in windows[0].listed if one.data]
    assert [width for width, _ in itertools.groupby(widths)] == [320, 160]
    for window in windows[:2]:
        # There are others where a busy machine stood still.
        changed = behind(window, windows[0])[0]
        assert changed.discontinuity
        assert changed.parts[0].independent
        assert changed.timeline is not None
        assert changed.timeline is not window.listed[0].timeline
        # ISO/IEC 14496-15 §8.4.1
        assert (b"hvc1" in changed.timeline.init) == (window is windows[0])
    heard = [one.timeline for one in windows[2].listed if one.timeline]
    assert [timeline.entry.codec for timeline in (heard[0], heard[-1])] == ["mp4a.40.2", "ac-3"]
    # The change came by the same connection.
    assert not [line for line in logs[told:] if line["event"] == "source isn't there"]


async def test_where_ffmpegs_library_is_not_there_an_ffmpeg_brings_srt(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "srt" not in tools.protocols:
        pytest.skip("this ffmpeg has no SRT")
    monkeypatch.setattr(rtsp_srt_puller, "find_libavformat", lambda: "libnot-there.so.1")
    url = f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    parts = await asyncio.to_thread(programme, tools, tmp_path, LARGE_SECONDS, 1)
    remuxer = Remuxer(url, tools, "pulled")
    async with listening(tools, f"{url}?mode=listener", *parts), background_task(remuxer.run()):
        pump = await remuxer.wait_until_detected()
        assert pump is not None
        await pump.wait_until_flowing()
    # ISO/IEC 13818-1 table 2-34: H.264 and AAC with headers, at the PIDs that ffmpeg's muxer gives.
    assert r"\x1b\x01\x00\x0f\x01\x01" in str(pump.stream)


async def test_a_change_of_size_within_rtsp_is_a_discontinuity_and_its_sound_is_heard(
    tools: Tools,
) -> None:
    # VLC doesn't run as root, and nobody else may look into pytest's folders.
    with tempfile.TemporaryDirectory() as name:
        film = Path(name) / "film.ts"
        film.parent.chmod(0o755)
        film.write_bytes(b"".join(await asyncio.to_thread(programme, tools, film.parent, 8, 8)))
        with rtsp_by_vlc(film) as url:
            options = ChannelOptions(
                "pulled", url, ("source",), part_duration=0.25, segment_duration=1.0, limits=LIMITS
            )
            channel = Channel(options, tools)
            async with running(channel):
                await until(lambda: channel.ready)
                window = channel.renditions["source"].window
                # It is in a loop: there is a change to either size.
                await until(lambda: {width_of(one) for one in window.listed if one.data} == {320, 160})
    shown = [one for one in window.listed if one.data]
    pairs = [(one, two) for one, two in itertools.pairwise(shown) if width_of(one) != width_of(two)]
    assert all(two.discontinuity and two.parts[0].independent for _, two in pairs)
    heard = [one for one in channel.renditions["audio"].window.listed if one.data][:SEVERAL]
    assert await asyncio.to_thread(loudest, tools, heard) == pytest.approx(SINE, abs=2)


async def test_cameras_with_motion_jpeg_and_g_711_are_seen_and_heard(tools: Tools) -> None:
    with tempfile.TemporaryDirectory() as name:
        film = Path(name) / "film.mkv"
        film.parent.chmod(0o755)
        words = "-v error -f lavfi -i testsrc2=size=160x120:rate=10 -f lavfi -i sine=sample_rate=8000 -t 30"
        # RFC 2435: RTP has no Huffman tables, and one for luminance and chrominance each of the others.
        words += " -c:v mjpeg -huffman default -force_duplicated_matrix 1 -pix_fmt yuvj420p -c:a pcm_mulaw"
        await asyncio.to_thread(subprocess.run, [str(tools.ffmpeg), *words.split(), str(film)], check=True)
        with rtsp_by_vlc(film) as url:
            options = ChannelOptions("camera", url, ("240p",), part_duration=0.25, segment_duration=1.0)
            channel = Channel(options, tools)
            async with running(channel):
                await until(lambda: channel.ready)
                listed = [channel.renditions[name].window.listed for name in ("240p", "audio")]
                await until(
                    lambda: all(sum(bool(one.data) for one in window) >= SEVERAL for window in listed)
                )
    seen, heard = ([one for one in window if one.data][:SEVERAL] for window in listed)
    # One channel became two, with half of its power each.
    assert await asyncio.to_thread(loudest, tools, heard) == pytest.approx(SINE - 3, abs=2)
    moving = [len(set(await asyncio.to_thread(pictures, tools, one))) for one in seen]
    assert max(moving) > 5, "it moves"


def test_a_clock_that_stands_still_and_a_lack_of_key_frames_are_told_and_a_pause_is_not() -> None:
    progress = StreamContinuity(0.0, SourceLimits())
    told = [progress.received(now, now, access=now % 2 == 0) for now in range(10)]
    assert set(told) == {None}
    assert progress.received(9.2, 600.0, access=True) is None
    still = [progress.received(9.2, 600 + step / 10, access=True) for step in range(1, 60)]
    assert still.index("its clock stands still") == pytest.approx(
        10 * SourceLimits().clock_still_seconds, abs=2
    )
    keyless = StreamContinuity(0.0, SourceLimits())
    told = [keyless.received(step / 4, step / 4, access=step < 8) for step in range(400)]
    first = next(index for index, one in enumerate(told) if one is not None)
    assert first / 4 == pytest.approx(SourceLimits().key_seconds + 2, abs=0.5)


def test_what_a_program_says_of_a_url_is_told_without_it() -> None:
    url = "rtsp://user:pass-word@camera/live?token=abc"
    text = f"{url}: Connection refused; user:pass-word token=abc"
    assert not [one for one in ("pass-word", "token", "camera") if one in without_url_secrets(text, url)]
    assert "Connection refused" in without_url_secrets(text, url)
