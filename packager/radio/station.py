"""A radio station: a folder of MP3s as one endless stream of whole frames at real time.

Tracks that already are what the mount sends go out as they are; the others are decoded by one ffmpeg and
encoded again by another, which both run on from track to track.
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
from packager.concurrency import opened_in_thread
from packager.process.tools import Tools, ToolsError
from packager.radio.audio_blocks import AudioBlock, AudioFormat, BlockGatherer, BlockSchedule
from packager.radio.decoders import Decoders, decode_alone
from packager.radio.intake import INTAKE_BYTES
from packager.radio.limits import StationLimits
from packager.radio.loudness import FILTERS, Loudness
from packager.radio.station_info import NOTHING
from packager.radio.tracks import display, find_tracks, lacking, shuffled, track_title
from packager.radio.transcoder import Transcoder
from packager.step_budget import StepBudget

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StationOptions:
    """What a station plays and how it sounds.

    Attributes:
        name: the mount's name, for logs.
        folder: where the MP3s are, in folders of it too.
        bitrate: kbit/s of Layer III, constant.
        sample_rate: Hz.
        channels: 1 or 2.
        shuffle: play each round in a new order instead of the names' natural one.
        loop: begin again after the last track, with the folder read anew.
        prefill: seconds of audio given at once at the start, so that the first listener has a burst.
        loudness: what all tracks are brought to, in LUFS (EBU R 128); None: they stay as they are.
        crossfade: seconds in which a track's end and the next one's beginning are heard together.
        limits: what playing may cost, and how long ffmpeg may take.
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
    def sound(self) -> AudioFormat:
        """What all frames have in common."""
        return AudioFormat(self.sample_rate, self.channels)


class Station:
    """Plays a folder; see ``blocks``.

    Args:
        options: what to play and how it sounds.
        tools: ffmpeg for tracks that must be encoded again.
    """

    media_type = "audio/mpeg"
    available = True
    announced = NOTHING

    def __init__(self, options: StationOptions, tools: Tools) -> None:
        self.options = options
        self._tools = tools
        self._played = 0
        leveled = options.loudness is not None
        self._decoders = Decoders(options.sound, tools, options.limits)
        self._transcoder = Transcoder(
            options.sound, options.bitrate, tools, options.limits, options.crossfade, limited=leveled
        )
        self._loudness = Loudness(options.loudness, tools, options.limits)

    @property
    def bitrate(self) -> int:
        """Bitrate in kbit/s."""
        return self.options.bitrate

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Play, for as long as the generator is asked; close it (``aclosing``) to stop ffmpeg.

        Yields:
            About a second of audio at a time, each at most one block ahead of real time. A block has one
            title, so the last of a track may be shorter.
        """
        options = self.options
        pace = BlockSchedule(options.sample_rate, options.prefill, options.limits.late_seconds)
        try:
            async with aclosing(self._unpaced()) as blocks:
                async for block in blocks:
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
                async with aclosing(self._gather(self._sounds(path, gain), path)) as blocks:
                    async for block in blocks:
                        yield block
        async with aclosing(self._gather(self._transcoder.drain(), Path())) as blocks:
            async for block in blocks:
                yield block

    async def _tracks(self) -> AsyncGenerator[tuple[Path, Path | None]]:
        """Give track after track, each with the one behind it where that is known yet."""
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
                await asyncio.sleep(self.options.limits.rescan_seconds)

    async def _list(self) -> list[Path]:
        """Read the folder; wait while there is nothing in it."""
        waiting = False
        limits = self.options.limits
        while not (paths := await asyncio.to_thread(find_tracks, self.options.folder, limits)):
            if not waiting:
                log.warning(
                    "no tracks",
                    station=self.options.name,
                    folder=display(self.options.folder.absolute()),
                    reason=await asyncio.to_thread(lacking, self.options.folder),
                )
            waiting = True
            await asyncio.sleep(self.options.limits.rescan_seconds)
        return paths

    async def _gather(
        self, sounds: AsyncGenerator[tuple[str, Frame]], path: Path
    ) -> AsyncGenerator[AudioBlock]:
        """Make blocks of one track's frames; whatever is wrong with it ends it, and nothing else."""
        gathered = BlockGatherer(self.options.sound, "")
        try:
            async with aclosing(sounds):
                async for title, frame in sounds:
                    if title != gathered.title and gathered.pending:
                        yield gathered.take()
                    gathered.title = title
                    gathered.add(frame)
                    if gathered.complete:
                        yield gathered.take()
        except (MediaError, ToolsError, OSError, TimeoutError) as error:
            what = "track cut short" if gathered.frames else "track skipped"
            reason = display(str(error)) or type(error).__name__
            log.warning(what, station=self.options.name, track=display(path), reason=reason)
        if gathered.pending:
            yield gathered.take()
        self._played += gathered.frames

    async def _sounds(self, path: Path, gain: float) -> AsyncGenerator[tuple[str, Frame]]:
        """Give a track's frames as the mount sends them, after those that are left of the track before."""
        limits = self.options.limits
        async with _opened(path) as file:
            size: int = await file.seek(0, os.SEEK_END)
            await file.seek(max(size - limits.trailer_bytes, 0))
            tags = parse_trailer(await file.read(limits.trailer_bytes))
            await file.seek(0)
            async with aclosing(_parse(lambda: file.read(limits.read_bytes))) as events:
                head, understood = await _probe(events, limits.probe_frames)
                told = next((event.or_else(tags) for event in head if isinstance(event, Tags)), tags)
                title = track_title(told, path)
                as_it_is = not gain and not self.options.crossfade
                if as_it_is and understood and fits(head, self.options):
                    async with aclosing(self._transcoder.rest()) as rest:
                        async for sound in rest:
                            yield sound
                    async for frame in _frames(head, events):
                        yield title, frame
                    return
                self._tools.require(f"radio station {self.options.name!r}", encoders=["libmp3lame"])
                async with (
                    aclosing(self._samples(path, head, events if understood else None)) as samples,
                    aclosing(self._transcoder.track(samples, title, gain)) as encoded,
                ):
                    async for sound in encoded:
                        yield sound
        self._played += 1

    def _samples(
        self, path: Path, head: list[Event], more: AsyncIterator[Event] | None
    ) -> AsyncGenerator[bytes]:
        """Decode a track of whose events the first have been read; ``more`` is None where they can't be."""
        if more is None:
            return decode_alone(path, self.options.sound, self._tools, self.options.limits)
        first = next((event.header for event in head if isinstance(event, Frame)), None)
        info = next((event for event in head if isinstance(event, InfoFrame)), None)
        unheard = info.unheard(first.samples) if info is not None and first is not None else ()
        return self._decoders.track(_frames(head, more), unheard)


def fits(head: list[Event], options: StationOptions) -> bool:
    """Tell from a track's first events whether it already is what the mount sends.

    Returns:
        True for Layer III of the same sample rate, channels and constant bitrate.
    """
    headers = [event.header for event in head if isinstance(event, Frame)]
    variable = any(isinstance(event, InfoFrame) and event.variable for event in head)
    return (
        bool(headers)
        and not variable
        and all(
            header.bitrate == 1000 * options.bitrate and options.sound.matches(header) for header in headers
        )
    )


async def _frames(head: list[Event], more: AsyncIterator[Event]) -> AsyncGenerator[Frame]:
    """Give the frames among events."""
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
        async for portion in budget.portions(chunk, INTAKE_BYTES):
            reader.receive_data(portion)
            for event in reader.events():
                yield event
    reader.receive_eof()
    for event in reader.events():
        yield event


async def _probe(events: AsyncIterator[Event], most_frames: int) -> tuple[list[Event], bool]:
    """Take the first events; False tells that our reader doesn't know what ffmpeg may know."""
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
    opened = await opened_in_thread(path.open, "rb")
    file = AsyncBufferedReader(opened, loop=asyncio.get_running_loop(), executor=None)
    try:
        yield file
    finally:
        await file.close()
