"""What is seen of a stream before it is copied: how many of its first pictures are needed for that."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from media.flv.demuxer import FlvDemuxer
from media.flv.stream_reader import FlvReader
from packager.sources.copy_probe import Copier, SeenStream
from packager.sources.further_video_tracks import FurtherVideoTrack, SeenVideoTrack
from packager.sources.limits import SourceLimits
from packager.sources.source import Source

NTSC = Fraction(30_000, 1001)
CODING = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac"


def seen_of(folder: Path, coding: str, rate: Fraction | int = 25) -> tuple[Source | None, int]:
    """Look at a stream that ffmpeg makes until enough is seen; give what it is, and its key frames so far."""
    inputs = f"-f lavfi -i testsrc2=size=160x120:rate={rate} -f lavfi -i sine=440:sample_rate=48000"
    made = folder / "stream.flv"
    subprocess.run(["ffmpeg", *f"-nostdin -v error {inputs} -t 3.4 {coding} {made}".split()], check=True)
    reader, copier, data = FlvReader(), Copier(), made.read_bytes()
    seen, limits = SeenStream(copier), SourceLimits()
    for place in range(0, len(data), 100):
        for events in copier.steps(reader.receive_data(data[place : place + 100])):
            for event in events:
                seen.push(event)
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


@pytest.fixture(scope="module")
def key_frames(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Record a picture of nothing but key frames, without any sound."""
    made = tmp_path_factory.mktemp("published") / "stream.flv"
    words = f"-nostdin -v error -f lavfi -i testsrc2=size=160x120:rate=25 -t 2 {CODING} -g 1 {made}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    return made.read_bytes()


def test_no_more_key_frames_are_looked_at_than_a_stream_may_have(key_frames: bytes) -> None:
    reader, copier = FlvReader(), Copier()
    limits = replace(SourceLimits(), seen_keys=5, seen_apart_seconds=60.0)
    seen, looked = SeenStream(copier), 0
    while not seen.is_enough(limits):
        for events in copier.steps(reader.receive_data(key_frames[looked : looked + 100])):
            for event in events:
                seen.push(event)
        looked += 100
    assert looked < len(key_frames) / 2


async def test_no_more_key_frames_are_looked_at_than_a_further_track_may_have(key_frames: bytes) -> None:
    track, seen = FurtherVideoTrack(SourceLimits(), 60.0), SeenVideoTrack(most_keys=5)
    track.push(FlvDemuxer().receive_data(key_frames), time.monotonic())
    async with asyncio.timeout(60):
        await seen.look(track, Fraction(3600))
    assert seen.has_all([Fraction(0)])
