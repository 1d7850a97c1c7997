"""What cuts the renditions of one run of a source: by the clock's grid, or at the source's own key frames."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from packager.live.keyed import Cuts, KeyedSegmenter
from packager.live.ladder import Cadence
from packager.live.segmenter import Cutter, Segmenter


def cutters(cadence: Cadence, start: Fraction, count: int) -> list[Callable[[int], Cutter]]:
    """Give what makes the cutter of each rendition, once its timescale is known.

    Args:
        cadence: the channel's.
        start: media time in seconds at which the run's first segment begins, where nothing is kept.
        count: how many renditions there are; where the source's key frames count, the first one has them.
    """
    if cadence.longest is None:
        return [lambda timescale: _steady(cadence, start, timescale)] * count
    cuts = Cuts(cadence.segment_duration, cadence.longest)

    def keyed(timescale: int, *, leads: bool = False) -> Cutter:
        return KeyedSegmenter(timescale=timescale, part_target=cadence.part_target, cuts=cuts, leads=leads)

    return [lambda timescale: keyed(timescale, leads=True), *[keyed] * (count - 1)]


def _steady(cadence: Cadence, start: Fraction, timescale: int) -> Cutter:
    return Segmenter(
        timescale=timescale,
        origin=start,
        segment_duration=cadence.segment_duration,
        part_target=cadence.part_target,
    )
