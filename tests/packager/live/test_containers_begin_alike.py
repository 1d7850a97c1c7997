"""The same stream in four containers: a channel copies each without a process, from the same groups on."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication
from tests.live_server import running
from tests.media.muxers.muxed_streams import packets
from tests.packager.live.copied_streams import (
    FIRST,
    OPTIONS,
    SECONDS,
    Recorded,
    media_of,
    published_by,
    recorded,
    segments,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

CONTAINERS = {
    "flv": "flv",
    "mpegts": "mpegts -muxdelay 0",
    "matroska": "matroska",
    "mp4": "mp4 -movflags empty_moov+default_base_moof -frag_duration 100000",
}
STEPS_PER_SECOND = 50


async def publish(publication: Publication, pieces: list[bytes]) -> None:
    """Publish a stream whose pieces are fiftieths of a second each."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for index, piece in enumerate(pieces):
        await asyncio.sleep(began + index / STEPS_PER_SECOND - loop.time())
        await publication.receive_data(piece)


async def test_channels_of_all_containers_begin_with_the_same_groups_and_start_no_process(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    # Whatever is started ends with a failure.
    none = replace(tools, ffmpeg=Path("/bin/false"), ffprobe=Path("/bin/false"))
    sent = [one[3] for one in await asyncio.to_thread(packets, recorded(), "v")]
    begun = dict[str, tuple[int, int, list[str]]]()

    async def play(container: str, form: str) -> None:
        words = [
            "-nostdin",
            "-v",
            "error",
            "-i",
            str(recorded()),
            "-c",
            "copy",
            "-f",
            *form.split(),
            "pipe:1",
        ]
        made = await asyncio.to_thread(subprocess.run, ["ffmpeg", *words], check=True, stdout=subprocess.PIPE)
        data, steps = made.stdout, STEPS_PER_SECOND * SECONDS
        pieces = [
            data[begin:end] for begin, end in pairwise(len(data) * step // steps for step in range(steps + 1))
        ]
        channel = Channel(replace(OPTIONS, name=container), none)
        publication = published_by(channel).begin(FIRST)
        async with running(channel), background_task(publish(publication, pieces)):
            await until(lambda: segments(channel) >= 2)
            assert (channel.pid, channel.restarts) == (None, 0)
            assert channel.source is not None
            assert channel.source.copied is channel.published
            assert channel.source.seen is not None
            assert published_by(channel).received_container == container
            window = channel.renditions["source"].window
            assert window.timeline is not None
            file = tmp_path / f"{container}.mp4"
            file.write_bytes(media_of(window, window.timeline.number))
            found = await asyncio.to_thread(packets, file, "v")
            publication.end()
        begun[container] = (
            len(channel.source.seen.keys),
            round(channel.cadence.frame_rate),
            [one[3] for one in found],
        )

    for container, form in CONTAINERS.items():
        await play(container, form)
    # x264 sends its frame rate and the length of its groups: two key frames are enough.
    assert {container: told[:2] for container, told in begun.items()} == dict.fromkeys(CONTAINERS, (2, 25))
    for container in ("flv", "matroska", "mp4"):
        contents = begun[container][2]
        # The clock decides which group is the first one that has a number.
        at = sent.index(contents[0])
        assert at % 25 == 0
        assert contents == sent[at : at + len(contents)]
