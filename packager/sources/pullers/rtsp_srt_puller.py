"""RTSP and SRT sources, fetched by a program of their own and received as MPEG-TS.

So changes of codec, size or clock are seen here, and a restart of the encoder loses no connection. RTSP is
remuxed to MPEG-TS by an ffmpeg. SRT carries MPEG-TS already, and libavformat reads it byte for byte
(avio_reader.py); an ffmpeg, which hides changes of codecs, is used only without that library. Programs get
the URL on standard input, where no other process sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import functools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from media.errors import MediaError
from media.stream_reader import CLOCK_RATE, StreamChunk
from media.ts.stream_reader import TransportReader
from packager.concurrency import receive_within
from packager.ffmpeg.live import remuxer_arguments
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, last_error
from packager.process.sandbox import Sandbox
from packager.sources import probe
from packager.sources.limits import DEFAULT_LIMITS, GuardLimits, SourceLimits
from packager.sources.pullers import avio_reader
from packager.sources.pullers.address_guard import AddressGuard
from packager.sources.pullers.rtsp_relay import RtspRelay
from packager.sources.pump import Pump
from packager.sources.retries import PullError, SourceRetries
from packager.sources.schemes import without_url_secrets
from packager.sources.source import Source
from packager.step_budget import StepBudget
from packager.threads import SHARED_THREADS

CARRIED_VIDEO = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4")
CARRIED_AUDIO = ("aac", "mp2", "mp3", "ac3", "eac3", "opus")
"""Codecs that MPEG-TS carries, by ffmpeg's names; other audio is encoded."""

INTERPRETER = str(Path(sys.executable).resolve())
"""The real path, since the files of a virtual environment aren't readable in the sandbox."""


def mpegts_coding(found: Source) -> dict[str, Any]:
    """Choose what of a source is copied into MPEG-TS, and what is encoded since that doesn't carry it."""
    video = "copy" if found.video_codec in CARRIED_VIDEO else "libx264"
    return {"c:v": video, "c:a": "copy" if found.audio_codec in CARRIED_AUDIO else "aac"}


class StreamContinuity:
    """Detects that a stream remuxed by ffmpeg has been replaced by another one, so that we must reconnect.

    ffmpeg doesn't follow every change: after a change of codec there are no more access points, and after a
    jump back of the clock, times increase by one tick per packet. All times are seconds: media times of the
    stream's clock, and ``now`` of a monotonic clock.
    """

    def __init__(self, now: float, limits: SourceLimits) -> None:
        self._heard = now
        self._limits = limits
        self._patience = limits.key_seconds
        self._clock: float | None = None
        self._still = self._since_key = 0.0

    def received(self, clock: float | None, now: float, *, access: bool) -> str | None:
        """Record received data.

        Args:
            clock: its newest media time, or None if unknown.
            access: whether it has an access point.

        Returns:
            What is wrong with the stream, for the log; None if nothing is.
        """
        passed, self._heard = min(now - self._heard, self._limits.clock_rest_seconds), now
        self._still += passed
        self._since_key += passed
        step = self._limits.clock_step_seconds
        if clock is not None and (self._clock is None or abs(clock - self._clock) >= step):
            self._clock, self._still = clock, 0.0
        if access:
            self._patience = max(self._patience, 3 * self._since_key)
            self._since_key = 0.0
        if self._since_key > self._patience:
            return f"no key frame came for {self._patience:.0f} s"
        if self._clock is not None and self._still > self._limits.clock_still_seconds:
            return "its clock stands still"
        return None


@functools.cache
def find_libavformat() -> str | None:
    """Find libavformat; None if it isn't installed. The call blocks."""
    return ctypes.util.find_library("avformat")


async def with_resolved_host(url: str, limits: GuardLimits = DEFAULT_LIMITS.guard) -> str:
    """Replace the host of a URL by its address, so that it isn't resolved a second time.

    Raises:
        PullError: none of its addresses is allowed.
        OSError: the name doesn't resolve.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = (await AddressGuard(host, limits=limits).resolve(host, parts.port))[0]
    user, at, place = parts.netloc.rpartition("@")
    port = place.rpartition("]")[2].partition(":")[2]
    written = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{user}{at}{written}{':' if port else ''}{port}").geturl()


class Remuxer:
    """Fetches one RTSP or SRT URL, and reconnects when it ends.

    Args:
        channel: the channel's name, for the log.

    Attributes:
        pump: receives the stream; None until its codecs are known to be ones that MPEG-TS carries.
        address: the URL that the fetching program gets, with a relay's or a resolved address.
    """

    def __init__(self, url: str, tools: Tools, channel: str, limits: SourceLimits = DEFAULT_LIMITS) -> None:
        self._url = url
        self._limits = limits
        self._tools = tools
        self._channel = channel
        self._retries = SourceRetries(channel, limits.retry)
        self._detected = asyncio.Event()
        self._options: dict[str, Any] | None = None
        self._libavformat: str | None = None
        self._relay: RtspRelay | None = None
        self.pump: Pump | None = None
        self.address = url

    async def wait_until_detected(self) -> Pump | None:
        """Wait until the stream's format is known; return None if ffmpeg must fetch it itself."""
        await self._detected.wait()
        return self.pump

    @property
    def trouble(self) -> str:
        """Why nothing is received; empty while something is."""
        return self._retries.trouble

    async def run(self) -> None:
        """Fetch, and reconnect, until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            if urlsplit(self._url).scheme == "srt":
                self._libavformat = await SHARED_THREADS.run(find_libavformat)
            else:
                self._relay = RtspRelay(self._url, self._limits)
                self.address = await stack.enter_async_context(self._relay.running())
            while await self._fetch():
                pass
            # The encoding ffmpeg fetches it itself, through the relay.
            self._detected.set()
            await asyncio.Event().wait()

    async def _fetch(self) -> bool:
        """Fetch once, and wait until the next attempt; return False if ffmpeg must fetch it itself."""
        try:
            if self._relay is None:
                self.address = await with_resolved_host(self._url, self._limits.guard)
            source = probe.url_source(self.address, self._tools)
            if self._options is None:
                self._options = await self._output_options(source)
            if self._options is None:
                return False
            reason = await self._run_program(source, self._options)
        except (ToolsError, MediaError, PullError) as error:
            reason = str(error)
            self._options = None
        except OSError:
            reason = "its name isn't known"
        finally:
            if self.pump is not None:
                self.pump.receive_eof()
        if self._relay is not None:
            reason = self._relay.trouble or reason
        await asyncio.sleep(
            self._retries.stream_ended(
                without_url_secrets(without_url_secrets(reason, self._url), self.address)
            )
        )
        return True

    async def _output_options(self, source: Source) -> dict[str, Any] | None:
        """Choose ffmpeg's output options; None if MPEG-TS can't carry the video.

        Raises:
            ToolsError: the source is unavailable.
        """
        if urlsplit(self._url).scheme == "srt":
            return {"c": "copy"}  # SRT carries MPEG-TS
        found = await probe.probe_streams(source, self._tools, self._limits)
        if found.video_codec not in ("", *CARRIED_VIDEO):
            return None
        # RTSP has parameter sets outside of the stream, but a decoder that joins later needs them in it.
        video = {"c:v": "copy", "bsf:v": "dump_extra=freq=keyframe"} if found.has_video else {}
        return {**video, "c:a": "copy" if found.audio_codec in CARRIED_AUDIO else "aac"}

    async def _run_program(self, source: Source, output: dict[str, Any]) -> str:
        """Run the fetching program until its end; return the reason of the end.

        Raises:
            ToolsError: it gave no data, or stopped giving data.
        """
        argv, sandbox, told = self._command(source, output)
        process = await Process.start(argv, stdin=True, sandbox=sandbox)
        try:
            with contextlib.suppress(BrokenPipeError):
                await process.write(told.encode())
            process.close_stdin()
            came = await self._read_output(process)
            if await process.wait() == avio_reader.INCAPABLE:
                self._libavformat = None
        finally:
            await process.stop()
        reason = last_error(process.errors) or "it ended"
        if not came:
            raise ToolsError(reason)
        return reason

    def _command(self, source: Source, output: dict[str, Any]) -> tuple[list[str], Sandbox, str]:
        """Return the fetching program's arguments, sandbox and standard input."""
        if self._libavformat is not None:
            sandbox = replace(source.sandbox, read=(sys.base_prefix, avio_reader.__file__))
            return (
                [INTERPRETER, "-I", "-S", avio_reader.__file__, self._libavformat],
                sandbox,
                f"{source.url}\n",
            )
        words = remuxer_arguments(source.address, source.options, output)
        return [str(self._tools.ffmpeg), *words], source.sandbox, source.script

    async def _read_output(self, process: Process) -> bool:
        """Pass the program's output to the pump; return whether there was any."""
        loop, budget = asyncio.get_running_loop(), StepBudget()
        reader = TransportReader(self._limits.transport_reader)
        pump: Pump | None = None
        patience = self._limits.remux_start_seconds
        continuity = StreamContinuity(loop.time(), self._limits)
        while True:
            try:
                data = await receive_within(process.read, patience)
            except TimeoutError as error:
                raise ToolsError(f"it gave nothing for {patience:.0f} s") from error
            if not data:
                return pump is not None
            if pump is None:
                pump, patience = self._prepare_pump(reader), self._limits.remux_silent_seconds
            async for portion in budget.portions(data):
                pieces = reader.receive_data(portion)
                if (
                    self._libavformat is None
                    and (wrong := _check_continuity(continuity, pieces, loop.time())) is not None
                ):
                    raise ToolsError(wrong)
                await pump.push(pieces)
            if self._libavformat is not None:
                # An SRT message has few packets, and each wake-up costs CPU.
                await asyncio.sleep(self._limits.gather_seconds)

    def _prepare_pump(self, reader: TransportReader) -> Pump:
        """Return the pump, ready for another stream."""
        if self.pump is None:
            self.pump = Pump("mpegts", reader, limits=self._limits, channel=self._channel)
        else:
            self.pump.begin("mpegts", reader)
        self._detected.set()
        self._retries.stream_began()
        return self.pump


def _check_continuity(continuity: StreamContinuity, pieces: Sequence[StreamChunk], now: float) -> str | None:
    """Record what a remuxing ffmpeg gave; return what is wrong with it, or None."""
    clock = max((piece.clock / CLOCK_RATE for piece in pieces if piece.clock is not None), default=None)
    return continuity.received(clock, now, access=any(piece.access for piece in pieces))
