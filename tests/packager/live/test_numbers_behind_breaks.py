"""Numbers over breaks: they tell the time of their segments, since players of DASH count by the clock."""

from __future__ import annotations

import itertools
import os
import signal
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from xml.etree import ElementTree

import pytest

from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.retry_policy import RetryPolicy
from packager.window.aligned_windows import AlignedWindows
from packager.window.model import LivePart, WindowOptions
from packager.window.window import Window
from tests.live_server import running
from tests.packager.writers import writer_of
from tests.patience import LIVE
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)
"""All that a test waits for together."""

SEGMENT_SECONDS = 1
PAUSE_SECONDS = 1.6
BREAKS = 4
ANEW = RetryPolicy(first_seconds=PAUSE_SECONDS, longest_seconds=PAUSE_SECONDS, steady_seconds=0.0)
NAMES = {"": "urn:mpeg:dash:schema:mpd:2011"}


def _has_restarted(channel: Channel, times: int) -> bool:
    return channel.restarts >= times and channel.pid is not None


def _has_media(window: Window, number: int) -> bool:
    return window.next_number > number and not window.listed[-1].gap


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.9.5.3", "RFC 8216bis §6.2.1")
async def test_behind_breaks_of_several_segments_a_number_still_tells_its_time(tools: Tools) -> None:
    """Each break is longer than a segment, and too short for the gaps of a late source."""
    options = ChannelOptions("small", ladder=("240p",), part_duration=0.25, segment_duration=SEGMENT_SECONDS)
    limits = replace(LIVE, encoder_retry=ANEW)
    channel = Channel(replace(options, dvr_window=3600, limits=limits), tools)
    async with running(channel):
        window = channel.renditions["240p"].window
        await until(lambda: channel.ready, "the first segment")
        for index in range(BREAKS):
            assert channel.pid is not None
            os.kill(channel.pid, signal.SIGKILL)
            await until(partial(_has_restarted, channel, index + 1), "another encoder")
            begun, left = time.time(), window.next_number
            await until(partial(_has_media, window, left), "a segment")
            # What the machine takes to the first picture comes on top.
            assert begun - left * SEGMENT_SECONDS < SEGMENT_SECONDS + 0.5
        for rendition in channel.renditions.values():
            listed = list(rendition.window.listed)
            assert sum(one.gap for one in listed) >= BREAKS
            for one, following in itertools.pairwise(listed):
                assert following.number == one.number + 1
                overlap = one.program_date_time + one.duration - following.program_date_time
                is_same_run = one.timeline is following.timeline and not (one.gap or following.gap)
                # Players that map media times by dates have one clock for a run.
                assert overlap <= (Fraction(1, 1000) if is_same_run else Fraction(1, 10))
        root = ElementTree.fromstring(channel.presentation.manifest(time.time()))
        for template in root.iterfind(".//SegmentTemplate", NAMES):
            values = {name: int(template.attrib[name]) for name in ("startNumber", "presentationTimeOffset")}
            step = Fraction(int(template.attrib["duration"]), int(template.attrib["timescale"]))
            begin = Fraction(values["presentationTimeOffset"], int(template.attrib["timescale"]))
            # ffmpeg 5.1 counts by the clock from this on, in whichever period: it comes to the same numbers.
            assert abs(begin - values["startNumber"] * step) < step / 10


@pytest.mark.parametrize(
    ("seconds", "count", "lengths"),
    [
        # Seconds between the last segment and the next one, numbers, seconds of each gap of at most one.
        ("2.5", 2, ["1", "1"]),
        ("1.5", 2, ["0.75", "0.75"]),
        ("0.1", 1, ["0.1"]),
        ("0", 1, []),
        ("-1", 3, []),
        ("5", 0, []),
    ],
)
def test_gaps_of_skipped_numbers_last_no_longer_than_the_break(
    seconds: str, count: int, lengths: list[str]
) -> None:
    windows = [Window(WindowOptions(1, 100)) for _ in range(2)]
    for window in windows:
        window.append(LivePart(b"x", Fraction(1), True), Fraction(100), ends_segment=True)
    aligned = AlignedWindows([writer_of(window) for window in windows])
    aligned.skip(count, Fraction(1), Fraction(101) + Fraction(seconds))
    for window in windows:
        gaps = [one for one in window.listed if one.gap]
        assert [one.duration for one in gaps] == [Fraction(length) for length in lengths]
        assert window.next_number == 101 + len(lengths)
        dates = [Fraction(101) + sum(map(Fraction, lengths[:index])) for index in range(len(lengths))]
        assert [one.program_date_time for one in gaps] == dates
