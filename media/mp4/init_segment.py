"""The initialization segment of one track (ISO/IEC 23009-1 §6.3.3, RFC 8216bis §3.1.2): ``ftyp`` + ``moov``.

The sample tables in it are empty, for the samples come in fragments (ISO/IEC 14496-12 §8.8).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

from media.mp4.boxes import box, full_box
from media.mp4.track_box import IDENTITY, TrackFacts, edit_list, mvhd, trak


def write_init_segment(
    *,
    track_id: int,
    handler: bytes,
    timescale: int,
    sample_entry: bytes,
    language: str = "und",
    matrix: bytes = IDENTITY,
    display_size: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0)),
    media_start: int = 0,
    brands: Sequence[bytes] = (),
) -> bytes:
    """Write the initialization segment of a track.

    Args:
        track_id: what the fragments call the track, not 0.
        handler: ``b"vide"``, ``b"soun"`` or ``b"text"``.
        timescale: ticks per second of the fragments' times.
        sample_entry: the codec's whole sample entry, which refers to data reference 1.
        language: three letters of ISO 639-2/T.
        matrix: 36 bytes of the track header's matrix, which turns the picture (§8.3.2).
        display_size: width and height in pixels after the sample aspect ratio; zero for sound.
        media_start: composition time at which the presentation begins, in ticks; an edit list says so
            when it isn't 0.
        brands: further compatible brands.

    Returns:
        The segment's bytes.
    """
    facts = TrackFacts(track_id, handler, timescale, sample_entry, language, matrix, display_size)
    empty = (full_box(b"stts", 0, 0, bytes(4)), full_box(b"stsc", 0, 0, bytes(4)))
    sizes = (full_box(b"stsz", 0, 0, bytes(8)), full_box(b"stco", 0, 0, bytes(4)))
    # §8.6.6: one edit from a point in the media to their end
    edits = edit_list([(0, media_start)]) if media_start else b""
    trex = full_box(b"trex", 0, 0, struct.pack(">IIIII", track_id, 1, 0, 0, 0))
    # §8.16.2: iso6 allows what the fragments use: signed offsets, and data offsets from the moof.
    ftyp = box(b"ftyp", b"iso6", bytes(4), b"iso6", b"mp41", *brands)
    track = trak(facts, (*empty, *sizes), edits=edits)
    return ftyp + box(b"moov", mvhd(timescale, 0, track_id + 1), track, box(b"mvex", trex))
