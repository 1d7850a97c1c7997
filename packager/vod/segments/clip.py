"""Cuts clips: a clip is a stretch of a film with playlists of its own, made of the whole film's segments.

The segments are the film's, at the film's addresses, so that caches have them once; but the first and the
last one are trimmed. Decoding begins at a key frame, which may be seconds before the clip: the pictures from
there on last one tick each, since players don't agree on edit lists, on EXT-X-START and on media before a
period, but all of them play such short pictures.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from media.mp4.movie.sample_table import Samples
from packager.vod.index.file_index import SAMPLE_BYTES, FileIndex, OfferedTrack
from packager.vod.segments.held_pictures import quickened, segment_samples

_SECONDS = re.compile(r"([0-9]{1,20})(\.[0-9]{0,9})?")
_TIMECODE = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{0,9})?)")


class ClipError(ValueError):
    """The requested times are no clip of the film; the text is one line with the reason."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of a film, from one time to another in seconds.

    Attributes:
        start: at which it begins.
        end: at which it ends; None: where the film does.
        subtitles: number of the subtitles that are in its pictures, from 1 on; 0: none are.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    subtitles: int = 0

    @property
    def query(self) -> str:
        """The query of the addresses of a clip's playlists, the same for all ways to write its times."""
        told = f"?start={_decimal(self.start)}"
        told += "" if self.end is None else f"&end={_decimal(self.end)}"
        return f"{told}&burn={self.subtitles}" if self.subtitles else told


WHOLE = Clip()
"""All of a film."""


def read_clip(start: str | None, end: str | None, burn: str | None = None) -> Clip:
    """Read a clip's times: seconds, ``MM:SS`` or ``HH:MM:SS``, all with fractions of up to nine digits.

    Raises:
        ClipError: one of them is no time, or the end isn't behind the start.
    """
    clip = Clip(
        Fraction(0) if start is None else _seconds("start", start),
        None if end is None else _seconds("end", end),
        0 if burn is None else _subtitles(burn),
    )
    if clip.end is not None and clip.end <= clip.start:
        raise ClipError("a clip's end is behind its start")
    return clip


def _subtitles(told: str) -> int:
    if re.fullmatch("[1-9]", told) is None:
        raise ClipError("burn isn't the number of subtitles")
    return int(told)


def _seconds(name: str, told: str) -> Fraction:
    if _SECONDS.fullmatch(told):
        return Fraction(told.rstrip("."))
    timecode = _TIMECODE.fullmatch(told)
    if timecode is None:
        raise ClipError(f"{name} isn't a time: write seconds (90.5) or a timecode (00:01:30.500)")
    hours, minutes, seconds = timecode[1] or "0", int(timecode[2]), Fraction(timecode[3].rstrip("."))
    if minutes >= 60 or seconds >= 60:
        raise ClipError(f"{name} isn't a time: a timecode's minutes and seconds are below 60")
    return 3600 * int(hours) + 60 * minutes + seconds


def _decimal(seconds: Fraction) -> str:
    """Write seconds without rounding: they have nine decimals at most."""
    whole, rest = divmod(round(seconds * 10**9), 10**9)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def clipped(index: FileIndex, clip: Clip) -> FileIndex:
    """Return a film's tracks within a clip, without those that have nothing there.

    Raises:
        ClipError: the clip begins behind the film's end.
    """
    if clip == WHOLE:
        return index
    whole = index
    if clip.subtitles:
        index = index.with_subtitles(clip.subtitles)
    origin, tracks = clip.start, list[OfferedTrack]()
    left_out = list(index.left_out)
    encoded = list[OfferedTrack]()
    for track in (*index.tracks, *index.encoded):
        begin = math.floor(origin * track.timescale) if track.video else math.ceil(origin * track.timescale)
        end = None if clip.end is None else math.ceil(clip.end * track.timescale)
        found = _clipped_track(track, begin, end)
        if found is None:
            left_out.append(f"{track.name}: it has nothing from {_decimal(clip.start)} s on")
            continue
        if track.video:
            # Pictures that are shown for a tick before the first one are within the clip, for all tracks.
            origin = min(origin, Fraction(int(found.times[0]), track.timescale))
        (encoded if track.is_encoded else tracks).append(_placed(track, found, origin, clip.query))
    if not tracks and not encoded:
        lasts = f"{float(index.duration):.3f}"
        raise ClipError(f"a clip from {_decimal(clip.start)} s on, where the film lasts {lasts} s")
    until = max(Fraction(int(track.times[-1]), track.timescale) for track in (*tracks, *encoded))
    text = whole.text.clipped(origin, until, clip.query)
    return replace(
        index, tracks=tuple(tracks), encoded=tuple(encoded), left_out=tuple(left_out), clipped_text=text
    )


def shown_bounds(track: OfferedTrack, clip: Clip) -> tuple[int, int]:
    """Return the bounds of a clip in its video track, without pictures that only others depend on.

    Returns:
        Two times in ticks, the second one behind the first.
    """
    begin, end = track.times[[0, -1]].tolist()
    return max(begin, math.floor(clip.start * track.timescale)), end


def _placed(track: OfferedTrack, found: OfferedTrack, origin: Fraction, query: str) -> OfferedTrack:
    """Return a clip's track with its beginning on the clip's own timeline."""
    begin = math.floor(origin * track.timescale)
    whole = found.segment_names[0] == "0"
    delay = track.delay if whole and origin == 0 else max(0, int(found.times[0]) - begin)
    return replace(found, begin=begin, delay=delay, query=query)


def _clipped_track(track: OfferedTrack, begin: int, end: int | None) -> OfferedTrack | None:
    """Return the segments from a time up to another, in ticks; None where there are none."""
    times = track.times
    end = int(times[-1]) if end is None else min(end, int(times[-1]))
    # Encoded sound is cut between frames.
    begin, end = begin - begin % track.unit, end - end % track.unit
    if begin >= end:
        return None
    first = max(0, int(np.searchsorted(times, begin, "right")) - 1)
    last = max(first, int(np.searchsorted(times, end)) - 1)
    names = {number: str(number) for number in range(first, last + 1)}
    begins = dict(zip(names, times[first : last + 1].tolist(), strict=True))
    sizes = dict(zip(names, track.sizes[first : last + 1].tolist(), strict=True))
    for number in dict.fromkeys((first, last)):
        whole = int(times[number]), int(times[number + 1])
        bounds = max(begin, whole[0]), min(end, whole[1])
        if bounds == whole:
            continue
        if track.is_encoded:
            names[number] = f"{number}-{bounds[0]}-{bounds[1]}"
            begins[number] = bounds[0]
            continue
        trimmed = trim(track, segment_samples(track, number), *bounds)
        if trimmed is None:  # between two frames of sound there is nothing
            del names[number]
        elif (trimmed.begin, bounds[1]) != whole:
            # Named by its content, so that all moments of one picture give one address.
            names[number] = f"{number}-{trimmed.begin}-{bounds[1]}"
            sizes[number] = int(trimmed.samples.size.sum()) + SAMPLE_BYTES * len(trimmed.samples)
            begins[number] = max(begins[number], trimmed.earliest)
    within = np.array([*(begins[number] for number in names), end], np.int64)
    if within[-1] <= within[0]:
        return None
    return replace(
        track,
        names=tuple(names.values()),
        times=within,
        sizes=np.array([sizes[number] for number in names], np.int64),
        cuts=track.cuts[min(names) : max(names) + 2],
    )


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Samples of a segment from a time up to another.

    Attributes:
        samples: the samples, and before a picture those that it needs.
        begin: when the first one that was asked for begins, in ticks.
        earliest: when the earliest one of all is presented.
    """

    samples: Samples
    begin: int
    earliest: int


def trim(track: OfferedTrack, samples: Samples, begin: int, end: int) -> Trimmed | None:
    """Remove the samples of a segment that a clip doesn't need.

    Args:
        track: the track of the samples.
        begin: when the clip begins, in ticks of the presentation: with the picture that is shown then, or
            with the first sound that begins then or later.

    Returns:
        The remaining samples; None without any.
    """
    times = samples.composition_time - track.samples.start
    stop = _last(times < end) + 1
    if not track.video:
        wanted = np.flatnonzero((times[:stop] >= begin) & samples.is_sync[:stop])
        if not len(wanted):
            return None
        start = int(wanted[0])
        return Trimmed(samples.part(start, stop), int(times[start]), int(times[start:stop].min()))
    if not stop:
        return None
    samples, times = samples.part(0, stop), times[:stop]
    shown = times[times <= begin]
    first = int(shown.max() if len(shown) else times.min())
    quick = quickened(samples, times, (first, end), track.samples.start, int(samples.decode_time[-1]))
    return Trimmed(quick, first, int((quick.composition_time - track.samples.start).min()))


def _last(wanted: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int:
    found = np.flatnonzero(wanted)
    return int(found[-1]) if len(found) else -1
