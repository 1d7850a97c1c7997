"""Windows with segments, and their playlists."""

from __future__ import annotations

from fractions import Fraction

from media.mp4.codecs.sample_entry import SampleEntry
from packager.window.cadence import cadence
from packager.window.model import LivePart
from packager.window.window import Window

VIDEO = SampleEntry(b"avc1", "avc1.42c01f", b"", (), width=1280, height=720)

SOUND = SampleEntry(b"mp4a", "mp4a.40.2", b"", (), channels=2, sample_rate=48000)

CADENCE = cadence(Fraction(30), 2.0, 0.333)

START = 1_795_000_000


def publish(window: Window, parts: int) -> None:
    """Add parts of a third of a second; six make a segment."""
    for _ in range(parts):
        number, index = window.next_part
        window.append(
            LivePart(bytes(1000), Fraction(1, 3), index == 0),
            Fraction(START + 2 * number) + Fraction(index, 3),
            ends_segment=index == 5,
        )
