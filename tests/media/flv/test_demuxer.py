"""Several tracks in one stream: as ffmpeg writes them, and in all forms of Enhanced RTMP v2."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from media.errors import MalformedError
from media.flv import tags as flv_tags
from media.flv.demuxer import FlvDemuxer
from media.muxers.flv_muxer import FlvMuxer
from media.packets import Packet
from tests.media.flv.flv_tags import write_tag
from tests.media.muxers.muxed_streams import tags_of
from tests.media.rtmp.newer_ffmpeg import newer_ffmpeg

MOST_FURTHER = 2

Found = tuple[list[Packet], dict[int, list[Packet]]]


def demuxed(tags: list[flv_tags.Tag]) -> Found:
    """Give the packets of the main tracks, and of further video tracks."""
    demuxer = FlvDemuxer(further_video_tracks=MOST_FURTHER)
    main, pictures = list[Packet](), dict[int, list[Packet]]()
    for tag in tags:
        main += demuxer.receive_tags([tag])
        for track, packets in demuxer.take_further_video_tracks().items():
            pictures.setdefault(track, []).extend(packets)
    return main, pictures


Told = tuple[int, int, str, bool, bytes]


def told(packets: list[Packet]) -> list[Told]:
    """Give times and how much later each is shown in milliseconds, codec, and frame or configuration."""
    return [
        (
            dts // 90,
            (pts - dts) // 90,
            track.codec,
            is_key,
            data or b"configuration " + (track.configuration or b""),
        )
        for track, dts, pts, is_key, data in packets
    ]


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
    main, pictures = demuxed(tags)
    assert set(pictures) == {1}
    for name, packets in (("0:v:0", main), ("0:v:1", pictures[1]), ("0:a:0", main)):
        path = tmp_path / "muxed.flv"
        path.write_bytes(FlvMuxer().push(packets))
        found = checksums(path, name.replace("1", "0"))
        assert len(found) >= 25
        assert found == checksums(film, name)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # OneTrack: SequenceStart, CodedFrames with a composition time, CodedFramesX without, SequenceEnd.
        (b"\x96\x00avc1\1abc", {1: [(0, "avc1", False, b"configuration abc")]}),
        (b"\xa6\x01avc1\1\xff\xff\xd8abc", {1: [(-40, "avc1", False, b"abc")]}),
        (b"\x96\x03avc1\1abc", {1: [(0, "avc1", True, b"abc")]}),
        (b"\x96\x02avc1\1", {}),
        # ManyTracks, ManyTracksManyCodecs: each codec that is taken goes on.
        (
            b"\x96\x13avc1\1\0\0\2ab\2\0\0\1c",
            {1: [(0, "avc1", True, b"ab")], 2: [(0, "avc1", True, b"c")]},
        ),
        (
            b"\x96\x23avc1\1\0\0\2abav01\2\0\0\1c",
            {1: [(0, "avc1", True, b"ab")], 2: [(0, "av01", True, b"c")]},
        ),
        (b"\x96\x23avc1\1\0\0\2abvvc1\2\0\0\1c", {1: [(0, "avc1", True, b"ab")]}),
        (b"\xa6\x01hvc1\1\xff\xff\xd8abc", {1: [(-40, "hvc1", False, b"abc")]}),
        # One more than is taken.
        (
            b"\x96\x13avc1\1\0\0\1a\2\0\0\1b\3\0\0\1c",
            {1: [(0, "avc1", True, b"a")], 2: [(0, "avc1", True, b"b")]},
        ),
    ],
)
def test_further_pictures_are_tracks_by_their_numbers(
    body: bytes, expected: dict[int, list[tuple[int, str, bool, bytes]]]
) -> None:
    _, pictures = demuxed([(flv_tags.VIDEO, 40, body)])
    assert {track: told(packets) for track, packets in pictures.items()} == {
        track: [(40, *one) for one in each] for track, each in expected.items()
    }
    assert all(one.track.number == track for track, each in pictures.items() for one in each)


def test_nanoseconds_before_the_tracks_are_added_to_their_times() -> None:
    # 16 and 2/3 ms, as 60 pictures a second have them.
    body = b"\xa7\2" + (666_667).to_bytes(3, "big") + b"\x06\x03hvc1\1abc"
    _, pictures = demuxed([(flv_tags.VIDEO, 16, body)])
    assert [(one.dts, one.pts, one.data) for one in pictures[1]] == [(1500, 1500, b"abc")]


def test_a_first_track_that_is_numbered_is_the_main_one() -> None:
    tags = [
        (flv_tags.VIDEO, 0, b"\x96\x10avc1\0\0\0\4main\1\0\0\5other"),
        (flv_tags.AUDIO, 0, b"\x95\x00mp4a\0\x12\x10"),
        (flv_tags.AUDIO, 20, b"\x95\x01mp4a\1left out"),
        (flv_tags.VIDEO, 40, b"\x96\x13avc1\0\0\0\1a\1\0\0\1b"),
        (flv_tags.AUDIO, 60, b"\x95\x01mp4a\0sound"),
    ]
    main, pictures = demuxed(tags)
    assert told(main) == [
        (0, 0, "avc1", False, b"configuration main"),
        (0, 0, "mp4a", False, b"configuration \x12\x10"),
        (40, 0, "avc1", True, b"a"),
        (60, 0, "mp4a", True, b"sound"),
    ]
    assert told(pictures[1]) == [(0, 0, "avc1", False, b"configuration other"), (40, 0, "avc1", True, b"b")]


@pytest.mark.parametrize("tag", [(flv_tags.VIDEO, 0, b"\x12abc"), (flv_tags.AUDIO, 0, b"\x6eabc")])
def test_codecs_of_old_are_written_as_they_came(tag: flv_tags.Tag) -> None:
    main, _ = demuxed([tag])
    assert FlvMuxer().push(main) == flv_tags.file_header() + flv_tags.write_tags([tag])


@pytest.mark.parametrize("body", [b"\x96", b"\x96\x03avc1", b"\x96\x13avc1\1\0\0\x09ab", b"\x97\2\0"])
def test_tracks_that_end_too_early_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        demuxed([(flv_tags.VIDEO, 0, body)])


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_the_first_error_is_the_same_however_the_bytes_are_cut(size: int) -> None:
    cut_off = write_tag(flv_tags.VIDEO, 0, b"\x96")
    data = flv_tags.file_header() + cut_off + b"\x09\xff\xff\xff" + bytes(7)
    demuxer = FlvDemuxer()
    pieces = (demuxer.receive_data(data[begin : begin + size]) for begin in range(0, len(data), size))
    with pytest.raises(MalformedError, match="cut off"):
        list(pieces)
