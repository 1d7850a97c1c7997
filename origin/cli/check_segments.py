"""Checks whether a finished playlist's segments can be read, decode alone, and are cut alike in all variants.

ffprobe decides what can be decoded; it is given one segment at a time.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import m3u8

from packager.ffmpeg.arguments import LOCAL_PROTOCOLS, MAX_PIXELS, local_input, probe_arguments
from packager.process.ffmpeg_discovery import ToolsError, locate
from packager.process.process import read_only_sandbox, run
from packager.threads import SHARED_THREADS

T = TypeVar("T")

MAX_SEGMENTS = 3
"""Most segments of a playlist that are decoded; the first isn't, as it proves nothing."""

MAX_SEGMENT_BYTES = 64 << 20
DECODING_SECONDS = 60.0
MAX_ANSWER_BYTES = 4 << 20

VIDEO = ("-select_streams", "v:0")
OPTIONS = {
    "max_pixels": MAX_PIXELS,
    "protocol_whitelist": LOCAL_PROTOCOLS,
    "format_whitelist": "mov,mpegts,aac,mp3,ac3,eac3",
}
KINDS = {"video": 0, "audio": 1}
"""Kinds of streams, in the order in which a segment's times are taken from them."""

ALWAYS_DECODED = ("h264", "hevc", "mpeg2video")
"""Codecs that every ffmpeg decodes."""

SPAN_APART_SECONDS = 0.5
"""Seconds by which renditions of one film may differ in length: frames of sound and picture end apart."""

APART_SECONDS = 0.1
"""Seconds by which the cuts of variants may differ, since durations are rounded."""


@dataclass(frozen=True, slots=True)
class SegmentTiming:
    """When a segment's pictures are shown, or its sound where it has none, in seconds.

    Attributes:
        begin: the first one's presentation time.
        end: the last one's presentation time.
        longest_gap: the longest time between two, or the last one's own duration.
        last_duration: the last one's own duration; 0 if unknown.
    """

    begin: float
    end: float
    longest_gap: float
    last_duration: float = 0

    @property
    def presented_end(self) -> float:
        """When the last one's presentation ends."""
        return self.end + self.last_duration


def chosen(playlist: m3u8.M3U8) -> Sequence[m3u8.Segment]:
    """Choose segments to decode: unencrypted ones, but not the first."""
    return some(
        [
            one
            for one in playlist.segments[1:]
            if one.uri and not one.gap_tag and not (one.key and one.key.method != "NONE")
        ]
    )


def some(segments: Sequence[T]) -> Sequence[T]:
    """Choose as many as are decoded, from everywhere."""
    return segments[:: max(1, len(segments) // MAX_SEGMENTS)][:MAX_SEGMENTS]


async def decodes_alone(init: bytes, segment: bytes) -> bool | None:
    """Return whether every picture of a segment can be decoded without another one; None if it isn't known.

    Args:
        init: the init segment of fragmented MP4; nothing for MPEG-TS.
    """
    questions = (*VIDEO, "-count_packets", "-count_frames")
    entries = "stream=codec_name,nb_read_packets,nb_read_frames"
    answer = await _asked(init + segment, (*questions, "-show_entries", entries))
    try:
        (stream,) = answer["streams"]
        # Where no picture at all could be decoded, frames aren't counted.
        frames = stream.get("nb_read_frames", 0 if stream["codec_name"] in ALWAYS_DECODED else None)
        return None if frames is None else int(frames) >= int(stream["nb_read_packets"])
    except (ValueError, KeyError):
        return None


async def first_time(init: bytes, segment: bytes) -> float | None:
    """Return when the first picture of a segment is shown, in seconds; None if it isn't known.

    Args:
        init: the init segment of fragmented MP4; nothing for MPEG-TS.
    """
    answer = await _asked(init + segment, (*VIDEO, "-show_entries", "packet=pts_time"))
    times = [float(one["pts_time"]) for one in answer.get("packets", []) if "pts_time" in one]
    return min(times, default=None)


async def timing(init: bytes, segment: bytes) -> SegmentTiming | None:
    """Return when a segment's media is shown; None if ffprobe finds none.

    Args:
        init: the init segment of fragmented MP4; nothing for others.
    """
    entries = "stream=index,codec_type:packet=stream_index,pts_time,duration_time"
    answer = await _asked(init + segment, ("-show_entries", entries))
    try:
        kinds = {one["index"]: one.get("codec_type", "") for one in answer["streams"]}
        timed = [one for one in answer["packets"] if "pts_time" in one]
        shown = min((one["stream_index"] for one in timed), key=lambda at: KINDS.get(kinds[at], len(KINDS)))
        own = [one for one in timed if one["stream_index"] == shown]
        times = sorted(float(one["pts_time"]) for one in own)
        gaps = [after - before for before, after in pairwise(times)]
        last = max(own, key=lambda one: float(one["pts_time"]))
        own_duration = float(last.get("duration_time", 0))
        return SegmentTiming(times[0], times[-1], max([*gaps, own_duration]), own_duration)
    except (ValueError, KeyError, TypeError):
        return None


async def _asked(data: bytes, questions: Sequence[str]) -> dict[str, Any]:
    """Return what ffprobe reports about a segment; empty where it can't read it."""
    folder = await SHARED_THREADS.run(tempfile.mkdtemp, prefix="headwater-check-")
    try:
        path = Path(folder) / "segment"
        await SHARED_THREADS.run(path.write_bytes, data)
        _, ffprobe = await SHARED_THREADS.run(locate)
        answer = await run(
            [ffprobe, *probe_arguments(local_input(path), OPTIONS, *questions)],
            limit=DECODING_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
            sandbox=read_only_sandbox(path),
        )
        found: dict[str, Any] = json.loads(answer)
        return found
    except (ToolsError, ValueError):
        return {}
    finally:
        await SHARED_THREADS.run(shutil.rmtree, folder, ignore_errors=True)


def unequal_spans(spans: Sequence[tuple[str, float]]) -> str | None:
    """Describe the shortest and the longest of what lasts differently; None if all last as long.

    Each is an address and its seconds.
    """
    if not spans:
        return None
    (one, shortest), (other, longest) = min(spans, key=_seconds), max(spans, key=_seconds)
    if longest - shortest <= SPAN_APART_SECONDS:
        return None
    return f"{one} lasts {shortest:.2f} s and {other} {longest:.2f} s"


def _seconds(span: tuple[str, float]) -> float:
    return span[1]


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
