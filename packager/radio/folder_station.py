"""A radio station that plays a folder of MP3s as one endless stream of whole frames at real time.

Tracks that have the mount's format are sent unchanged; others are decoded and encoded again, by processes
that run on from track to track.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from aiofiles.threadpool.binary import AsyncBufferedReader

from media.errors import MediaError, UnsupportedError
from media.mp3.id3 import Tags, parse_trailer
from media.mp3.reader import Event, Frame, MpegAudioReader
from media.mp3.xing import InfoFrame
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.radio.audio_blocks import AudioBlock, AudioFormat, BlockGatherer, BlockSchedule
from packager.radio.audio_source import NO_STATION_INFO
from packager.radio.decoder_pool import DecoderPool, decode_alone
from packager.radio.limits import StationLimits
from packager.radio.loudness import FILTERS, Loudness
from packager.radio.tracks import (
    display,
    find_tracks,
    find_unplayed,
    how_to_play,
    shuffled,
    track_title,
    why_no_tracks,
)
from packager.radio.transcoder import Transcoder
from packager.reader_guard import ReaderGuard
from packager.step_budget import AUDIO_PORTION_BYTES, StepBudget
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

TRAILER_BYTES = 64 * 1024
"""Bytes of a file's end that are searched for tags."""

PROBE_FRAMES = 32
"""Frames that decide whether a track is sent as it is; a variable bitrate shows within a second."""

RESCAN_SECONDS = 1.0
"""Pause before an empty folder is read again."""


@dataclass(frozen=True, slots=True)
class StationOptions:
    """A station's source, and its output format.

    Attributes:
        name: the mount's name, for logs.
        folder: where the MP3s are, subfolders included.
        bitrate: kbit/s of Layer III, constant.
        sample_rate: Hz.
        channels: 1 or 2.
        shuffle: play each round in a new random order instead of the natural order of names.
        loop: begin again after the last track, reading the folder anew.
        prefill: seconds of audio that are due at once at the start, so that the first listener gets a burst.
        loudness: of all tracks, in LUFS (EBU R 128); None leaves the tracks unchanged.
        crossfade: seconds over which consecutive tracks are mixed.
        limits: limits of reading and playing tracks, and of ffmpeg's time.
    """

    name: str
    folder: Path
    bitrate: int = 128
    sample_rate: int = 44100
    channels: int = 2
    shuffle: bool = False
    loop: bool = True
    prefill: float = 5.0
    loudness: float | None = None
    crossfade: float = 0.0
    limits: StationLimits = field(default_factory=StationLimits)

    @property
    def audio_format(self) -> AudioFormat:
        """The format of all frames."""
        return AudioFormat(self.sample_rate, self.channels)


class Station:
    """Plays the tracks of a folder as a station, at real time.

    Args:
        tools: ffmpeg, for tracks that must be encoded again.

    Attributes:
        trouble: why it plays nothing; empty while it plays.
    """

    media_type = "audio/mpeg"
    available = True
    is_idle = False
    station_info = NO_STATION_INFO

    def __init__(self, options: StationOptions, tools: Tools) -> None:
        self.options = options
        self.trouble = ""
        self._tools = tools
        self._played = 0
        self._unplayed: Path | None = None
        leveled = options.loudness is not None
        self._decoders = DecoderPool(options.audio_format, tools, options.limits)
        self._transcoder = Transcoder(
            options.audio_format, options.bitrate, tools, options.limits, options.crossfade, limited=leveled
        )
        self._loudness = Loudness(options.loudness, tools, options.limits)

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        return self.options.bitrate

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Play while the generator is iterated; close it (``aclosing``) to stop ffmpeg.

        Yields:
            Blocks of about a second, each at most one block ahead of real time. A block has one title, so the
            last block of a track may be shorter.
        """
        options = self.options
        pace = BlockSchedule(options.sample_rate, options.prefill, options.limits.late_seconds)
        try:
            async with aclosing(self._unpaced()) as blocks:
                async for block in blocks:
                    self.trouble = ""
                    await asyncio.sleep(pace.wait(time.monotonic()))
                    pace.advance(block.duration)
                    yield block
        finally:
            await self._loudness.stop()
            await self._decoders.stop()
            await self._transcoder.stop()

    async def _unpaced(self) -> AsyncGenerator[AudioBlock]:
        if self.options.loudness is not None:
            self._tools.require(f"the loudness of radio station {self.options.name!r}", filters=FILTERS)
        async with aclosing(self._tracks()) as tracks:
            async for path, following in tracks:
                gain = await self._loudness.gain(path)
                await self._loudness.expect(following)
                async with aclosing(self._gather(self._titled_frames(path, gain), path)) as blocks:
                    async for block in blocks:
                        yield block
        async with aclosing(self._gather(self._transcoder.drain(), Path())) as blocks:
            async for block in blocks:
                yield block

    async def _tracks(self) -> AsyncGenerator[tuple[Path, Path | None]]:
        """Yield track after track, each with its successor if that is known."""
        last: Path | None = None
        while True:
            played = self._played
            paths = await self._list()
            if self.options.shuffle:
                paths = shuffled(paths, last)
            for pair in zip(paths, [*paths[1:], None], strict=True):
                yield pair
            last = paths[-1]
            if not self.options.loop:
                return
            if self._played == played:
                await asyncio.sleep(RESCAN_SECONDS)

    async def _list(self) -> list[Path]:
        """List the folder; wait while there is nothing in it."""
        waiting = False
        limits = self.options.limits
        while not (paths := await SHARED_THREADS.run(find_tracks, self.options.folder, limits)):
            reason = await SHARED_THREADS.run(why_no_tracks, self.options.folder.absolute(), limits)
            self.trouble = f"no tracks: {reason}"
            if not waiting:
                folder = display(self.options.folder.absolute())
                log.warning(
                    "a station has no tracks to play", station=self.options.name, folder=folder, reason=reason
                )
            waiting = True
            await asyncio.sleep(RESCAN_SECONDS)
        await self._tell_unplayed()
        return paths

    async def _tell_unplayed(self) -> None:
        """Log which music of the folder isn't played, once, and again when other files are the first."""
        unplayed = await SHARED_THREADS.run(
            find_unplayed, self.options.folder.absolute(), self.options.limits
        )
        first = unplayed[0] if unplayed else None
        if first is not None and first != self._unplayed:
            log.warning(
                "files of a station's folder aren't played",
                station=self.options.name,
                files=len(unplayed),
                first=display(first),
                advice=how_to_play(first),
            )
        self._unplayed = first

    async def _gather(
        self, titled_frames: AsyncGenerator[tuple[str, Frame]], path: Path
    ) -> AsyncGenerator[AudioBlock]:
        """Make blocks of one track's frames; an error in it ends the track only."""
        gathered = BlockGatherer(self.options.audio_format, "")
        try:
            async with aclosing(titled_frames):
                with ReaderGuard(path):
                    async for title, frame in titled_frames:
                        if title != gathered.title and gathered.pending:
                            yield gathered.pop()
                        gathered.title = title
                        gathered.add(frame)
                        if gathered.complete:
                            yield gathered.pop()
        except (MediaError, ToolsError, OSError, TimeoutError) as error:
            what = "track cut short" if gathered.frames else "track skipped"
            reason = display(str(error)) or type(error).__name__
            log.warning(what, station=self.options.name, track=display(path), reason=reason)
            self.trouble = f"{what}: {reason}"
        if gathered.pending:
            yield gathered.pop()
        self._played += gathered.frames

    async def _titled_frames(self, path: Path, gain: float) -> AsyncGenerator[tuple[str, Frame]]:
        """Yield a track's frames in the mount's format, preceded by the rest of the previous track."""
        limits = self.options.limits
        async with _opened(path) as file:
            size: int = await file.seek(0, os.SEEK_END)
            await file.seek(max(size - TRAILER_BYTES, 0))
            tags = parse_trailer(await file.read(TRAILER_BYTES))
            await file.seek(0)
            async with aclosing(_parse(lambda: file.read(limits.read_bytes))) as events:
                head, understood = await _probe(events, PROBE_FRAMES)
                told = next((event.or_else(tags) for event in head if isinstance(event, Tags)), tags)
                title = track_title(told, path)
                as_it_is = not gain and not self.options.crossfade
                if as_it_is and understood and fits(head, self.options):
                    async with aclosing(self._transcoder.flush()) as flushed:
                        async for titled_frame in flushed:
                            yield titled_frame
                    async for frame in _frames(head, events):
                        yield title, frame
                    return
                self._tools.require(f"radio station {self.options.name!r}", encoders=["libmp3lame"])
                async with (
                    aclosing(self._samples(path, head, events if understood else None)) as samples,
                    aclosing(self._transcoder.track(samples, title, gain)) as encoded,
                ):
                    async for titled_frame in encoded:
                        yield titled_frame
        self._played += 1

    def _samples(
        self, path: Path, head: list[Event], more: AsyncIterator[Event] | None
    ) -> AsyncGenerator[bytes]:
        """Decode a track whose first events were read; ``more`` is None if our reader can't parse it."""
        if more is None:
            return decode_alone(path, self.options.audio_format, self._tools, self.options.limits)
        first = next((event.header for event in head if isinstance(event, Frame)), None)
        info = next((event for event in head if isinstance(event, InfoFrame)), None)
        unheard = info.unheard(first.samples) if info is not None and first is not None else ()
        return self._decoders.track(_frames(head, more), unheard)


def fits(head: list[Event], options: StationOptions) -> bool:
    """Return from a track's first events whether the track can be sent unchanged.

    Returns:
        True for Layer III of the same sample rate, channels and constant bitrate.
    """
    headers = [event.header for event in head if isinstance(event, Frame)]
    variable = any(isinstance(event, InfoFrame) and event.variable for event in head)
    return (
        bool(headers)
        and not variable
        and all(
            header.bitrate == 1000 * options.bitrate and options.audio_format.matches(header)
            for header in headers
        )
    )


async def _frames(head: list[Event], more: AsyncIterator[Event]) -> AsyncGenerator[Frame]:
    for event in head:
        if isinstance(event, Frame):
            yield event
    async for event in more:
        if isinstance(event, Frame):
            yield event


async def _parse(read: Callable[[], Awaitable[bytes]]) -> AsyncGenerator[Event]:
    reader = MpegAudioReader()
    budget = StepBudget()
    while chunk := await read():
        async for portion in budget.portions(chunk, AUDIO_PORTION_BYTES):
            reader.receive_data(portion)
            for event in reader.events():
                yield event
    reader.receive_eof()
    for event in reader.events():
        yield event


async def _probe(events: AsyncIterator[Event], most_frames: int) -> tuple[list[Event], bool]:
    """Read the first events; the flag is False if our reader supports the track less than ffmpeg may."""
    head: list[Event] = []
    frames = 0
    try:
        async for event in events:
            head.append(event)
            frames += isinstance(event, Frame)
            if frames >= most_frames:
                break
    except UnsupportedError:
        return head, False
    return head, True


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[AsyncBufferedReader]:
    """Open a file to be read by aiofiles, whose own ``open`` forgets the file where it is cancelled."""
    opened = await SHARED_THREADS.opened(path.open, "rb")
    file = AsyncBufferedReader(opened, loop=asyncio.get_running_loop(), executor=None)
    try:
        yield file
    finally:
        # A task that is cancelled once more doesn't wait; the file is closed nevertheless.
        await asyncio.shield(SHARED_THREADS.submit(opened.close))
