"""Recordings of a channel that have no media: enough for lists."""

from __future__ import annotations

from pathlib import Path

from packager.recordings.metadata import RecordingMetadata, encode


def make_recordings(place: Path, number: int) -> None:
    for serial in range(number):
        name = f"20260101T{serial // 3600:02}{serial // 60 % 60:02}{serial % 60:02}Z"
        start = 1_767_225_600.0 + serial
        one = RecordingMetadata(name, start, start + 1, 1.0, 1000, serial, serial, ())
        (place / name).mkdir(parents=True)
        (place / name / "recording").write_bytes(encode(one))
