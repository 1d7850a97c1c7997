"""What is told of a publisher's stream: its bitrate, and how far apart its key frames are."""

from __future__ import annotations

from media.stream_reader import CLOCK_RATE, StreamChunk
from packager.sources.stream_meter import StreamMeter


def test_key_frames_are_as_far_apart_as_the_last_two_whose_time_goes_on() -> None:
    meter, told = StreamMeter(), list[float | None]()
    for seconds in (10, 12, 5, 6):
        meter.push(StreamChunk(b"", access=True, clock=seconds * CLOCK_RATE), 0.0)
        told.append(meter.keyframe_interval)
    # Between the second and the third the clock goes back, which says nothing.
    assert told == [None, 2.0, 2.0, 1.0]


def test_the_bitrate_is_that_of_the_last_seconds() -> None:
    meter = StreamMeter()
    assert meter.bitrate(0.0) == 0
    for second in range(30):
        meter.push(StreamChunk(bytes(1000 if second < 15 else 2000)), float(second))
    # Eight samples, each before what came with it.
    assert meter.bitrate(30.0) == 8 * 8 * 2000 / 8
