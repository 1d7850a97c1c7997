"""Sources that a channel pulls."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from packager.live.channel import Channel
from packager.live.limits import DEFAULT_LIMITS, LiveLimits
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running


@contextlib.asynccontextmanager
async def pulling(
    url: str, tools: Tools, ladder: tuple[str, ...] = ("240p",), limits: LiveLimits = DEFAULT_LIMITS
) -> AsyncIterator[Channel]:
    options = ChannelOptions(
        "pulled", url, ladder=ladder, part_duration=0.25, segment_duration=1.0, limits=limits
    )
    channel = Channel(options, tools)
    async with running(channel):
        yield channel
