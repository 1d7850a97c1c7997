"""packager.live.channel without pictures: a channel that is only sound, from a real ffmpeg."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest

from media.mp4.codecs.sample_entry import SampleEntry
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.window.model import LivePart
from tests.live_server import running
from tests.patience import LIVE
from tests.waiting import until

OPTIONS = ChannelOptions("tones", bitrates=(64_000, 128_000), part_duration=0.25, segment_duration=1.0)
AAC_FRAME = Fraction(1024, 48_000)


def probe(path: Path) -> dict[str, list[dict[str, str]]]:
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_packets", "-of", "json", str(path)]
    answer = subprocess.run(command, check=True, capture_output=True).stdout
    found: dict[str, list[dict[str, str]]] = json.loads(answer)
    return found


async def test_a_channel_of_sound_alone_is_cut_at_the_same_frames_in_all_renditions(
    tools: Tools, tmp_path: Path
) -> None:
    # A gap would stand for what an ffmpeg brings late that a busy machine lets stand still.
    channel = Channel(replace(OPTIONS, limits=LIVE), tools)
    assert list(channel.renditions) == ["128k", "64k"]
    start = channel.renditions["64k"].window.next_number
    async with running(channel):
        await until(
            lambda: min(r.window.next_number for r in channel.renditions.values()) >= start + 3, "three"
        )
    durations = []
    for name, rendition in channel.renditions.items():
        listed = list(rendition.window.listed)[:3]
        durations.append([segment.duration for segment in listed])
        # whole frames of AAC, the same number in each: 46.875 of them are a second
        assert {segment.duration / AAC_FRAME for segment in listed} == {47}
        assert all(part.independent for segment in listed for part in segment.parts)
        assert listed[0].timeline is not None
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(listed[0].timeline.init + b"".join(segment.data for segment in listed))
        found = probe(path)
        (stream,) = found["streams"]
        assert (stream["codec_name"], stream["sample_rate"], stream["channel_layout"]) == (
            "aac",
            "48000",
            "stereo",
        )
        assert len(found["packets"]) == 3 * 47
        times = [int(packet["dts"]) for packet in found["packets"]]
        assert {later - earlier for earlier, later in itertools.pairwise(times)} == {1024}
    assert durations[0] == durations[1]
    # twice the bits, as far as the tone needs them
    sizes = [rendition.window.finished.totals.average_bandwidth for rendition in channel.renditions.values()]
    assert sizes[0] > 1.3 * sizes[1]
    manifest = ElementTree.fromstring(channel.presentation.manifest(0))
    # One for all renditions; a second period begins where a busy machine's ffmpeg began anew.
    for period in manifest.findall("{*}Period"):
        sets = period.findall("{*}AdaptationSet")
        assert [one.get("contentType") or one.get("mimeType") for one in sets] == ["audio"]
        assert len(sets[0].findall("{*}Representation")) == 2
    assert "RESOLUTION" not in channel.presentation.multivariant().decode()
    assert re.findall('CODECS="([^"]+)"', channel.presentation.multivariant().decode()) == ["mp4a.40.2"] * 2


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 11")
async def test_the_next_channel_goes_on_with_the_discontinuities_however_late_it_starts(tools: Tools) -> None:
    former, channel = Channel(OPTIONS, tools), Channel(OPTIONS, tools)
    for rendition in former.renditions.values():
        rendition.window.begin(b"init", SampleEntry(b"mp4a", "mp4a.40.2", b"", ()))
        rendition.window.append(LivePart(b"part", Fraction(1), True), Fraction(1000), ends_segment=True)
    channel.follow(former)
    # The windows that it has, and those of a start long after this, when the clock has gone on.
    late = channel._planner.plan_empty(channel.cadence)
    for renditions in (channel.renditions, late.renditions):
        assert [one.window.discontinuity_sequence for one in renditions.values()] == [1, 1]


async def test_who_waits_for_a_channel_that_goes_on_with_other_windows_is_released(tools: Tools) -> None:
    channel = Channel(OPTIONS, tools)
    window = channel.renditions["64k"].window
    waiting = asyncio.create_task(window.waiters.wait(window.has_segments, 3600))
    await until(lambda: window.waiters.count, "the waiter")
    channel._adopt(channel._planner.plan_empty(channel.cadence))
    assert not await waiting
    assert channel.renditions["64k"].window is not window
