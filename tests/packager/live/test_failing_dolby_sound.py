"""AC-3 and E-AC-3 in MPEG-TS that stop in mid-stream: silence stands in for them, and they come back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from media.ts.tables import PACKET, payload_offset
from media.ts.timestamps import read_timestamp
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication, PublicationEndedError
from packager.sources.published_source import NO_SOUND
from tests.live_server import running
from tests.packager.live.copied_streams import (
    CODING,
    FIRST,
    LOUD,
    OPTIONS,
    SILENT,
    Recorded,
    published_by,
    recorded,
    segments,
    volumes,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

PICTURE, SOUND = 0x100, 0x101
"""PIDs that ffmpeg's muxer gives the two streams."""

SECONDS = 30


def with_a_pause(
    recording: Path, folder: Path, codec: str, begin: float, end: float
) -> list[tuple[float, bytes]]:
    """Write a recording as MPEG-TS with the sound in a codec, and leave out its packets of some seconds.

    Returns:
        The packets, with the seconds at which they come.
    """
    made = folder / "whole.ts"
    words = f"-nostdin -v error -i {recording} -c:v copy -c:a {codec} -ac 2 -f mpegts {made}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    data, found, first, is_kept, latest = made.read_bytes(), list[tuple[float, bytes]](), 0, True, 0.0
    for at in range(0, len(data), PACKET):
        packet = data[at : at + PACKET]
        # ISO/IEC 13818-1 §2.4.3.2: the start of a PES packet, and its PID
        word = int.from_bytes(packet[1:3], "big")
        if word & 0x4000 and word & 0x1FFF in (PICTURE, SOUND):
            place = payload_offset(packet) + 9
            time = read_timestamp(packet[place : place + 5])
            first = first or time
            seconds = (time - first) / 90_000
            latest = max(latest, seconds)
            is_kept = is_kept if word & 0x1FFF == PICTURE else not begin <= seconds < end
        if is_kept or word & 0x1FFF != SOUND:
            found.append((latest, packet))
    return found


async def bring(publication: Publication, packets: list[tuple[float, bytes]]) -> None:
    """Bring packets in real time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with contextlib.suppress(PublicationEndedError):
        for time, group in itertools.groupby(packets, lambda one: one[0]):
            await asyncio.sleep(max(began + time - loop.time(), 0))
            await publication.receive_data(b"".join(packet for _, packet in group))


@pytest.mark.clause("While a stream's sound is missing, its picture goes on with silence")
@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
@pytest.mark.parametrize("codec", ["ac3", "eac3"])
async def test_silence_stands_in_for_dolby_sound_that_stops_and_it_comes_back(
    tools: Tools, recorded: Recorded, tmp_path: Path, codec: str, ladder: tuple[str, ...]
) -> None:
    # Where an ffmpeg copies the picture, six seconds of it are looked at first.
    begin = 15 if len(ladder) > 1 else 6
    whole = recorded(coding=CODING, seconds=SECONDS)
    packets = await asyncio.to_thread(with_a_pause, whole, tmp_path, codec, begin, begin + 5)
    options = replace(OPTIONS, ladder=ladder, limits=replace(OPTIONS.limits, stall_seconds=1.5))
    channel = Channel(options, tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring(publication, packets)):
        await until(lambda: source.last_error == NO_SOUND)
        await until(lambda: segments(channel) > 0 and not source.last_error)
        number = channel.renditions["audio"].window.next_number
        await until(lambda: segments(channel, number) >= 2)
        assert channel.restarts == 0
        listed = [one for rendition in channel.renditions.values() for one in rendition.window.listed]
        assert not any(one.gap for one in listed)
        told = await asyncio.to_thread(volumes, channel, tmp_path)
        publication.end()
    assert max(told[-2:]) > LOUD
    assert sum(volume < SILENT for volume in told) >= 2
