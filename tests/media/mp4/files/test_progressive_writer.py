"""The head of a progressive MP4, as ffprobe reads it in front of fragments."""

from __future__ import annotations

import json
import struct
import subprocess
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.mp4.boxes import walk
from media.mp4.files.progressive_writer import WIDE_FROM, MovieTrack, TrackTables, write_head
from media.mp4.fragments.fragments import FragmentReader, InitSegment
from media.mp4.fragments.moof import Defaults, Sample, parse_moof
from media.mp4.movie.sample_table import SampleTable
from media.mp4.movie.track_box import TrackFacts
from packager.process.ffmpeg_discovery import Tools

FRAGMENTED = "-f mp4 -movflags +frag_every_frame+empty_moov+default_base_moof+cmaf -use_editlist 0"


def fragmented(tools: Tools, path: Path, *options: str) -> bytes:
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", *options]
    subprocess.run([*command, *FRAGMENTED.split(), str(path)], check=True, timeout=60)
    return path.read_bytes()


def track_of(data: bytes, track_id: int, position: int, start: Fraction, late: int = 0) -> MovieTrack:
    """Make a track of a fragmented file whose bytes lie at a position in the data."""
    reader = FragmentReader()
    reader.receive_data(data)
    (init,) = (event for event in reader.events() if isinstance(event, InitSegment))
    (source,) = init.tracks
    size = (source.display_width, source.display_height)
    facts = TrackFacts(
        track_id, source.handler, source.timescale, source.sample_entries[0], "eng", display_size=size
    )
    track = MovieTrack(facts, start)
    for found in walk(data):
        if found.kind == b"moof":
            _, (fragment,) = parse_moof(data[found.start : found.end], found.start, {1: Defaults()})
            time = fragment.base_media_decode_time
            assert time is not None
            later = late if time >= source.timescale else 0
            track.tables.add(time + later, fragment.samples, position + fragment.spans[0][0])
    return track


def probe(tools: Tools, path: Path, *wanted: str) -> Any:
    command = [str(tools.ffprobe), "-v", "error", *wanted, "-of", "json", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def packets(tools: Tools, path: Path, stream: str) -> list[tuple[str, ...]]:
    """Size, flags, decode time, presentation time and hash of each packet."""
    answer = probe(tools, path, "-select_streams", stream, "-show_packets", "-show_data_hash", "md5")
    names = ("size", "flags", "dts_time", "pts_time", "data_hash")
    return [tuple(str(packet.get(name)) for name in names) for packet in answer["packets"]]


@pytest.fixture(scope="module")
def files(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("progressive")
    picture, sound, movie = folder / "picture.mp4", folder / "sound.mp4", folder / "movie.mp4"
    video = fragmented(tools, picture, "testsrc2=size=128x72:rate=25:duration=2", "-bf", "2", "-g", "10")
    audio = fragmented(tools, sound, "sine=sample_rate=48000:duration=2", "-c:a", "aac")
    # One behind the other, whole, as the segments of a recording lie there.
    tracks = [
        track_of(video, 1, 0, Fraction(0)),
        track_of(audio, 2, len(video), Fraction(-1024, 48000)),
    ]
    movie.write_bytes(write_head(tracks, len(video) + len(audio)) + video + audio)
    return picture, sound, movie


def test_packets_are_those_of_the_fragments_with_their_bytes_and_times(
    tools: Tools, files: tuple[Path, Path, Path]
) -> None:
    picture, sound, movie = files
    theirs, ours = packets(tools, picture, "v"), packets(tools, movie, "v")
    assert len(ours) == 50
    assert [one[:2] + one[4:] for one in ours] == [one[:2] + one[4:] for one in theirs]
    # The edit list lets the first picture be at 0, from where B-frames had moved it.
    offset = min(float(one[3]) for one in theirs)
    assert [float(one[3]) for one in ours] == pytest.approx([float(one[3]) - offset for one in theirs])
    theirs, ours = packets(tools, sound, "a"), packets(tools, movie, "a")
    assert [one[4] for one in ours] == [one[4] for one in theirs]
    # The encoder's first 1,024 samples are before the beginning.
    assert float(ours[1][3]) == pytest.approx(0, abs=1e-4)


def test_durations_and_codecs_are_said(tools: Tools, files: tuple[Path, Path, Path]) -> None:
    answer = probe(tools, files[2], "-show_streams", "-show_format")
    video, audio = answer["streams"]
    assert (video["codec_name"], video["width"], video["height"], video["nb_frames"]) == (
        "h264",
        128,
        72,
        "50",
    )
    assert (audio["codec_name"], audio["sample_rate"], audio["tags"]["language"]) == ("aac", "48000", "eng")
    assert float(video["duration"]) == pytest.approx(2, abs=0.001)
    assert float(answer["format"]["duration"]) == pytest.approx(2.04, abs=0.05)


def test_every_frame_decodes(tools: Tools, files: tuple[Path, Path, Path]) -> None:
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", "-xerror", "-i", str(files[2])]
    command += ["-f", "framecrc", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_break_makes_the_last_sample_before_it_longer(tools: Tools, tmp_path: Path) -> None:
    video = fragmented(tools, tmp_path / "a.mp4", "testsrc2=size=128x72:rate=25:duration=2", "-bf", "0")
    # At 25 frames a second ffmpeg takes a timescale of 12,800.
    track = track_of(video, 1, 0, Fraction(0), late=12_800 * 3)
    path = tmp_path / "movie.mp4"
    path.write_bytes(write_head([track], len(video)) + video)
    times = [float(one[2]) for one in packets(tools, path, "v")]
    assert times[24] == pytest.approx(0.96)
    assert times[25] == pytest.approx(4.0)
    assert float(probe(tools, path, "-show_format")["format"]["duration"]) == pytest.approx(5)


def test_offsets_beyond_32_bits_are_written_as_co64(tools: Tools, tmp_path: Path) -> None:
    video = fragmented(tools, tmp_path / "a.mp4", "testsrc2=size=128x72:rate=25:duration=0.2")
    hole = 5 << 30
    assert hole > WIDE_FROM
    head = write_head([track_of(video, 1, hole, Fraction(0))], hole + len(video))
    path = tmp_path / "movie.mp4"
    with path.open("wb") as file:
        file.write(head)
        file.seek(len(head) + hole)
        file.write(video)
    assert b"co64" in head
    assert [one[4] for one in packets(tools, path, "v")] == [
        one[4] for one in packets(tools, tmp_path / "a.mp4", "v")
    ]


def test_ten_hours_with_b_frames_take_24_bytes_a_sample() -> None:
    tables = TrackTables()
    samples = [Sample(512 + index % 2, 900, not index, 1024 * index) for index in range(4)]
    count = 300_000
    tracemalloc.start()
    try:
        for index in range(count // 4):
            tables.add(tables.duration, samples, index)
        assert tracemalloc.get_traced_memory()[0] < 30 * count
    finally:
        tracemalloc.stop()
    boxes = {box[4:8]: box for box in tables.render(100, wide=False)}
    table = SampleTable({kind: memoryview(box)[8:] for kind, box in boxes.items()}, 1)
    assert len(table) == count
    last = table.samples(count - 4, count)
    assert np.diff(last.decode_time).tolist() == [512, 513, 512, 513]
    assert last.composition_offset.tolist() == [0, 1024, 2048, 3072]
    assert last.offset.tolist() == [100 + count // 4 - 1 + 900 * index for index in range(4)]
    assert last.is_sync.tolist() == [True, False, False, False]


def test_samples_before_the_end_of_others_are_refused() -> None:
    tables = TrackTables()
    tables.add(0, [Sample(10, 1), Sample(10, 1)], 0)
    with pytest.raises(ValueError, match="don't fit behind 20"):
        tables.add(19, [Sample(10, 1)], 2)


def test_samples_that_would_last_longer_than_players_read_are_refused() -> None:
    """Of 32 bits the first one tells players that a duration is below 0; of a longer one bits were lost."""
    tables, longest = TrackTables(), (1 << 31) - 1
    tables.add(0, [Sample(5, 1)], 0)
    for decode_time, duration in ((longest + 1, 1), ((1 << 32) + 5, 1), (5, longest + 1)):
        with pytest.raises(ValueError, match="a sample of"):
            tables.add(decode_time, [Sample(duration, 1)], 1)
    tables.add(longest, [Sample(longest, 1)], 1)
    assert tables.render(0, wide=False)[0][16:] == struct.pack(">II", 2, longest)
