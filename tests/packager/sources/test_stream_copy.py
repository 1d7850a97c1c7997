"""What is seen of a stream before it is copied: how many of its first pictures are needed for that."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from media.flv.flv_to_fragments import FlvToFragments
from packager.sources.limits import SourceLimits
from packager.sources.source import Source
from packager.sources.stream_copy import SeenStream

NTSC = Fraction(30_000, 1001)
CODING = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac"


def seen_of(folder: Path, coding: str, rate: Fraction | int = 25) -> tuple[Source | None, int]:
    """Look at a stream that ffmpeg makes until enough is seen; give what it is, and its key frames so far."""
    inputs = f"-f lavfi -i testsrc2=size=160x120:rate={rate} -f lavfi -i sine=440:sample_rate=48000"
    made = folder / "stream.flv"
    subprocess.run(["ffmpeg", *f"-nostdin -v error {inputs} -t 3.4 {coding} {made}".split()], check=True)
    reader, data = FlvToFragments(), made.read_bytes()
    seen, limits = SeenStream(reader), SourceLimits()
    for place in range(0, len(data), 100):
        for event in reader.receive_data(data[place : place + 100]):
            seen.receive(event)
        if seen.is_enough(limits):
            break
    source = seen.source()
    return source, 0 if source is None or source.seen is None else len(source.seen.keys)


@pytest.mark.parametrize(
    ("coding", "rate"),
    [
        (f"{CODING} -g 25", 25),
        (f"{CODING} -g 30", 30),
        # FLV's milliseconds alone don't tell it from 30.
        (f"{CODING} -g 30", NTSC),
        # As hardware encoders do, it says nothing of its settings.
        (f"{CODING} -g 25 -bsf:v filter_units=remove_types=6", 25),
    ],
)
def test_one_group_of_pictures_is_enough_where_the_encoder_tells_its_frame_rate(
    tmp_path: Path, coding: str, rate: Fraction | int
) -> None:
    source, keys = seen_of(tmp_path, coding, rate)
    assert keys == 2
    assert source is not None
    assert source.frame_rate == rate


@pytest.mark.parametrize(
    "coding",
    [
        # A scene that changes begins a group before its time.
        f"{CODING} -g 50 -force_key_frames 0.6,1.2",
        f"{CODING} -g 25 -bsf:v h264_metadata=delete_filler=0:tick_rate=70",
        f"{CODING} -g 10 -keyint_min 10",
    ],
    ids=["earlier", "another rate", "short groups"],
)
def test_two_groups_are_looked_at_where_the_first_may_not_be_like_all(tmp_path: Path, coding: str) -> None:
    source, keys = seen_of(tmp_path, coding)
    assert keys == 3
    assert source is not None
    assert source.frame_rate == 25
