"""Runs a channel's ffmpeg once: its pipes go to feeds until it ends, and the reason of its end is found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from media.errors import MediaError
from packager.concurrency import LAST_LOOK_SECONDS, running_tasks
from packager.live.rendition_output import Feed
from packager.live.run import ChannelRun, SourceEndedError
from packager.process.ffmpeg_discovery import ToolsError
from packager.process.process import Process, last_error
from packager.segment.part_packer import CadenceError
from packager.sources.published_source import PublishedSource
from packager.sources.schemes import without_url_secrets
from packager.window.program_date_time import Instant

MADE_SECONDS = 0.5
"""Seconds without a picture after which an ffmpeg that makes the missing sound has shown all of its input."""


class EncoderRun(ChannelRun):
    """An ffmpeg from its start to its end; ``play`` is called once.

    The arguments are those of ``Run``; the feeds are those of its output pipes, in their order.

    Attributes:
        errors: ffmpeg's output to standard error, once it has ended.
    """

    errors = ""

    async def play(self, argv: Sequence[str | Path], oldest: float | None = None) -> str:
        """Run ffmpeg to its end, and leave all windows at the same number.

        Args:
            argv: its path, then its arguments, with as many outputs as there are feeds.
            oldest: monotonic time; earlier data of a published stream isn't played. None: the newest access
                point is the first.

        Returns:
            The reason of its end in one line, without the source's URL.
        """
        source = self._source
        try:
            process = await Process.start(
                argv,
                outputs=len(self.feeds),
                stdin=source.feed is not None,
                sandbox=source.sandbox,
            )
        except ToolsError as error:
            return str(error)
        self.pid = process.pid
        reason = ""
        try:
            await self._pump(process, oldest)
        except* (SourceEndedError, MediaError, CadenceError) as errors:
            reason = str(errors.exceptions[0])
        finally:
            await self._end(process)
        self.errors = process.errors
        if source.pump is not None and source.pump.has_stream and source.pump.stream != source.stream:
            return "another stream follows"
        reason = last_error(process.errors) or reason
        return without_url_secrets(reason, source.url) if source.url else reason

    async def _pump(self, process: Process, oldest: float | None) -> None:
        """Pass input to ffmpeg and its output to the feeds, until all pipes end, or one does too early."""
        async with asyncio.TaskGroup() as group:
            self._start.began = self._source.begins_at(oldest)
            if (supplied := self._source.feed_since(oldest)) is not None:
                group.create_task(self._feed(process, supplied))
            for index, feed in enumerate(self.feeds):
                group.create_task(self._drain(process, index, feed))
        if self._source.once and await process.exited_cleanly():
            self._over.set()

    async def _feed(self, process: Process, feed: Callable[[Process], Awaitable[None]]) -> None:
        """Feed ffmpeg its input to the end, unless the stream has another format by now than at its start."""
        source = self._source
        if source.pump is None or source.pump.stream == source.stream:
            await feed(process)
        else:
            # Another publisher took over, or the encoder changed something, while this ffmpeg was started.
            process.close_stdin()
        self.supply_ended = self._source.pump is not None and process.input_ended
        if self.supply_ended and not (source.has_video and source.has_audio):
            await self._rest()
            process.end()

    async def _rest(self) -> None:
        """Wait for the last that ffmpeg makes of an input that has ended.

        The picture or sound that is made for the missing one never ends, and keeps ffmpeg as far behind as it
        was when it began.
        """
        own, pump = self.feeds[0 if self._source.has_video else -1], self._source.pump
        seen = self._source.seen
        silence = MADE_SECONDS if seen is None else max(MADE_SECONDS, 2 * float(seen.picture_frame))
        last = time.monotonic() + self.limits.last_seconds
        while (left := last - time.monotonic()) > 0:
            span = own.span
            await asyncio.sleep(min(silence, left))
            if own.span == span or (isinstance(pump, PublishedSource) and pump.hurries):
                return

    async def _end(self, process: Process) -> None:
        self._stop()
        await process.stop()
        self._aligned.align()

    async def _drain(self, process: Process, index: int, feed: Feed) -> None:
        """Pass ffmpeg's output for a rendition to its feed until the output ends, or stalls for too long."""
        loop, limits = asyncio.get_running_loop(), self.limits
        patience, heard, capacity = limits.start_seconds, loop.time(), process.capacity(index)

        def receive(data: bytes) -> float:
            nonlocal patience, heard
            patience, heard = limits.stall_seconds, loop.time()
            self._newest = heard
            now = Instant.now()
            has_part = feed.receive_data(data, now)
            self.stand_in(now)
            if not has_part:
                return 0.0
            self.flowing = True
            return feed.rest(now, capacity)

        async with running_tasks(process.drain(index, receive)) as (draining,):
            while not draining.done():
                left = heard + patience - loop.time()
                # The patience of a start is over with its first output, which is seen within that of a stall.
                soon = min(left, limits.stall_seconds)
                # If this process stood still, data that came meanwhile is still in the pipe.
                await asyncio.wait((draining,), timeout=max(soon, LAST_LOOK_SECONDS))
                if self.can_miss(feed):
                    # The others decide whether the run goes on.
                    heard = max(heard, self._newest)
                if left <= 0 and loop.time() >= heard + patience and not draining.done():
                    raise SourceEndedError(f"output {index} of ffmpeg wrote nothing for {patience:.0f} s")
            draining.result()
        # Behind the end of its input, ffmpeg writes the rest of each output.
        if not self._source.once and not self.supply_ended:
            raise SourceEndedError(f"output {index} of ffmpeg ended")
