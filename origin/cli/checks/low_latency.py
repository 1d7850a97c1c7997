"""Rules for low-latency media playlists (RFC 8216bis), for ``headwater check``.

Playlists as the m3u8 package reads them go in, and lines about faults come out. Nothing is shared with the
server that may be judged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import m3u8

TOLERANCE = 0.01
"""Seconds by which written durations may be off."""

SHORTEST_PART = 0.85
"""Least share of the part target that a part must last (RFC 8216bis §4.4.4.9)."""


def progress(playlist: m3u8.M3U8) -> tuple[int, int]:
    """Return the media sequence number and part index that come next in a playlist."""
    skipped = playlist.skip.skipped_segments if playlist.skip else 0
    whole = sum(bool(segment.uri) for segment in playlist.segments)
    begun = [segment for segment in playlist.segments[-1:] if not segment.uri]
    number = (playlist.media_sequence or 0) + (skipped or 0) + whole
    return number, sum(len(segment.parts) for segment in begun)


def has_parts(playlist: m3u8.M3U8) -> bool:
    """Return whether the parts of any segment are listed."""
    return any(segment.parts for segment in playlist.segments)


def control_problems(playlist: m3u8.M3U8) -> Iterator[str]:
    """Find faults of the tags that low latency and delivery directives need; a line each, with its clause."""
    if playlist.is_endlist and playlist.preload_hint is not None:
        yield "has EXT-X-ENDLIST and EXT-X-PRELOAD-HINT (RFC 8216bis §4.4.5.3)"
    if has_parts(playlist) and not playlist.is_endlist:
        if playlist.preload_hint is None:
            yield "has parts, but no EXT-X-PRELOAD-HINT (RFC 8216bis Appendix B.1)"
        dated = itertools.chain(playlist.segments, *(segment.parts for segment in playlist.segments))
        if not any(one.program_date_time for one in dated):
            yield "has parts, but no EXT-X-PROGRAM-DATE-TIME (RFC 8216bis Appendix B.1)"
    yield from _bounds(playlist)


def _bounds(playlist: m3u8.M3U8) -> Iterator[str]:
    control: Any = playlist.server_control
    bounds: list[tuple[str, float | None, float, str]] = []
    if control and playlist.target_duration:
        target = playlist.target_duration
        bounds.append(("HOLD-BACK", control.hold_back, 3 * target, "three target durations"))
        bounds.append(("CAN-SKIP-UNTIL", control.can_skip_until, 6 * target, "six target durations"))
    if not playlist.part_inf:
        if has_parts(playlist):
            yield "has parts, but no EXT-X-PART-INF (RFC 8216bis §4.4.3.7)"
    elif (part_target := playlist.part_inf.part_target) is None:
        yield "has no number as PART-TARGET (RFC 8216bis §4.4.3.7)"
    elif not control or control.part_hold_back is None:
        yield "has no PART-HOLD-BACK (RFC 8216bis §4.4.3.8)"
    else:
        bounds.append(("PART-HOLD-BACK", control.part_hold_back, 2 * part_target, "two part targets"))
    for name, value, least, words in bounds:
        if value is not None and not value >= least - TOLERANCE:
            yield f"{name} is {value}, less than {words} (RFC 8216bis §4.4.3.8)"


def part_problems(playlist: m3u8.M3U8) -> Iterator[str]:
    """Find parts of a wrong duration (RFC 8216bis §4.4.4.9), and segments of another one than their parts."""
    limit = playlist.part_inf.part_target if playlist.part_inf else None
    for segment in playlist.segments:
        yield from _sum_problems(segment)
        if limit is not None:
            yield from _length_problems(segment, limit)


def _length_problems(segment: m3u8.Segment, limit: float) -> Iterator[str]:
    for part, following in itertools.zip_longest(segment.parts, segment.parts[1:]):
        if not part.duration <= limit:
            yield f"a part of {part.duration} s is above PART-TARGET {limit} (RFC 8216bis §4.4.4.9)"
        # A part may be short if it is a segment's last, independent, a gap, or followed by a gap.
        within = following is not None and following.gap != "YES"
        excused = part.independent == "YES" or part.gap == "YES"
        if within and not excused and part.duration < SHORTEST_PART * limit:
            yield f"a part of {part.duration} s is below 85 % of PART-TARGET {limit} (RFC 8216bis §4.4.4.9)"


def _sum_problems(segment: m3u8.Segment) -> Iterator[str]:
    total = sum(part.duration for part in segment.parts)
    if segment.uri and segment.parts and not abs(total - segment.duration) <= TOLERANCE:
        name, lasts = segment.uri[:80], segment.duration
        yield f"the parts of {name} last {total:.3f} s, it {lasts:.3f} s (RFC 8216bis §3.2)"
