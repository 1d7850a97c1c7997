"""Transport streams with a picture in some seconds, whose clock references come with the pictures alone."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from media.packets import TrackKind
from media.steady_times import SteadyTimes
from media.stream_reader import StreamChunk
from media.ts.demuxer import TransportDemuxer
from media.ts.stream_reader import TransportReader

SOUND = "-f lavfi -i sine=440:sample_rate=48000 -c:a aac"


def written(folder: Path, seconds: int, sound: str = SOUND, offset: int = 0) -> bytes:
    """Write a picture in four seconds; ffmpeg's muxer puts clock references into their packets alone."""
    made = folder / "stream.ts"
    picture = "-f lavfi -i testsrc2=size=160x120:rate=1/4"
    inputs, _, coding = sound.partition(" -c:a")
    words = f"-nostdin -v error -y {picture} {inputs} -t {seconds} -c:v libx264 -tune zerolatency -g 1"
    words += (
        f" -max_interleave_delta 100M{' -c:a' + coding if coding else ''} -output_ts_offset {offset} {made}"
    )
    subprocess.run(["ffmpeg", *words.split()], check=True)
    return made.read_bytes()


def chunks_of(data: bytes) -> list[StreamChunk]:
    reader = TransportReader()
    return [one for at in range(0, len(data), 4096) for one in reader.receive_data(data[at : at + 4096])]


def breaks(chunks: list[StreamChunk]) -> int:
    """Count the chunks with which a decoder can't go on, without the first tables."""
    return sum(one.changes for one in chunks[1:])


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.3.5")
def test_references_that_are_far_apart_are_no_jumps_where_sound_goes_on(tmp_path: Path) -> None:
    chunks = chunks_of(written(tmp_path, 30))
    assert breaks(chunks) == 0
    clocks = [one.clock for one in chunks if one.clock is not None]
    # Pictures at 0, 4, … 28 s.
    assert clocks[-1] - clocks[0] >= 20 * 90_000


def test_without_sound_steps_that_are_alike_are_no_jumps(tmp_path: Path) -> None:
    assert breaks(chunks_of(written(tmp_path, 30, sound=""))) == 0


def test_a_step_of_sound_and_picture_is_a_jump(tmp_path: Path) -> None:
    before, behind = written(tmp_path, 6), written(tmp_path, 6, offset=18)
    assert breaks(chunks_of(before + behind)) == 1


def test_rare_pictures_keep_their_times_beside_the_sound(tmp_path: Path) -> None:
    data = written(tmp_path, 30)
    demuxer, steady = TransportDemuxer(), SteadyTimes(awaits_picture=True)
    packets = [
        one
        for chunk in chunks_of(data)
        for packet in demuxer.receive_data(chunk.data)
        for one in steady.push(packet)
    ]
    assert not steady.fault
    for kind, step in ((TrackKind.VIDEO, 4 * 90_000), (TrackKind.AUDIO, 1920)):
        times = [one.dts for one in packets if one.track.kind is kind and one.data]
        assert len(times) > 5
        assert all(after - before == step for before, after in pairwise(times))
