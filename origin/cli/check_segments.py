"""Checks whether a finished playlist's segments decode alone, and are cut alike in all variants.

ffprobe decides what can be decoded; it is given one segment at a time.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Sequence
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path

import m3u8

from packager.ffmpeg.arguments import LOCAL_PROTOCOLS, MAX_PIXELS, local_input, probe_arguments
from packager.process.process import read_only_sandbox, run
from packager.process.tools import ToolsError, locate

MAX_SEGMENTS = 3
"""Most segments of a playlist that are decoded; the first isn't, as it proves nothing."""

MAX_SEGMENT_BYTES = 64 << 20
DECODING_SECONDS = 60.0
MAX_ANSWER_BYTES = 64 << 10

APART_SECONDS = 0.1
"""Seconds by which the cuts of variants may differ, since durations are rounded."""


def chosen(playlist: m3u8.M3U8) -> list[m3u8.Segment]:
    """Choose segments to decode: unencrypted ones that are files of their own, but not the first."""
    able = [
        one
        for one in playlist.segments[1:]
        if one.uri and not one.byterange and not one.gap_tag and not (one.key and one.key.method != "NONE")
    ]
    step = max(1, len(able) // MAX_SEGMENTS)
    return able[::step][:MAX_SEGMENTS]


async def decodes_alone(init: bytes, segment: bytes) -> bool | None:
    """Return whether every picture of a segment can be decoded without another one; None if it isn't known.

    The segment is fragmented MP4, since ffprobe can't tell it of a transport stream.
    """
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="headwater-check-")
    try:
        path = Path(folder) / "segment"
        await asyncio.to_thread(path.write_bytes, init + segment)
        _, ffprobe = await asyncio.to_thread(locate)
        answer = await run(
            [ffprobe, *_words(path)],
            limit=DECODING_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
            sandbox=read_only_sandbox(path),
        )
        (stream,) = json.loads(answer)["streams"]
        return int(stream["nb_read_frames"]) >= int(stream["nb_read_packets"])
    except (ToolsError, ValueError, KeyError):
        return None
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _words(path: Path) -> list[str]:
    options = {
        "max_pixels": MAX_PIXELS,
        "protocol_whitelist": LOCAL_PROTOCOLS,
        "format_whitelist": "mov",
    }
    questions = ("-select_streams", "v:0", "-count_packets", "-count_frames")
    entries = ("-show_entries", "stream=nb_read_packets,nb_read_frames")
    return probe_arguments(local_input(path), options, *questions, *entries)


def starts(playlist: m3u8.M3U8) -> list[float]:
    """Return when each segment of a playlist begins, in seconds from the beginning."""
    return list(accumulate((one.duration or 0.0 for one in playlist.segments[:-1]), initial=0.0))


def misaligned(variants: Sequence[tuple[str, list[float]]]) -> str | None:
    """Describe the first difference between the cuts of variants; None if all agree.

    Each variant is an address and the starts of its segments.
    """
    for (one, first), (other, second) in pairwise(variants):
        for number, (left, right) in enumerate(zip_longest(first, second)):
            if left is None or right is None:
                return f"{one} has {len(first)} segments and {other} {len(second)}"
            if abs(left - right) > APART_SECONDS:
                return f"segment {number} begins at {left:.3f} s in {one} and at {right:.3f} s in {other}"
    return None
