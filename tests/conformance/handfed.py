"""A live channel that is fed by hand: real media of a real ffmpeg, a real server, and the test says when."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment, write_fragment
from origin.access.policy import AccessMiddleware, AccessOptions, AccessPolicy
from origin.answers.asgi import handler_routes
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.live import caption_publishing, metadata
from origin.live.handler import LiveHandler
from origin.live.publishing import PublishedChannels
from origin.live.requests.addresses import PATTERNS
from origin.live.requests.directives import CARRIED
from origin.responses.response_middleware import CommonHeaders, common_headers
from origin.server.endpoints import time_of_day
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.live.timed_metadata import PartPosition
from packager.process.ffmpeg_discovery import Tools
from packager.segment.grid_segmenter import GridSegmenter
from packager.segment.part_packer import CutPart
from packager.window.model import LivePart
from packager.window.window import Window
from tests.conformance.conftest import serving
from tests.conformance.raw import Answer, Client
from tests.keys import ADMIN_TOKEN
from tests.made_once import made_once
from tests.permissions import live_authorization

SECONDS = 50
NUMBER = 1_795_000_000
"""Media sequence number of the first segment; segments are a second long and begin at that second."""

OPTIONS = ChannelOptions("test", ladder=("240p",), part_duration=0.25, segment_duration=1.0)
TARGET = 1
"""EXT-X-TARGETDURATION in seconds."""

PARTS = 5
"""Parts of a segment: at 30 frames a second four of seven frames and one of two."""

SOUND_PARTS = 4
"""Of sound: of twelve frames of 1,024 samples, the last one of ten or eleven."""

HELD_TARGET_DURATIONS = 100
"""How long a request may wait, where the draft says three: a test that stands still publishes late."""

PATIENT = HttpLimits(header_seconds=120.0, stalled_seconds=600.0)
"""For clients that are late to ask, or to read: some wait until others have had all."""

PATH, AUDIO = "/live/test/240p/media.m3u8", "/live/test/audio/media.m3u8"
"""The media playlists of picture and sound."""

_VIDEO = "-c:v libx264 -preset ultrafast -g 30 -keyint_min 30 -sc_threshold 0 -threads 1"
_MUXER = (
    "-f mp4 -movflags +frag_keyframe+empty_moov+default_base_moof+frag_discont -use_editlist 0"
    " -avoid_negative_ts disabled -frag_duration 33000"
)
REORDERED = Fraction(2, 30)
"""Seconds from decoding to showing a key frame, where pictures are decoded in another order."""


@dataclass(frozen=True)
class Track:
    """One rendition as ffmpeg made it."""

    init: InitSegment
    fragments: list[Fragment]


def make_material(tools: Tools, seconds: int = SECONDS, *, reordered: bool = False) -> dict[str, Track]:
    """Let ffmpeg encode picture and sound, each frame a fragment.

    Args:
        tools: whose ffmpeg does it.
        seconds: how much.
        reordered: whether there are B-frames; then each key frame is shown ``REORDERED`` behind its decoding.

    Returns:
        Both, by the rendition's name; the first picture is decoded at ``NUMBER``.
    """
    inputs = f"-f lavfi -i testsrc2=size=128x72:rate=30:duration={seconds}"
    inputs += f" -f lavfi -i sine=sample_rate=48000:duration={seconds}"
    order = "-bf 3 -b-pyramid normal" if reordered else "-tune zerolatency"
    # As CMAF ffmpeg has offsets below zero instead: key frames are shown at once.
    muxer = _MUXER if reordered else _MUXER.replace("+frag_discont", "+frag_discont+cmaf")
    muxer += f" -output_ts_offset {NUMBER + float(reordered * REORDERED):.6f}"
    outputs = f"-map 0:v {_VIDEO} {order} {muxer} 240p.mp4 -map 1:a -c:a aac {muxer} audio.mp4"
    command = f"{tools.ffmpeg} -nostdin -v error -y {inputs} {outputs}".split()
    folder = made_once(command, lambda folder: subprocess.run(command, check=True, timeout=240, cwd=folder))
    return {name: _read(folder / f"{name}.mp4") for name in ("240p", "audio")}


def _read(path: Path) -> Track:
    reader, init, fragments = FragmentReader(), None, []
    reader.receive_data(path.read_bytes())
    for event in reader.events():
        if isinstance(event, InitSegment):
            init = event
        else:
            fragments.append(event)
    assert init is not None
    return Track(init, fragments)


def media_clock(window: Window) -> Callable[[], float]:
    """A clock that goes with what is published by hand, however fast that is."""

    def seconds() -> float:
        newest = window.newest
        return float(newest.program_date_time + newest.duration) if newest else 0.0

    return seconds


class Source:
    """One run of one rendition: parts in order, from a media sequence number on."""

    def __init__(self, channel: Channel, name: str, track: Track, number: int, down: int) -> None:
        self._name, self._window = name, channel.renditions[name].window
        self._writer = channel.writers[name]
        self._timed_metadata, self._captions = channel.timed_metadata, channel.captions
        self._leads = name == next(iter(channel.renditions))
        self._track_id, self._timescale = track.init.tracks[0].track_id, track.init.tracks[0].timescale
        self._down = down
        self._parts = self._cut(channel, track, number)
        self._writer.begin(track.init.data, parse_sample_entry(track.init.tracks[0].sample_entries[0]))

    def _cut(self, channel: Channel, track: Track, number: int) -> Iterator[CutPart]:
        segmenter = GridSegmenter(
            timescale=self._timescale,
            origin=Fraction(number),
            segment_duration=channel.cadence.segment_duration,
            part_target=channel.cadence.part_target,
        )
        for fragment in track.fragments:
            if fragment.base_media_decode_time >= number * self._timescale:
                yield from segmenter.push(fragment.base_media_decode_time, fragment.samples, fragment.data)

    def publish(self) -> None:
        """Publish the next part, dated by its media time and how long the source was down."""
        part = next(self._parts)
        begin, end = part.base_media_decode_time, part.base_media_decode_time + part.duration
        place = PartPosition(begin, end, self._timescale, Fraction(self._down))
        data = self._timed_metadata.boxes(self._name, place) + write_fragment(
            sequence_number=1,
            track_id=self._track_id,
            base_media_decode_time=part.base_media_decode_time,
            samples=part.samples,
            data=part.data,
        )
        self._writer.append(
            LivePart(data, Fraction(part.duration, self._timescale), part.independent),
            Fraction(part.base_media_decode_time, self._timescale) + self._down,
            ends_segment=part.ends_segment,
        )
        if self._leads:
            self._captions.follow(self._window, Fraction(self._down))


class HandFed:
    """A channel behind a server whose parts come when the test says so.

    Args:
        channel: it; its ``run`` is never called.
        material: what it publishes, by rendition.
        carried: query parameters that playlists repeat.

    Attributes:
        address: of the server, once it runs.
        traffic: what was asked and sent.
        calls: how many requests came to the application.
        fast_path: what the connections answer by themselves.
        streams: what the server has; may be taken away.
    """

    def __init__(
        self,
        channel: Channel,
        material: dict[str, Track],
        carried: tuple[str, ...] = CARRIED,
        blocked: ClientLimit = UNLIMITED,
    ) -> None:
        self.channel = channel
        self.address = ("", 0)
        self._material = material
        self._down = 0
        self._sources: dict[str, Source] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        streams = self.streams = {channel.name: channel.stream}
        authorization = live_authorization({}, ADMIN_TOKEN)
        published = PublishedChannels(streams, authorization)
        handler = LiveHandler(streams, carried, blocked)
        areas = (
            handler_routes(handler, PATTERNS),
            metadata.routes(published),
            caption_publishing.routes(published),
            time_of_day.routes(),
        )
        routes = [route for area in areas for route in area]
        self.traffic = RequestCounters()
        self.calls = 0
        app = Starlette(routes=routes, exception_handlers=ERROR_RESPONSES)
        guarded = AccessMiddleware(app, AccessPolicy(AccessOptions(), authorization))
        self._inner = CommonHeaders(guarded, traffic=self.traffic, allow_origin="*", log_requests=False)
        access_log = AccessLog(self.traffic, log_requests=False)
        self.fast_path = FastPath({"live": handler}, access_log, common_headers("*"))
        for writer in channel.writers.values():
            writer.restore((), NUMBER)
            writer.window.clock = media_clock(writer.window)
        self._begin(NUMBER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and see which loop does so."""
        self.calls += 1
        self._loop = asyncio.get_running_loop()
        await self._inner(scope, receive, send)

    def ask(self, target: str, *fields: str, method: str = "GET") -> Answer:
        """Ask for something on a connection of its own."""
        with Client(self.address) as client:
            return client.ask(target, *fields, method=method)

    def text(self, target: str = PATH) -> str:
        """Give a playlist."""
        answer = self.ask(target)
        assert answer.status == 200, answer.body
        return answer.body.decode()

    def in_loop(self, function: Callable[[], None]) -> None:
        """Call something where the channel lives, and wait for its end."""

        async def call() -> None:
            function()

        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(call(), self._loop).result(120)

    def publish(self, parts: int = 1, *names: str) -> None:
        """Publish so many parts of these renditions; or of the picture, and the sound that goes with it."""

        def publish() -> None:
            for name in names or ("240p",):
                for _ in range(parts):
                    self._sources[name].publish()
            if not names:
                number, index = self.channel.renditions["240p"].window.next_part
                sound = self.channel.renditions["audio"].window
                while sound.next_part < (number, min(index, SOUND_PARTS - 1)):
                    self._sources["audio"].publish()

        self.in_loop(publish)

    def restart(self, seconds: int = 0) -> None:
        """Let the source die and come back so many seconds later; who lags gets gaps."""

        def restart() -> None:
            writers = self.channel.writers.values()
            for writer in writers:
                writer.interrupt()
            furthest = max((writer.window for writer in writers), key=lambda window: window.next_number)
            having = {segment.number: segment for segment in furthest.listed}
            for writer in writers:
                while (number := writer.window.next_number) < furthest.next_number:
                    writer.gap(having[number])
            self._down += seconds
            self._begin(furthest.next_number)

        self.in_loop(restart)

    def end(self) -> None:
        """Let the channel end for good."""

        def end() -> None:
            for writer in self.channel.writers.values():
                writer.end()

        self.in_loop(end)

    def _begin(self, number: int) -> None:
        for name in self._material:
            self._sources[name] = Source(self.channel, name, self._material[name], number, self._down)


@contextlib.contextmanager
def on_air(
    material: dict[str, Track],
    tools: Tools,
    folder: Path,
    options: ChannelOptions = OPTIONS,
    *,
    patient: bool = True,
    carried: tuple[str, ...] = CARRIED,
    blocked: ClientLimit = UNLIMITED,
) -> Iterator[HandFed]:
    """Serve a channel that has nothing yet, until the block ends.

    Args:
        material: what it publishes, by rendition.
        tools: the channel's.
        folder: the server's.
        options: the channel's.
        patient: whether requests wait for ``HELD_TARGET_DURATIONS``; else for as long as they do elsewhere.
        carried: query parameters that playlists repeat.
        blocked: how many requests of one client may wait at once, of those that the application answers.
    """
    if patient:
        publish = replace(options.limits.publish, blocked_target_durations=HELD_TARGET_DURATIONS)
        limits = replace(options.limits, publish=publish)
        options = replace(options, limits=limits)
    channel = Channel(options, tools)
    fed = HandFed(channel, material, carried, blocked)
    with serving(fed, folder, "uvloop", PATIENT, fast_path=fed.fast_path) as running:
        fed.address = running.address
        with running.connect() as client:
            client.ask("/")
        try:
            yield fed
        finally:
            fed.in_loop(channel.close)


def parts_of(text: str) -> list[tuple[int, int]]:
    """Give media sequence number and index of each part that a playlist lists."""
    found = re.findall(r'#EXT-X-PART:DURATION=[0-9.]+,URI="(\d+)\.(\d+)\.m4s', text)
    return [(int(number), int(index)) for number, index in found]


def segments_of(text: str) -> list[int]:
    """Give the numbers of the segments that a playlist lists."""
    return [int(number) for number in re.findall(r"^(\d+)\.m4s", text, re.MULTILINE)]
