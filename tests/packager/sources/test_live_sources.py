"""Live channels that pull: transport streams, HLS, radio, SRT; sources without picture or sound, and gone."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.live.channel import Channel
from packager.live.limits import ENCODER_RETRY, LiveLimits
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.sources.probe import inspect_source, playable
from packager.sources.schemes import is_url
from packager.sources.source import Source
from packager.window.model import LiveSegment
from tests.packager.kills import kill_again_and_again
from tests.packager.sources.pulled_sources import pulling
from tests.patience import GAPS, LIVE
from tests.upstream import Upstream, upstream
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)
"""All that a test waits for together."""

BROKEN_SECONDS = 8

PICTURE = "-re -f lavfi -i testsrc2=size=320x240:rate=12"
SOUND = "-re -f lavfi -i sine=frequency=440:sample_rate=44100"
H264 = "-c:v libx264 -preset ultrafast -tune zerolatency -g 12 -pix_fmt yuv420p"
BOTH = f"{PICTURE} {SOUND} {H264} -c:a aac -f mpegts pipe:1"


def lengths(channel: Channel) -> list[int]:
    return [len(rendition.window.listed) for rendition in channel.renditions.values()]


@pytest.mark.parametrize("container", ["mpegts", "flv"])
async def test_a_stream_over_http_is_fetched_once_and_pulled_at_its_own_frame_rate(
    tools: Tools, container: str
) -> None:
    async with (
        upstream(tools, BOTH.replace("-f mpegts", f"-f {container}")) as server,
        pulling(f"http://127.0.0.1:{server.port}/stream", tools, limits=LIVE) as channel,
    ):
        await until(lambda: min(lengths(channel)) >= 2 and channel.pid)
        assert channel.cadence.frame_rate == 12
        assert {segment.duration for segment in channel.renditions["240p"].window.listed} == {Fraction(1)}
        assert channel.pid is not None
        # What runs on behind a kill was fetched by the same request.
        os.kill(channel.pid, signal.SIGKILL)
        window = channel.renditions["240p"].window
        await until(lambda: channel.restarts and channel.state == "live" and not window.listed[-1].gap)
        number = window.next_number
        await until(lambda: window.next_number > number + 1)
        assert server.served == 1


async def test_what_is_only_decoded_from_its_beginning_is_fetched_for_each_ffmpeg_which_has_no_network(
    tools: Tools,
) -> None:
    async with (
        upstream(tools, BOTH.replace("-f mpegts", "-f matroska")) as server,
        pulling(f"http://127.0.0.1:{server.port}/stream", tools, limits=LIVE) as channel,
    ):
        await until(lambda: min(lengths(channel)) >= 2 and channel.pid)
        assert channel.cadence.frame_rate == 12
        # What is it, what has it, and to be played.
        assert server.served == 3 + channel.restarts
        words = await asyncio.to_thread(Path(f"/proc/{channel.pid}/cmdline").read_text)
        assert "protocol_whitelist\0pipe\0" in words


@pytest.mark.parametrize(
    ("arguments", "has_video", "has_audio"),
    [
        (f"{SOUND} -c:a libmp3lame -f mp3 pipe:1", False, True),
        (f"{PICTURE} {H264} -f mpegts pipe:1", True, False),
    ],
    ids=["only sound, as Icecast sends it", "only a picture"],
)
async def test_what_a_source_lacks_is_made(
    tools: Tools,
    arguments: str,
    has_video: bool,
    has_audio: bool,
    tmp_path: Path,
) -> None:
    async with upstream(tools, arguments) as server:
        url = f"http://127.0.0.1:{server.port}/stream"
        found = await inspect_source(url, tools)
        assert (found.has_video, found.has_audio) == (has_video, has_audio)
        async with pulling(url, tools, limits=LIVE) as channel:
            await until(lambda: min(lengths(channel)) >= 2)
            for name, rendition in channel.renditions.items():
                segment = rendition.window.listed[0]
                assert segment.timeline is not None
                path = tmp_path / f"{name}.mp4"
                path.write_bytes(segment.timeline.init + segment.data)
                command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(path)]
                answer = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
                (stream,) = json.loads(answer.stdout)["streams"]
                assert stream["codec_name"] == ("aac" if name == "audio" else "h264")


@pytest.fixture
def hls(tools: Tools, tmp_path: Path) -> Iterator[str]:
    """The URL of a live HLS stream that ffmpeg's own muxer makes."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    # What it lists and keeps outlasts a reader that stands still.
    segments = "-f hls -hls_time 1 -hls_list_size 60 -hls_flags delete_segments"
    words = f"{PICTURE} {SOUND} {H264} -c:a aac {segments} {tmp_path / 'live.m3u8'}".split()
    encoder = subprocess.Popen([str(tools.ffmpeg), "-nostdin", "-v", "error", *words])
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live.m3u8"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        encoder.kill()
        encoder.wait()


async def test_an_hls_stream_is_pulled_and_nobody_sees_its_password_among_the_processes(
    tools: Tools, hls: str
) -> None:
    url = hls.replace("http://", "http://someone:secret@") + "?key=hidden"
    async with pulling(url, tools, limits=LIVE) as channel:
        await until(lambda: min(lengths(channel)) >= 3 and channel.pid)
        assert channel.restarts == 0
        words = await asyncio.to_thread(Path(f"/proc/{channel.pid}/cmdline").read_text)
        assert "ffmpeg" in words
        assert not [secret for secret in ("someone", "secret", "hidden") if secret in words]


async def test_a_source_that_is_gone_for_a_second_is_a_gap_and_then_goes_on(tools: Tools) -> None:
    async with (
        upstream(tools, BOTH) as server,
        pulling(f"http://127.0.0.1:{server.port}/a.ts", tools, limits=GAPS) as channel,
    ):
        await until(lambda: channel.ready)
        window = channel.renditions["240p"].window
        restarts = channel.restarts
        with capture_logs() as logs:
            await server.stop()
            # Its ffmpeg, too: late ones have something to publish behind a first gap.
            await until(lambda: channel.restarts > restarts and channel.state == "down")
            number = window.next_number
            await asyncio.sleep(1.0)
            await server.start()
            await until(lambda: channel.state == "live")
            await until(lambda: any(begins_anew(segment, number) for segment in window.listed))
        numbers = [segment.number for segment in window.listed]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(logs) <= 6
        assert all("\n" not in str(line) for line in logs)


def begins_anew(segment: LiveSegment, number: int) -> bool:
    """Tell whether a segment of this number or a later one has media behind a discontinuity."""
    return segment.number >= number and segment.discontinuity and bool(segment.data)


async def test_a_source_that_is_not_there_yet_is_told_once_and_waited_for(tools: Tools) -> None:
    server = Upstream(tools, BOTH)
    await server.start()
    await server.stop()
    with capture_logs() as logs:
        async with pulling(
            f"http://someone:secret@127.0.0.1:{server.port}/a.ts?key=hidden", tools
        ) as channel:
            await until(lambda: logs)
            await asyncio.sleep(1.5)  # some attempts
            await server.start()
            try:
                await until(lambda: channel.ready)
            finally:
                await server.stop()
    told = [line["event"] for line in logs]
    assert told[:2] == ["source isn't there", "source is there"]
    assert "secret" not in str(logs)
    assert "hidden" not in str(logs)


@pytest.mark.clause("An ffmpeg that is killed leaves nothing behind", "Viewers outlast kills of the encoder")
async def test_kills_in_a_row_leave_no_descriptor_no_zombie_and_a_discontinuity_each(
    tools: Tools,
) -> None:
    options = ChannelOptions(
        "killed",
        ladder=("240p",),
        part_duration=0.25,
        segment_duration=1.0,
        limits=LiveLimits(encoder_retry=dataclasses.replace(ENCODER_RETRY, longest_seconds=0.4)),
    )
    report = await kill_again_and_again(Channel(options, tools), times=8, every=0.0)
    assert report.descriptors <= 2
    assert report.children <= 2
    assert report.discontinuities <= 8
    assert report.numbers >= 8


@pytest.mark.clause("An ffmpeg that hangs is started again, and its words are bounded")
async def test_a_source_that_is_broken_for_long_is_told_in_a_few_lines_and_plays_when_it_is_mended(
    tools: Tools,
) -> None:
    async with upstream(tools, BOTH) as server:
        server.spoils = True
        url = f"http://127.0.0.1:{server.port}/a.ts"
        with capture_logs() as logs:
            async with pulling(url, tools) as channel:
                await until(lambda: server.served)
                end = asyncio.get_running_loop().time() + BROKEN_SECONDS
                await until(lambda: asyncio.get_running_loop().time() > end)
                assert len(logs) <= BROKEN_SECONDS
                assert all(len(str(line)) < 1000 for line in logs)
                server.spoils = False
                server.hang_up()
                await until(lambda: channel.ready and channel.state == "live")


def test_only_named_schemes_are_pulled(tmp_path: Path) -> None:
    for url in (
        "http://a/b",
        "https://a:1/b?c",
        "rtsp://a/b",
        "srt://a:9000?streamid=x",
        "udp://239.0.0.1:1234",
    ):
        assert is_url(url)
        assert playable(url)
    for other in (
        "file:///etc/passwd",
        "gopher://a/b",
        "concat:a|b",
        "http:x.mp4",
        "http://[::",
        "//a/b",
        "data:x",
    ):
        assert not is_url(other)
        assert not playable(other)
    assert playable("testsrc")


@pytest.mark.clause("A redirect leads to HTTP and to nowhere else")
async def test_a_redirect_to_another_protocol_is_not_followed(tools: Tools, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    made = f"-f lavfi -i sine=duration=1 -f mpegts {secret}".split()
    await asyncio.to_thread(subprocess.run, [str(tools.ffmpeg), "-v", "error", *made], check=True)

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.0 302 Found\r\nLocation: file:{secret}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    try:
        with pytest.raises(ToolsError):
            await inspect_source(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.ts", tools)
    finally:
        server.close()


def test_the_cage_of_a_pulled_source_has_the_way_to_it_and_a_files_has_none() -> None:
    pulled = {url: Source(url=url).sandbox for url in ("http://a/b", "rtsp://a:8554/b", "srt://a:9000")}
    assert [(sandbox.tcp_port, sandbox.udp) for sandbox in pulled.values()] == [
        (80, False),
        (8554, False),
        (0, True),
    ]
    assert {sandbox.read for sandbox in pulled.values()} == {()}
    file, made = Source(path=Path("/films/a.mp4")).sandbox, Source().sandbox
    assert file.read == ("/films/a.mp4",)
    assert {(sandbox.tcp_port, sandbox.udp) for sandbox in (file, made)} == {(0, False)}
