"""Publications of which ffmpeg encodes a part, whatever container they come in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.packager.live.copied_streams import (
    FIRST,
    OPTIONS,
    Recorded,
    published_by,
    publishing,
    recorded,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)


async def test_some_key_frames_are_enough_to_encode_beside_a_copied_picture(
    tools: Tools, recorded: Recorded
) -> None:
    """Viewers wait for it: two or three groups of pictures are known after as many seconds."""
    channel = Channel(replace(OPTIONS, ladder=("source", "240p")), tools)
    # Nothing comes behind these seconds, and the publisher stays.
    async with running(channel), publishing(published_by(channel).begin(FIRST), recorded(seconds=4)):
        await until(lambda: channel.source is not None)
        assert channel.source is not None
        assert channel.source.copied is None
        assert channel.source.seen is not None
        assert channel.source.frame_rate == 25
        assert channel.source.size == (160, 120)
