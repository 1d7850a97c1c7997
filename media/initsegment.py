"""The initialization segment of one track (ISO/IEC 23009-1 §6.3.3, RFC 8216bis §3.1.2): ``ftyp`` + ``moov``.

The sample tables in it are empty, for the samples come in fragments (ISO/IEC 14496-12 §8.8).
"""

from __future__ import annotations

import struct
from fractions import Fraction

from media.isobmff import box, full_box

_HANDLER_NAMES = {b"vide": b"VideoHandler\0", b"soun": b"SoundHandler\0"}
_IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def write_init_segment(
    *,
    track_id: int,
    handler: bytes,
    timescale: int,
    sample_entry: bytes,
    language: str = "und",
    matrix: bytes = _IDENTITY,
    display_size: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0)),
    media_start: int = 0,
) -> bytes:
    """Write the initialization segment of a track.

    Args:
        track_id: what the fragments call the track, not 0.
        handler: ``b"vide"`` or ``b"soun"``.
        timescale: ticks per second of the fragments' times.
        sample_entry: the codec's whole sample entry, which refers to data reference 1.
        language: three letters of ISO 639-2/T.
        matrix: 36 bytes of the track header's matrix, which turns the picture (§8.3.2).
        display_size: width and height in pixels after the sample aspect ratio; zero for sound.
        media_start: composition time at which the presentation begins, in ticks; an edit list says so
            when it isn't 0.

    Returns:
        The segment's bytes.
    """
    video = handler == b"vide"
    tkhd = full_box(
        b"tkhd",
        0,
        7,  # §8.3.2.3: enabled, in the movie, in the preview
        struct.pack(">IIIII8xHHHH", 0, 0, track_id, 0, 0, 0, 0, 0 if video else 0x0100, 0),
        matrix,
        struct.pack(">II", *(round(length * (1 << 16)) for length in display_size)),
    )
    mdhd = full_box(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, timescale, 0, _packed(language), 0))
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), _HANDLER_NAMES[handler])
    media_header = full_box(b"vmhd", 0, 1, bytes(8)) if video else full_box(b"smhd", 0, 0, bytes(4))
    dref = full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1))
    tables = (full_box(b"stts", 0, 0, bytes(4)), full_box(b"stsc", 0, 0, bytes(4)))
    sizes = (full_box(b"stsz", 0, 0, bytes(8)), full_box(b"stco", 0, 0, bytes(4)))
    stsd = full_box(b"stsd", 0, 0, struct.pack(">I", 1), sample_entry)
    minf = box(b"minf", media_header, box(b"dinf", dref), box(b"stbl", stsd, *tables, *sizes))
    trak = box(b"trak", tkhd, _edit(media_start), box(b"mdia", mdhd, hdlr, minf))
    mvhd = full_box(
        b"mvhd",
        0,
        0,
        struct.pack(">IIIIIH10x", 0, 0, timescale, 0, 1 << 16, 0x0100),
        _IDENTITY,
        bytes(24),
        struct.pack(">I", track_id + 1),
    )
    trex = full_box(b"trex", 0, 0, struct.pack(">IIIII", track_id, 1, 0, 0, 0))
    # §8.16.2: iso6 allows what the fragments use: signed offsets, and data offsets from the moof.
    ftyp = box(b"ftyp", b"iso6", bytes(4), b"iso6", b"mp41")
    return ftyp + box(b"moov", mvhd, trak, box(b"mvex", trex))


def _edit(media_start: int) -> bytes:
    """Write an edit list of one edit from a point in the media to their end (§8.6.6: duration 0)."""
    if media_start == 0:
        return b""
    return box(b"edts", full_box(b"elst", 1, 0, struct.pack(">IQqI", 1, 0, media_start, 1 << 16)))


def _packed(language: str) -> int:
    """Pack three lower-case letters into fifteen bits (§8.4.2.3)."""
    first, second, third = (ord(letter) - 0x60 for letter in language)
    return first << 10 | second << 5 | third
