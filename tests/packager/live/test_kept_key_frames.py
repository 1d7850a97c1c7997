"""Encoders that begin with a key frame from before their first number's time lose nothing behind it."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial

import pytest

from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.packager.live.copied_streams import (
    CODING,
    FIRST,
    OPTIONS,
    Recorded,
    newest_segments,
    published_by,
    publishing,
    recorded,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

GROUP, SECONDS, KILLS = 3, 60, 3
RARE_KEYS = CODING.replace("-g 25", f"-g {25 * GROUP}")


def timelines(channel: Channel) -> list[int]:
    """Count the discontinuities of each rendition."""
    return [sum(one.discontinuity for one in each.window.listed) for each in channel.renditions.values()]


def _has_begun_anew(channel: Channel, restarts: int) -> bool:
    return min(timelines(channel)) >= restarts and newest_segments(channel) >= 3


@pytest.mark.parametrize("ladder", [("240p",), ("source", "240p")], ids="+".join)
async def test_each_encoder_that_follows_another_begins_one_timeline(
    tools: Tools, recorded: Recorded, ladder: tuple[str, ...]
) -> None:
    stream = recorded(coding=RARE_KEYS, seconds=SECONDS)
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), stream):
        for restarts in range(KILLS + 1):
            await until(partial(_has_begun_anew, channel, restarts), "two segments of an encoder")
            if restarts < KILLS:
                assert channel.pid is not None
                os.kill(channel.pid, signal.SIGKILL)
        assert channel.restarts == KILLS
        assert set(timelines(channel)) == {KILLS}
