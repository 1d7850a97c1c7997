"""Reads samples of timed text in MP4 (3GPP TS 26.245, ``tx3g``; QuickTime's ``text``) as text of WebVTT."""

from __future__ import annotations

import struct

from media.errors import MalformedError, TooLargeError
from media.mp4.boxes import walk
from media.subtitles.webvtt import face_tags, without_empty_lines

SAMPLE_ENTRIES = (b"tx3g", b"text")

ALL_FORCED = 0x80000000
"""Flag of a sample entry: all samples are forced subtitles (QuickTime, "Subtitle media")."""

MAX_STYLES = 256
"""Most style records of a sample that are read."""

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_STYLE = struct.Struct(">HHHBB4s")


def plain_text(sample: bytes) -> str:
    """Read the text of a sample (§5.17): a length, and so many bytes of UTF-8, or of UTF-16 with its mark.

    Raises:
        MalformedError: the sample is too short.
    """
    length = int.from_bytes(sample[:2], "big")
    text = sample[2 : 2 + length]
    if len(sample) < 2 or len(text) < length:
        raise MalformedError(f"a sample of text of {len(sample)} bytes is cut off")
    if text[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return text.decode("utf-16", "replace")
    return text.decode("utf-8", "replace")


def cue_text(sample: bytes) -> str:
    """Convert a sample to a cue's text, with bold, italic and underlined words; empty if nothing is shown.

    Raises:
        MalformedError: the sample is too short.
    """
    text = plain_text(sample)
    faces = _faces(sample, 2 + int.from_bytes(sample[:2], "big"), len(text))
    pieces: list[str] = []
    now = 0
    for at, character in enumerate(text):
        if faces[at] != now:
            pieces.append(face_tags(now, faces[at]))
            now = faces[at]
        pieces.append(_ESCAPES.get(character, character))
    pieces.append(face_tags(now, 0))
    return without_empty_lines("".join(pieces))


def all_forced(entry: bytes) -> bool:
    """Return whether a ``tx3g`` sample entry's display flags say that all its text is forced."""
    return bool(int.from_bytes(entry[16:20], "big") & ALL_FORCED)


def _faces(sample: bytes, start: int, length: int) -> list[int]:
    """Return each character's face by the sample's style records (§5.17.1.1), of which later ones count."""
    faces = [0] * length
    try:
        boxes = [one for one in walk(sample, start) if one.kind == b"styl"]
    except (MalformedError, TooLargeError):  # the boxes behind the text only have styles
        boxes = []
    for one in boxes[:1]:
        for at in range(one.payload + 2, one.end - _STYLE.size + 1, _STYLE.size)[:MAX_STYLES]:
            first, end, _, face, _, _ = _STYLE.unpack_from(sample, at)
            faces[first:end] = [face & 7] * len(faces[first:end])
    return faces
