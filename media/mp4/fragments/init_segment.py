"""The initialization segment of one track (ISO/IEC 23009-1 §6.3.3, RFC 8216bis §3.1.2): ``ftyp`` + ``moov``.

The sample tables in it are empty, for the samples come in fragments (ISO/IEC 14496-12 §8.8).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from media.mp4.boxes import box, full_box
from media.mp4.movie.track_box import TrackFacts, edit_list, mvhd, trak


def write_init_segment(facts: TrackFacts, *, media_start: int = 0, brands: Sequence[bytes] = ()) -> bytes:
    """Write the initialization segment of a track.

    Args:
        facts: the fragments use the same track ID and timescale.
        media_start: composition time at which the presentation begins, in ticks; written as an edit list
            if it isn't 0.

    Returns:
        The segment's bytes.
    """
    empty = (full_box(b"stts", 0, 0, bytes(4)), full_box(b"stsc", 0, 0, bytes(4)))
    sizes = (full_box(b"stsz", 0, 0, bytes(8)), full_box(b"stco", 0, 0, bytes(4)))
    # §8.6.6: one edit from a point in the media to their end
    edits = edit_list([(0, media_start)]) if media_start else b""
    trex = full_box(b"trex", 0, 0, struct.pack(">IIIII", facts.track_id, 1, 0, 0, 0))
    # §8.16.2: iso6 allows what the fragments use: signed offsets, and data offsets from the moof.
    ftyp = box(b"ftyp", b"iso6", bytes(4), b"iso6", b"mp41", *brands)
    track = trak(facts, (*empty, *sizes), edits=edits)
    return ftyp + box(b"moov", mvhd(facts.timescale, 0, facts.track_id + 1), track, box(b"mvex", trex))
