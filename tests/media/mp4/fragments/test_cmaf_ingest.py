"""A stream that comes in many requests: its tracks are found by their names, and joined by their times."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from media.errors import MediaError, TooLargeError, UnsupportedError
from media.mp4.boxes import box
from media.mp4.fragments.cmaf_ingest import (
    TRANSPORT_STREAM,
    TrackUploadLimits,
    TrackUploads,
    UnknownTrackError,
    UploadReader,
    track_of,
)
from tests.media.mp4.fragments.joined_packets import essence, packets

LIMITS = TrackUploadLimits()


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ffmpeg's muxer of DASH writes for two pictures and a sound; and the same in one file."""
    folder = tmp_path_factory.mktemp("dash")
    inputs = "-f lavfi -i testsrc2=size=64x48:rate=10 -f lavfi -i sine=sample_rate=48000 -t 3"
    coding = "-c:v libx264 -preset ultrafast -bf 2 -g 10 -sc_threshold 0 -pix_fmt yuv420p -c:a aac"
    large = f"-map 0:v -map 0:v -map 1:a {coding} -s:v:1 32x24 -f dash -seg_duration 1 {folder}/manifest.mpd"
    subprocess.run(f"ffmpeg -v error {inputs} {large}".split(), check=True)
    copied = f"-i {folder}/manifest.mpd -map 0:v:0 -map 0:a -c copy -f mp4 {folder}/whole.mp4"
    subprocess.run(f"ffmpeg -v error {copied}".split(), check=True)
    return folder


def uploaded(uploads: TrackUploads, name: str, data: bytes, cuts: int = 0) -> bytes:
    """Give what one request's body completes, cut into pieces at random."""
    reader, found = UploadReader(name), b""
    places = sorted(random.Random(cuts).sample(range(len(data)), min(cuts, len(data))))
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        for piece in reader.receive_data(data[start:end]):
            assert reader.track is not None
            found += b"".join(uploads.push(reader.track, piece))
    return found


@pytest.mark.parametrize("cuts", [0, 200])
def test_ffmpegs_segments_have_the_packets_of_the_whole_stream(
    segments: Path, tmp_path: Path, cuts: int
) -> None:
    """Of two pictures the first by name is taken."""
    names = sorted(one.name for one in segments.glob("*.m4s"))
    names.sort(key=lambda name: (0 if name.startswith("init") else 1, name.rpartition("-")[2]))
    uploads = TrackUploads(LIMITS)
    joined = b"".join(uploaded(uploads, name, (segments / name).read_bytes(), cuts) for name in names)
    # Another request of each track, as sound that comes beside a picture waits for its time.
    found, whole = packets(joined, tmp_path / "joined.mp4"), segments / "whole.mp4"
    expected = packets(whole.read_bytes(), tmp_path / "whole.mp4")
    for kind in ("video", "audio"):
        told = [one[0] for one in essence(found[kind])]
        assert told == [one[0] for one in essence(expected[kind])][: len(told)]
        assert len(told) >= 0.9 * len(expected[kind])


@pytest.mark.clause("A segment that an encoder sends once more is taken once")
def test_a_segment_that_is_sent_once_more_is_taken_once_and_a_stream_that_begins_anew_is_not(
    segments: Path,
) -> None:
    names = ["init-stream0.m4s", *(f"chunk-stream0-0000{number}.m4s" for number in (1, 2, 3))]
    init, *chunks = [(segments / name).read_bytes() for name in names]
    once, twice = TrackUploads(LIMITS), TrackUploads(LIMITS)
    for uploads in (once, twice):
        assert not uploaded(uploads, names[0], init)
    whole = [uploaded(once, name, data) for name, data in zip(names[1:], chunks, strict=True)]
    assert all(whole)
    for name, data, expected in zip(names[1:], chunks, whole, strict=True):
        assert uploaded(twice, name, data) == expected
        assert not uploaded(twice, name, data)
    assert not uploaded(twice, names[1], chunks[0])
    assert not uploaded(twice, names[0], init)
    assert uploaded(twice, names[1], chunks[0])


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.9.4.4")
@pytest.mark.parametrize(
    ("init", "segment", "track"),
    [
        ("init-stream0.m4s", "chunk-stream0-00012.m4s", "stream0"),
        ("video/1/init.mp4", "video/1/seg-7.m4s", "video/1"),
        ("video/init.cmfv", "video/1234.cmfv", "video"),
        ("a_Init.mp4", "a_Segment_12.m4s", "a"),
        ("init.mp4", "12.m4s", "/"),
        ("sound-2-header", "sound-2-3", "sound/2"),
    ],
)
def test_an_init_segment_and_its_segments_are_told_by_their_names(
    init: str, segment: str, track: str
) -> None:
    assert track_of(init, is_numbered=False) == track_of(segment, is_numbered=True) == track


def test_a_segment_whose_init_segment_did_not_come_is_told_so(segments: Path) -> None:
    uploads = TrackUploads(LIMITS)
    segment = (segments / "chunk-stream0-00001.m4s").read_bytes()
    with pytest.raises(UnknownTrackError):
        uploaded(uploads, "chunk-stream0-00001.m4s", segment)
    assert not uploads.has_tracks
    # A single one is taken whatever it is called, as ffmpeg's muxer of HLS names it.
    uploaded(uploads, "init.mp4", (segments / "init-stream0.m4s").read_bytes())
    assert uploaded(uploads, "stream1.m4s", segment)


def test_segments_of_mpeg_ts_are_passed_on_as_they_come() -> None:
    uploads, packet = TrackUploads(LIMITS), b"\x47\x1f\xff\x10" + bytes(184)
    assert uploaded(uploads, "stream0.ts", packet * 3, 5) == packet * 3
    assert uploaded(uploads, "stream1.ts", packet) == packet
    reader = UploadReader("stream2.ts")
    reader.receive_data(packet[:1])
    assert reader.track == TRANSPORT_STREAM


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (bytes(4) + b"moof", "without a size"),
        (bytes(16), "neither"),
        (b"\0\0\0\7moof", "less than its header"),
        (b"\0\0\0\1moof" + b"\xff" * 8, "a box of"),
        (b"\x7f\0\0\0moov", "a box of"),
        (box(b"styp") + b"\x7f\0\0\0junk", "a box of"),
        (box(b"styp") + box(b"mdat", b"x"), "in the wrong order"),
        (box(b"moof") + box(b"moov"), "in the wrong order"),
        (box(b"ftyp") + box(b"mdat"), "in the wrong order"),
        (b"<html><body>none of them</body></html>", "neither"),
    ],
)
def test_what_is_no_fragmented_movie_is_refused_before_it_is_kept(data: bytes, told: str) -> None:
    with pytest.raises(MediaError, match=told):
        uploaded(TrackUploads(LIMITS), "video/1.m4s", data)


def test_no_more_tracks_are_kept_than_a_stream_has(segments: Path) -> None:
    uploads = TrackUploads(TrackUploadLimits(tracks=2))
    init = (segments / "init-stream0.m4s").read_bytes()
    for name in ("a", "b", "a"):
        uploaded(uploads, f"{name}/init.mp4", init)
    with pytest.raises(TooLargeError, match="more than 2 tracks"):
        uploaded(uploads, "c/init.mp4", init)


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bytes_give_a_stream_or_a_media_error(segments: Path, seed: int) -> None:
    chance, refused = random.Random(seed), 0
    names = ("init-stream0.m4s", "chunk-stream0-00001.m4s")
    whole = [(name, (segments / name).read_bytes()) for name in names]
    for _ in range(60):
        uploads = TrackUploads(LIMITS)
        for name, data in whole:
            flipped = bytearray(data)
            for _ in range(chance.randrange(4)):
                flipped[chance.randrange(min(len(flipped), 900))] ^= 1 << chance.randrange(8)
            try:
                uploaded(uploads, name, bytes(flipped))
            except (MediaError, UnsupportedError, UnknownTrackError):
                refused += 1
                break
    assert 0 < refused < 60
