"""Several tracks in one stream: as ffmpeg writes them, and in all forms of Enhanced RTMP v2."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from media.errors import MalformedError
from media.flv import tags as flv_tags
from media.rtmp.multitrack import PublishedTracks, PublishedTracksLimits
from tests.media.flv.test_flv_to_fragments import tags_of
from tests.media.rtmp.test_publishers import newer_ffmpeg

LIMITS = PublishedTracksLimits(further_video_tracks=2)


def divided(tags: list[tuple[int, int, bytes]]) -> tuple[bytes, dict[int, bytes]]:
    """Give what is passed on of the main stream, and of further video tracks."""
    tracks, main, pictures = PublishedTracks(LIMITS), b"", dict[int, bytes]()
    for tag in tags:
        main += tracks.push(*tag)
        for track, data in tracks.take_further_video_tracks().items():
            pictures[track] = pictures.get(track, b"") + data
    return main, pictures


def bodies(stream: bytes) -> list[tuple[int, bytes]]:
    """Give the times and bodies of tags."""
    return [(int.from_bytes(tag[4:7], "big"), tag[11:-4]) for tag in tags_of(stream)]


def checksums(film: Path, stream: str) -> list[str]:
    """Give the checksum of each packet of a stream, as ffmpeg reads it."""
    words = f"-v error -i {film} -map {stream} -c copy -f framemd5 -"
    done = subprocess.run([newer_ffmpeg(), *words.split()], check=True, capture_output=True, text=True)
    return [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("0,")]


def test_ffmpegs_tracks_arrive_packet_by_packet(tmp_path: Path) -> None:
    film, inputs = tmp_path / "film.flv", "-f lavfi -i testsrc2=size=96x64:rate=25 -f lavfi -i sine=440"
    tracks = "-filter_complex split=2[a][b];[b]scale=64:48[c] -map [a] -map [c] -map 1:a -map 1:a"
    coding = "-c:v libx264 -preset ultrafast -bf 2 -pix_fmt yuv420p -c:a aac"
    words = f"-v error {inputs} {tracks} -t 1 {coding} {film}"
    subprocess.run([newer_ffmpeg(), *words.split()], check=True)
    tags = [(tag[0], int.from_bytes(tag[4:7], "big"), tag[11:-4]) for tag in tags_of(film.read_bytes())]
    main, pictures = divided(tags)
    assert set(pictures) == {1}
    for name, stream in (("0:v:0", main), ("0:v:1", pictures[1]), ("0:a:0", main)):
        path = tmp_path / "divided.flv"
        path.write_bytes(stream)
        found = checksums(path, name.replace("1", "0"))
        assert len(found) >= 25
        assert found == checksums(film, name)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # OneTrack: SequenceStart, CodedFrames with a composition time, CodedFramesX without, SequenceEnd.
        (b"\x96\x00avc1\1abc", {1: [b"\x17\0\0\0\0abc"]}),
        (b"\xa6\x01avc1\1\xff\xff\xd8abc", {1: [b"\x27\1\xff\xff\xd8abc"]}),
        (b"\x96\x03avc1\1abc", {1: [b"\x17\1\0\0\0abc"]}),
        (b"\x96\x02avc1\1", {}),
        # ManyTracks, ManyTracksManyCodecs: each codec that is taken goes on.
        (b"\x96\x13avc1\1\0\0\2ab\2\0\0\1c", {1: [b"\x17\1\0\0\0ab"], 2: [b"\x17\1\0\0\0c"]}),
        (
            b"\x96\x23avc1\1\0\0\2abav01\2\0\0\1c",
            {1: [b"\x17\1\0\0\0ab"], 2: [b"\x91av01c"]},
        ),
        (b"\x96\x23avc1\1\0\0\2abvvc1\2\0\0\1c", {1: [b"\x17\1\0\0\0ab"]}),
        (b"\xa6\x01hvc1\1\xff\xff\xd8abc", {1: [b"\xa1hvc1\xff\xff\xd8abc"]}),
        # ModEx with nanoseconds before the tracks.
        (b"\x97\2\x00\x01\x00\x06\x03hvc1\1abc", {1: [b"\x97\2\x00\x01\x00\x01hvc1\0\0\0abc"]}),
        # One more than is taken.
        (b"\x96\x13avc1\1\0\0\1a\2\0\0\1b\3\0\0\1c", {1: [b"\x17\1\0\0\0a"], 2: [b"\x17\1\0\0\0b"]}),
    ],
)
def test_further_pictures_go_on_in_tags_without_numbers(
    body: bytes, expected: dict[int, list[bytes]]
) -> None:
    _, pictures = divided([(flv_tags.VIDEO, 40, body)])
    assert all(stream.startswith(flv_tags.file_header()) for stream in pictures.values())
    found = {track: bodies(stream) for track, stream in pictures.items()}
    assert found == {track: [(40, one) for one in each] for track, each in expected.items()}


def test_a_first_track_that_is_numbered_is_the_main_one() -> None:
    tags = [
        (flv_tags.VIDEO, 0, b"\x96\x10avc1\0\0\0\4main\1\0\0\5other"),
        (flv_tags.AUDIO, 0, b"\x95\x00mp4a\0\x12\x10"),
        (flv_tags.AUDIO, 20, b"\x95\x01mp4a\1left out"),
        (flv_tags.VIDEO, 40, b"\x96\x13avc1\0\0\0\1a\1\0\0\1b"),
        (flv_tags.AUDIO, 60, b"\x95\x01mp4a\0sound"),
    ]
    main, pictures = divided(tags)
    assert bodies(main) == [
        (0, b"\x17\0\0\0\0main"),
        (0, b"\xaf\0\x12\x10"),
        (40, b"\x17\1\0\0\0a"),
        (60, b"\xaf\1sound"),
    ]
    assert bodies(pictures[1]) == [(0, b"\x17\0\0\0\0other"), (40, b"\x17\1\0\0\0b")]


@pytest.mark.parametrize("body", [b"\x96", b"\x96\x03avc1", b"\x96\x13avc1\1\0\0\x09ab", b"\x97\2\0"])
def test_tracks_that_end_too_early_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        PublishedTracks(LIMITS).push(flv_tags.VIDEO, 0, body)
