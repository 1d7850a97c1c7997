"""Writes the boxes that describe a movie and its tracks (ISO/IEC 14496-12 §8.2 to §8.6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError
from media.mp4.boxes import box, full_box

IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
"""The matrix that leaves a picture as it is (§8.3.2)."""

_TURNS = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}
"""Cosine and sine of the angles by which pictures are turned."""


def turning_matrix(rotation: int, size: tuple[Fraction, Fraction], *, is_mirrored: bool = False) -> bytes:
    """Write the matrix of a track header that turns the picture, and leaves its corner where it was (§6.2.2).

    Args:
        rotation: degrees clockwise: 0, 90, 180 or 270.
        size: width and height of the picture as shown.
        is_mirrored: whether left and right are exchanged before.
    """
    cosine, sine = _TURNS[rotation]
    a, b, c, d = cosine, sine, -sine, cosine
    if is_mirrored:
        a, b = -a, -b
    corners = [(x, y) for x in (Fraction(0), size[0]) for y in (Fraction(0), size[1])]
    left, top = min(a * x + c * y for x, y in corners), min(b * x + d * y for x, y in corners)
    rows = ((a, b, 0), (c, d, 0))
    fixed = [one << 16 for row in rows for one in row]
    return struct.pack(">9i", *fixed, round(-left * (1 << 16)), round(-top * (1 << 16)), 1 << 30)


_HANDLER_NAMES = {b"vide": b"VideoHandler\0", b"soun": b"SoundHandler\0", b"text": b"TextHandler\0"}
_MEDIA_HEADERS = {
    b"vide": full_box(b"vmhd", 0, 1, bytes(8)),
    b"soun": full_box(b"smhd", 0, 0, bytes(4)),
    b"text": full_box(b"nmhd", 0, 0),
}
"""§8.4.5: the media header box by handler; text has the empty one (§12.5.2)."""


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """The facts from which a track box is written.

    Attributes:
        track_id: not 0, unique in the movie.
        handler: ``b"vide"``, ``b"soun"`` or ``b"text"``.
        timescale: ticks per second of its media.
        sample_entry: the codec's whole sample entry, which refers to data reference 1.
        language: three letters of ISO 639-2/T.
        matrix: 36 bytes of the track header's matrix, which turns the picture (§8.3.2).
        display_size: width and height in pixels after the sample aspect ratio; zero for sound.
    """

    track_id: int
    handler: bytes
    timescale: int
    sample_entry: bytes
    language: str = "und"
    matrix: bytes = IDENTITY
    display_size: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))


def mvhd(timescale: int, duration: int, next_track_id: int) -> bytes:
    """Write a movie header (§8.2.2); the duration is in ticks of the movie's timescale."""
    version, times = _times(">{0}{0}I{0}", 0, 0, timescale, duration)
    fixed = struct.pack(">IH10x", 1 << 16, 0x0100)
    return full_box(b"mvhd", version, 0, times, fixed, IDENTITY, bytes(24), struct.pack(">I", next_track_id))


def trak(
    facts: TrackFacts,
    tables: Sequence[bytes],
    *,
    edits: bytes = b"",
    duration: int = 0,
    media_duration: int = 0,
) -> bytes:
    """Write a track.

    Args:
        tables: the boxes of its sample table behind ``stsd``.
        edits: box of the edit list, or nothing.
        duration: of the presentation, in ticks of the movie's timescale.
        media_duration: of all its samples, in ticks of its own.

    Returns:
        The box.

    Raises:
        MalformedError: the pixel aspect makes the picture larger than a track header can express (§8.3.2).
    """
    shown = [round(length * (1 << 16)) for length in facts.display_size]
    if max(shown) >= 1 << 32:
        raise MalformedError(f"a picture shown at {' x '.join(str(side >> 16) for side in shown)} pixels")
    version, times = _times(">{0}{0}II{0}", 0, 0, facts.track_id, 0, duration)
    tkhd = full_box(
        b"tkhd",
        version,
        7,  # §8.3.2.3: enabled, in the movie, in the preview
        times,
        struct.pack(">8xHHHH", 0, 0, 0x0100 if facts.handler == b"soun" else 0, 0),
        facts.matrix,
        struct.pack(">II", *shown),
    )
    version, times = _times(">{0}{0}I{0}", 0, 0, facts.timescale, media_duration)
    mdhd = full_box(b"mdhd", version, 0, times, struct.pack(">HH", _packed(facts.language), 0))
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), facts.handler, bytes(12), _HANDLER_NAMES[facts.handler])
    media_header = _MEDIA_HEADERS[facts.handler]
    dref = full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1))
    stsd = full_box(b"stsd", 0, 0, struct.pack(">I", 1), facts.sample_entry)
    minf = box(b"minf", media_header, box(b"dinf", dref), box(b"stbl", stsd, *tables))
    return box(b"trak", tkhd, edits, box(b"mdia", mdhd, hdlr, minf))


def edit_list(edits: Sequence[tuple[int, int]]) -> bytes:
    """Write an edit list (§8.6.6).

    Args:
        edits: pairs of the duration in ticks of the movie's timescale, 0 for up to the end, and the start in
            the media in ticks of the media's timescale, -1 for an empty edit.
    """
    entries = b"".join(struct.pack(">QqI", duration, start, 1 << 16) for duration, start in edits)
    return box(b"edts", full_box(b"elst", 1, 0, struct.pack(">I", len(edits)), entries))


def _times(layout: str, *values: int) -> tuple[int, bytes]:
    """Pack fields whose times, at ``{0}``, take 64 bits in version 1, else 32; return version and fields."""
    version = int(max(values) >= 1 << 32)
    return version, struct.pack(layout.format("Q" if version else "I"), *values)


def _packed(language: str) -> int:
    """Pack three lower-case letters into fifteen bits (§8.4.2.3)."""
    first, second, third = (ord(letter) - 0x60 for letter in language)
    return first << 10 | second << 5 | third
