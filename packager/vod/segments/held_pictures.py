"""Samples of segments within whose time a picture stands still.

The parts of a stretch between two key frames have the same first sample. Each begins with that key frame and
what else the picture depends on, for a tick each, and then shows the picture itself.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.sample_table import Samples
from packager.vod.index.file_index import OfferedTrack
from packager.vod.index.still_pictures import LATEST_DECODING, REPEATED_FRAMES, stands_still
from packager.vod.movie.decode_times import decode_times_in_turn


def segment_samples(track: OfferedTrack, number: int) -> Samples:
    """Return the samples of a segment, of a part of a stretch those that it takes.

    Behind a picture that stands still some files decode before it, by as long as it stands: players place
    segments by their decode times, so these begin with the presentation.
    """
    start, stop = track.stretch(number)
    samples = track.samples.samples(start, stop)
    until = int(samples.decode_time[-1])
    is_part, lag = track.is_part(number), LATEST_DECODING * track.timescale
    if not is_part and not (track.video and samples.composition_offset[0] - track.samples.start > lag):
        return samples
    begin, end = track.times[number : number + 2].tolist()
    times = samples.composition_time - track.samples.start
    is_last = int(track.cuts[number + 1]) == stop
    if is_last:
        end = max(end, int(times.max()) + 1)
    else:
        count = int(np.flatnonzero(times < end)[-1]) + 1
        samples, times = samples.part(0, count), times[:count]
    start_time, first = track.samples.start, int(times.min())
    is_followed = is_last and not (track.samples.is_held and number == len(track.cuts) - 2)
    if number and int(track.cuts[number - 1]) == start:
        # Leading pictures of the key frame can't be decoded behind another one, and none needs them.
        kept = times >= times[0]
        samples, times = _chosen(samples, kept), times[kept]
        # Of damaged times, the first picture is the nearest.
        held = int(times[times <= begin].max(initial=times.min()))
        later = times[(times > held) & (times < end)]
        following = int(later.min()) if len(later) else end
        # Pictures that are decoded before the next one take a tick each.
        stays = following - (int((times <= held).sum()) + 1 if len(later) else 0)
        groups = _standing(samples, times, (held, begin, stays), start_time)
        if len(later):
            groups.append(quickened(samples, times, (following, end), start_time, None))
        return _joined(groups)
    shown = np.unique(times[times < end])
    held = int(shown[-1])
    usual = held - int(shown[-2]) if len(shown) > 1 else 0
    is_still = is_part and stands_still(track.samples, end - held, track.timescale)
    if is_still and (usual == 0 or usual < lag):
        groups = [quickened(samples, times, (first, held + usual), start_time, None)] if usual else []
        return _joined([*groups, *_standing(samples, times, (held, held + usual, end), start_time)])
    quick = is_followed and until >= end - lag
    return quickened(samples, times, (first, end), start_time, until if quick else None)


def _standing(samples: Samples, times: Int64, span: tuple[int, int, int], start: int) -> list[Samples]:
    """Return the samples that a picture depends on, for a tick each, and the picture itself.

    Few samples are repeated, since decoders give out a picture only when they have some behind it.

    Args:
        times: when the samples are presented.
        span: time of the picture among these, and when it is to be presented from and until.
        start: composition time at which the presentation begins.
    """
    held, begin, end = span
    # Samples that are decoded behind the picture aren't needed for it.
    count = int(np.flatnonzero(times == held)[0]) + 1
    samples, times = samples.part(0, count), times[:count]
    kept = times >= times[0]
    samples, times = _chosen(samples, kept), times[kept]
    copies = max(1, min(-(-REPEATED_FRAMES // len(times)), (end - begin) // (2 * len(times))))
    bounds = [begin + (end - begin) * number // copies for number in range(copies + 1)]
    ranks = _ranks(times)
    late = times > held
    groups: list[Samples] = []
    for first, behind in pairwise(bounds):
        placed = np.where(late, behind + ranks, first + ranks)
        groups.append(quickened(samples, placed, (first + int(ranks[-1]), behind), start, None))
    return groups


def _joined(groups: list[Samples]) -> Samples:
    """Return the samples of several groups that follow each other."""
    decode_time = np.concatenate([*(one.decode_time[:-1] for one in groups), groups[-1].decode_time[-1:]])
    shown = np.concatenate([one.composition_time for one in groups])
    # A group may be decoded a little before the one in front of it ends: decode times don't go back.
    ticks = np.arange(len(decode_time))
    decode_time = np.minimum.accumulate((decode_time - ticks)[::-1])[::-1] + ticks
    decode_time = np.maximum(decode_time, ticks)
    return Samples(
        np.concatenate([one.offset for one in groups]),
        np.concatenate([one.size for one in groups]),
        decode_time,
        shown - decode_time[:-1],
        np.concatenate([one.is_sync for one in groups]),
    )


def _chosen(samples: Samples, kept: NDArray[np.bool_]) -> Samples:
    """Return some of the samples, whose decode times aren't right any more."""
    return Samples(
        samples.offset[kept],
        samples.size[kept],
        samples.decode_time[np.append(kept, True)],
        samples.composition_offset[kept],
        samples.is_sync[kept],
    )


def quickened(
    samples: Samples, times: Int64, span: tuple[int, int], start: int, until: int | None
) -> Samples:
    """Shorten pictures to a tick that only others depend on: those before a span and behind it.

    The order of presentation stays, and all are shown before the end. A track whose ticks are whole pictures
    is unchanged.

    Args:
        times: when the samples are to be presented, in ticks of the presentation.
        span: when the first picture that is shown begins, and when the last one ends.
        start: composition time at which the presentation begins.
        until: decode time at which their decoding ends at the latest; None: with the span.
    """
    first, end = span
    early, late = times < first, times >= end
    shown = times.copy()
    shown[early] = first - int(early.sum()) + _ranks(times[early])
    if late.any():
        # Behind those before them, also where a damaged film has a span without any.
        others = int(times[~late].max(initial=first - 1)) + 1
        shown[late] = max(end - int(late.sum()), others) + _ranks(times[late])
    decode_time = decode_times_in_turn(shown, max(end, int(shown.max()) + 1))
    # Not behind what is decoded in the next segment, and not after it is presented.
    if until is not None:
        decode_time = np.minimum(decode_time, until - np.arange(len(decode_time))[::-1])
    decode_time -= max(0, int((decode_time[:-1] - shown - start).max()))
    decode_time = np.maximum(decode_time, np.arange(len(decode_time)))
    return replace(samples, decode_time=decode_time, composition_offset=shown + start - decode_time[:-1])


def _ranks(times: Int64) -> Int64:
    """Return the rank of each time among all times, from 0."""
    ranks = np.empty(len(times), np.int64)
    ranks[np.argsort(times, kind="stable")] = np.arange(len(times))
    return ranks
