"""Live transport streams whose program map gives picture and sound other packet IDs in mid-stream."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.media.ts.rewritten_streams import exchanged
from tests.packager import films
from tests.packager.live.copied_streams import (
    FIRST,
    LOUD,
    OPTIONS,
    Recorded,
    bring,
    media_of,
    published_by,
    recorded,
    volumes,
)
from tests.packager.live.moved_times import in_container
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

LENGTH = 21


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4.9")
@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
async def test_picture_and_sound_that_exchange_their_packet_ids_and_back_go_on_without_a_break(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    data = await asyncio.to_thread(in_container, recorded(seconds=LENGTH), tmp_path, "ts")
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    publication = published_by(channel).begin(FIRST)
    with capture_logs() as logs:
        async with running(channel):
            await bring(publication, exchanged(data, 2), LENGTH)
            publication.end()
            await until(lambda: any(one["event"] == "source ended" for one in logs))
            assert channel.restarts == 0
            for one in channel.renditions.values():
                listed = one.window.listed
                assert not any(segment.gap or segment.discontinuity for segment in listed)
                assert sum(segment.duration for segment in listed) > LENGTH - 4
            heard = await asyncio.to_thread(volumes, channel, tmp_path)
            window, made = channel.renditions[ladder[0]].window, tmp_path / "picture.mp4"
            assert window.timeline is not None
            made.write_bytes(media_of(window, window.timeline.number))
    assert min(heard[1:-1]) > LOUD
    assert len(await asyncio.to_thread(films.packets, made, "v:0")) > 24 * (LENGTH - 4)
    words = f"-nostdin -v error -i {made} -f null -"
    shown = await asyncio.to_thread(
        subprocess.run, ["ffmpeg", *words.split()], check=True, capture_output=True
    )
    assert not shown.stderr
