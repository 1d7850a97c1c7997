"""Pictures that are coded as two fields are on air as pictures where no sound comes with them."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.window.window import Window
from tests.live_server import running
from tests.media.ts import coded_fields
from tests.packager.live.copied_streams import (
    FIRST,
    OPTIONS,
    bring,
    media_of,
    published_by,
    segments,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

LADDERS = [("source",), ("240p",), ("source", "240p")]


@pytest.mark.clause("ISO/IEC 14496-15 §5.2.2")
@pytest.mark.parametrize("way", coded_fields.WAYS)
@pytest.mark.parametrize("ladder", LADDERS, ids="+".join)
async def test_pictures_of_two_fields_are_on_air_without_sound(
    tools: Tools, tmp_path: Path, ladder: tuple[str, ...], way: str
) -> None:
    seconds = 32
    data = await asyncio.to_thread(coded_fields.stream, way, 25 * seconds)
    channel = Channel(replace(OPTIONS, ladder=ladder, segment_duration=2.0), tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring(publication, data, seconds)):
        await until(lambda: segments(channel) >= 3)
        assert not source.last_error
        assert channel.restarts == 0
        assert channel.presentation.multivariant().count(b"FRAME-RATE=25.000") == len(ladder)
        for name in ladder:
            window = channel.renditions[name].window
            assert not any(one.gap or one.discontinuity for one in window.listed)
            levels = await asyncio.to_thread(levels_of, window, tmp_path)
            assert len(levels) >= 3 * 49
            # Each picture is three levels lighter than the one before, and begins again behind 170 of them.
            changes = [(other - one) % 170 for one, other in itertools.pairwise(levels)]
            assert sum(abs(one - 3) <= 2 for one in changes) >= len(changes) * 7 / 8
        publication.end()


def levels_of(window: Window, folder: Path) -> list[int]:
    """Return the luma of a place within the same macroblock of each picture of the newest timeline."""
    assert window.timeline is not None
    made = folder / "pictures.mp4"
    made.write_bytes(media_of(window, window.timeline.number))
    graph = "extractplanes=y,crop=w=2:h=2:x=iw*0.44:y=ih*0.2,scale=1:1:flags=area"
    words = f"-nostdin -v error -xerror -i {made} -vf {graph} -fps_mode passthrough -f rawvideo -"
    done = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True)
    return list(done.stdout)
