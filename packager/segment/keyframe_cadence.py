"""The cadence of a channel that is cut at its source's own key frames, from the pattern of these."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from packager.segment.keyframe_segmenter import Cuts
from packager.window.cadence import SHORTEST_PART, Cadence, part_target, whole_frames

LONGEST_GROUP = Fraction(10)
"""Longest assumed distance of key frames in seconds, which is also assumed where too few were seen."""

VARYING = Fraction(5, 4)
"""From which multiple of the mean on frames' durations vary, beyond what containers round times to."""

SLOW_PICTURE = Fraction(1, 2)
"""Seconds from which on a picture is shown for long, as its rate is then more than what ffprobe reckons."""

LATEST_KEY = Fraction(1, 10)
"""Seconds by which a regular key frame may come later than those that were seen."""

LOOPS = 4
"""How often a file's key frames are gone through to see what its seam does to segments."""

SLACK = Fraction(1, 1000)
"""Seconds by which a part may be longer than its frames, for many containers round to milliseconds."""

AUDIO_FRAME = Fraction(1024, 48_000)
"""Seconds of a frame of the sound that is made where a source has none that can be copied."""


@dataclass(frozen=True, slots=True)
class KeyframePattern:
    """Key frames and frame durations at the beginning of a source, in seconds.

    Attributes:
        keys: the presentation times of its key frames, in order.
        audio_frame: duration of a frame of its sound.
        picture_frame: longest duration of nine of ten pictures; 0 where too few were seen.
        loop: length of a source that repeats; None where it doesn't, or wasn't seen to its end.
    """

    keys: tuple[Fraction, ...]
    audio_frame: Fraction = AUDIO_FRAME
    loop: Fraction | None = None
    picture_frame: Fraction = Fraction(0)


def observe_keyframes(
    packets: Iterable[Mapping[str, Any]], video: int, audio: int | None, loop: Fraction | None = None
) -> KeyframePattern:
    """Read the key frame pattern out of ffprobe's list of a source's first packets.

    Args:
        packets: with ``stream_index``, ``pts_time``, ``duration_time`` and ``flags``.
        audio: index of the sound, where it is copied.
    """
    keys: list[Fraction] = []
    frames: list[Fraction] = []
    shown: list[Fraction] = []
    for packet in packets:
        if packet.get("stream_index") == video and "K" in packet.get("flags", "") and "pts_time" in packet:
            keys.append(Fraction(packet["pts_time"]))
        if packet.get("stream_index") == video and "pts_time" in packet:
            shown.append(Fraction(packet["pts_time"]))
        if packet.get("stream_index") == audio and "pts_time" in packet:
            frames.append(Fraction(packet["pts_time"]))
    steps = sorted(after - before for before, after in itertools.pairwise(frames))
    frame = steps[len(steps) // 2] if steps else AUDIO_FRAME
    lasts = sorted(after - before for before, after in itertools.pairwise(sorted(shown)))
    usual = lasts[len(lasts) // 2] if lasts else Fraction(0)
    return KeyframePattern(
        tuple(sorted(keys)),
        frame if frame > 0 else AUDIO_FRAME,
        loop,
        picture_frame=usual if usual >= SLOW_PICTURE else Fraction(0),
    )


def keyframe_cadence(
    seen: KeyframePattern,
    frame_rate: Fraction,
    segment_duration: float,
    part_duration: float,
    *,
    noted: Cadence | None = None,
) -> Cadence:
    """Choose the cadence of a channel that is cut at its source's key frames.

    Args:
        frame_rate: frames per second.
        segment_duration: wanted seconds; groups of pictures of equal length are joined to about that.
        part_duration: wanted seconds.
        noted: the cadence of the channel's earlier segments, which stays as long as it fits: a source with
            irregular key frames looks different each time.
    """
    wanted = Fraction(segment_duration).limit_denominator(1000)
    part = Fraction(part_duration).limit_denominator(1000)
    target = part_target(part, [1 / frame_rate, seen.audio_frame], SLACK)
    varies = seen.picture_frame > VARYING / frame_rate
    if varies:
        # §4.4.4.9: a part ends up to one frame before its target, and has 85 % of it all the same.
        needed = Fraction(math.ceil(1000 * seen.picture_frame / (1 - SHORTEST_PART)), 1000)
        target = max(target, min(needed, 2 * part))
    times = Cadence(
        frame_rate=frame_rate,
        segment_duration=whole_frames(wanted, frame_rate),
        part_target=target,
        target_duration=1,
        regular=False,
    )
    groups = [after - before for before, after in itertools.pairwise(seen.keys)]
    longest = times.segment_duration + min(max(groups, default=LONGEST_GROUP), LONGEST_GROUP)
    irregular = _bounded(times, longest, seen)
    if noted is not None and _fits(irregular, noted, seen):
        return noted
    if not groups or max(groups) - min(groups) > Fraction(3, 2) / frame_rate:
        return irregular
    group = whole_frames((seen.keys[-1] - seen.keys[0]) / len(groups), frame_rate)
    segment = group * max(round(wanted / group), 1)
    regular = replace(times, segment_duration=segment, regular=True)
    if segment > group and not varies:
        filling = _filling(part, int(group * frame_rate), frame_rate, seen.audio_frame)
        regular = replace(regular, part_target=filling or target)
    # A frame of a slow source would be as long as a segment.
    late = min(1 / frame_rate, max(groups) - min(groups) + LATEST_KEY)
    return _bounded(regular, segment + late, seen)


def can_be_cut(seen: KeyframePattern, times: Cadence) -> bool:
    """Return whether a stream fits another stream's cadence if its key frames go on as they were seen."""
    groups = [after - before for before, after in itertools.pairwise(seen.keys)]
    if not groups or times.longest is None:
        return False
    turn = seen.keys[-1] - seen.keys[0] + max(groups)
    return _simulated(seen, turn, times.segment_duration) <= times.longest


def _filling(wanted: Fraction, group: int, frame_rate: Fraction, audio_frame: Fraction) -> Fraction | None:
    """Choose a part target whose parts fill groups of pictures, for each of these begins a part.

    Args:
        wanted: seconds.
        group: frames of a group of pictures.
        frame_rate: frames per second.
        audio_frame: seconds of a frame of the sound.

    Returns:
        Seconds, not more than twice or less than half of what is wanted; None where there is no such target.
    """
    fitting = []
    for frames in range(1, group + 1):
        longest = Fraction(math.ceil(1000 * frames / frame_rate), 1000)
        target = longest + SLACK
        last, sound = (group % frames or frames) / frame_rate, longest // audio_frame * audio_frame
        # §4.4.4.9: a group's last part isn't its segment's last; of sound no part is short.
        if min(last, sound) >= SHORTEST_PART * target and wanted / 2 <= longest <= 2 * wanted:
            fitting.append(target)
    return min(fitting, key=lambda target: abs(target - wanted), default=None)


def _bounded(times: Cadence, longest: Fraction, seen: KeyframePattern) -> Cadence:
    """Return times the target duration that segments of up to so many seconds need."""
    segment = times.segment_duration
    if seen.loop is not None:
        longest = max(_simulated(seen, seen.loop, segment), segment + 1 / times.frame_rate)
    longest = min(longest, segment + LONGEST_GROUP)
    # §4.4.3.1: EXTINF rounded to the nearest integer is bounded; sound may be a frame longer at either end.
    return _within(times, max(math.floor(longest + 2 * seen.audio_frame + Fraction(1, 2)), 1), seen)


def _within(times: Cadence, target_duration: int, seen: KeyframePattern) -> Cadence:
    longest = target_duration + Fraction(1, 2) - seen.audio_frame - SLACK
    return replace(times, target_duration=target_duration, longest=longest)


def _fits(irregular: Cadence, noted: Cadence, seen: KeyframePattern) -> bool:
    """Return whether a cadence is what irregular key frames need, or more than that."""
    enough = irregular.target_duration <= noted.target_duration
    return enough and noted == _within(irregular, noted.target_duration, seen)


def _simulated(seen: KeyframePattern, loop: Fraction, segment_duration: Fraction) -> Fraction:
    """Return the longest segment of a file in a loop."""
    cuts, starts = Cuts(segment_duration, LONGEST_GROUP), list[Fraction]()
    for turn, key in itertools.product(range(LOOPS), seen.keys):
        if cuts.due(key + turn * loop):
            starts.append(cuts.open(key + turn * loop).start)
    return max((after - before for before, after in itertools.pairwise(starts)), default=LONGEST_GROUP)
