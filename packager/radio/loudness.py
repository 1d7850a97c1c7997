"""Measures the loudness of tracks (EBU R 128), once each, and computes the gain that levels them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import structlog

from packager.ffmpeg.radio import loudness_arguments
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import read_only_sandbox, run
from packager.radio.limits import StationLimits
from packager.radio.tracks import display
from packager.threads import SHARED_THREADS

FILTERS = ("ebur128", "ametadata", "volume", "alimiter")
"""The ffmpeg filters that measuring and levelling need."""

SILENT_LUFS = -69.0
"""Loudness up to which a track counts as silent; EBU Tech 3341's absolute gate is at -70."""

LARGEST_GAIN = 20.0
"""Most decibels by which a track is turned up; more would mostly amplify noise."""

UNHEARD_GAIN = 0.5
"""Decibels below which a gain isn't worth encoding a track again."""

_INTEGRATED = re.compile(rb"lavfi\.r128\.I=(-?[0-9.]+|-?inf|nan)")
log = structlog.get_logger()

MEASURED_SECONDS = 1200
"""Seconds of a track, from its beginning, whose loudness is measured."""

MEASURE_SECONDS = 60.0
"""Longest measurement; a track that takes longer is played as it is."""


class Loudness:
    """Measures and remembers the loudness of a station's tracks.

    A file is measured once, by a process of its own, while the previous track plays (``expect``).

    Args:
        target: loudness of all tracks in LUFS; None leaves the tracks unchanged.
        limits: how much of a track is measured, and how many tracks are remembered.
    """

    def __init__(self, target: float | None, tools: Tools, limits: StationLimits) -> None:
        self._target = target
        self._limits = limits
        self._tools = tools
        self._known: dict[tuple[Path, int, int], float] = {}
        self._ahead: asyncio.Task[float] | None = None
        self._expected: Path | None = None

    async def expect(self, path: Path | None) -> None:
        """Start to measure the next track in the background; None for no track."""
        await self.stop()
        if path is not None and self._target is not None:
            self._expected, self._ahead = path, asyncio.create_task(self._gain(path))

    async def gain(self, path: Path) -> float:
        """Return the gain of a track in decibels; 0 if the difference is inaudible."""
        if self._ahead is None or self._expected != path:
            return await self._gain(path)
        return await self._ahead

    async def stop(self) -> None:
        """Cancel a measurement in progress."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.wait([ahead])

    async def _gain(self, path: Path) -> float:
        if self._target is None:
            return 0.0
        try:
            status = await SHARED_THREADS.run(path.stat)
            key = (path, status.st_size, status.st_mtime_ns)
            if key not in self._known:
                measured = await measure(path, self._tools)
                if len(self._known) >= self._limits.tracks:
                    self._known.clear()
                self._known[key] = measured
        except (OSError, ToolsError) as error:
            log.warning(
                "the loudness of a track can't be measured", track=display(path), reason=display(str(error))
            )
            return 0.0
        return gain_to(self._target, self._known[key])


def gain_to(target: float, measured: float) -> float:
    """Compute the gain in decibels that brings a track to a loudness.

    Args:
        target: in LUFS.
        measured: the track's, in LUFS.
    """
    if measured <= SILENT_LUFS:
        return 0.0
    gain = min(target - measured, LARGEST_GAIN)
    return gain if abs(gain) >= UNHEARD_GAIN else 0.0


async def measure(path: Path, tools: Tools) -> float:
    """Measure a track's integrated loudness (ITU-R BS.1770), in LUFS.

    Raises:
        ToolsError: ffmpeg can't read it.
    """
    words = loudness_arguments(path, MEASURED_SECONDS)
    text = await run(
        [tools.ffmpeg, *words],
        limit=MEASURE_SECONDS,
        sandbox=read_only_sandbox(path),
    )
    found = _INTEGRATED.findall(text)
    if not found:
        raise ToolsError("the file has no audio that can be decoded")
    with contextlib.suppress(ValueError):
        return max(float(found[-1]), -70.0)
    return -70.0
