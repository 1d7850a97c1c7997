"""The order in which pictures with bidirectional prediction are presented.

Decoders present a B picture at once, and any other picture when the next one of these is decoded
(ISO/IEC 13818-2 §6.1.1.11, ISO/IEC 14496-2 §6.1.3.7).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from media.mp4.movie.box_arrays import Int64


def presentation_order(is_bidirectional: NDArray[np.bool_]) -> Int64:
    """Return the place of each picture in the order of presentation.

    Args:
        is_bidirectional: whether each picture is a B picture, in the order of decoding.
    """
    count = len(is_bidirectional)
    places = np.arange(-1, count - 1, dtype=np.int64)
    anchors = np.flatnonzero(~is_bidirectional)
    # B pictures before the first other picture have nothing that they wait for.
    places[: anchors[0] if len(anchors) else count] += 1
    places[anchors] = np.append(anchors[1:], count) - 1
    return places


def presentation_times(
    order: Int64, times: Int64, known: NDArray[np.bool_], fields: Int64, ticks_per_field: Fraction
) -> Int64:
    """Return the presentation time of each picture, where the stream has those of some.

    Args:
        order: place of each in the order of presentation.
        times: presentation times in ticks.
        known: which of the times the stream has.
        fields: for how many fields each is shown.
    """
    if known.all():
        return times
    shown = np.argsort(order, kind="stable")
    elapsed = np.cumsum(fields[shown]) - fields[shown]
    elapsed = elapsed * ticks_per_field.numerator // ticks_per_field.denominator
    given = np.flatnonzero(known[shown])
    if not len(given):
        given = np.zeros(1, np.int64)
    # The last time before each picture counts; before the first one, the first does.
    reference = given[np.maximum(np.searchsorted(given, np.arange(len(shown)), "right") - 1, 0)]
    rising = np.maximum.accumulate(times[shown][reference] + elapsed - elapsed[reference])
    found = np.empty_like(times)
    found[shown] = rising
    return found
