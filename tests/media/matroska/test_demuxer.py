"""media.matroska.demuxer: the packets of a publisher's Matroska and WebM, whatever way they are written."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska import element_ids as ids
from media.matroska.demuxer import MatroskaDemuxer
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.packets import Packet, TrackKind
from tests.media.matroska.matroska_elements import (
    PACKET,
    block,
    cluster,
    element,
    number_of,
    opus,
    segment,
    tracks,
)
from tests.media.muxers.enhanced_tracks import VP9_KEY
from tests.media.muxers.muxed_streams import FragmentRemuxer, packets, samples, track
from tests.packager.stripped_matroska import encoding, stripped

PICTURE = "-c:v libx264 -preset fast -g 25 -pix_fmt yuv420p"
HEVC = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p -x265-params log-level=none:keyint=25"
ENCODINGS = {
    "H.264 with B-frames and AAC": f"{PICTURE} -bf 3 -c:a aac -ar 44100 -f matroska",
    "open groups of pictures": f"{PICTURE} -bf 2 -x264-params open-gop=1:keyint=12 -c:a ac3 -f matroska",
    "HEVC with B-frames and Opus": f"{HEVC}:bframes=4 -c:a libopus -f matroska",
    "AV1 and FLAC": "-c:v libsvtav1 -preset 12 -g 25 -pix_fmt yuv420p -c:a flac -f matroska",
    "WebM": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -c:a libopus -f webm",
    "E-AC-3": f"{PICTURE} -bf 0 -c:a eac3 -f matroska",
    "silent": f"{PICTURE} -an -f matroska",
    "Vorbis": f"{PICTURE} -c:a libvorbis -f matroska",
}
RATES = {"H.264 with B-frames and AAC": "30000/1001"}
COPIED = [one for one in ENCODINGS if one not in ("silent", "Vorbis")]

Recorded = Callable[[str], Path]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record two seconds of a stream."""
    folder, made = tmp_path_factory.mktemp("recorded"), dict[str, Path]()

    def record(encoding: str) -> Path:
        if encoding not in made:
            made[encoding] = folder / f"{len(made)}.mkv"
            rate = RATES.get(encoding, "25")
            inputs = (
                f"-f lavfi -i testsrc2=size=160x120:rate={rate} -f lavfi -i sine=440:sample_rate=48000 -t 2"
            )
            words = f"-nostdin -v error {inputs} {ENCODINGS[encoding]} {made[encoding]}"
            subprocess.run(["ffmpeg", *words.split()], check=True, stderr=subprocess.DEVNULL)
        return made[encoding]

    return record


def demuxed(pieces: Iterable[bytes]) -> list[Packet]:
    demuxer = MatroskaDemuxer()
    return [packet for piece in pieces for packet in demuxer.receive_data(piece)]


def remuxed(data: bytes) -> list[InitSegment | Fragment]:
    return FragmentRemuxer(MatroskaDemuxer()).receive_data(data)


def of_kind(found: Sequence[Packet], kind: TrackKind) -> list[Packet]:
    return [one for one in found if one.track.kind is kind]


@pytest.mark.parametrize("encoding", COPIED)
def test_packets_are_those_of_the_stream(recorded: Recorded, encoding: str, tmp_path: Path) -> None:
    source = recorded(encoding)
    found, events = demuxed([source.read_bytes()]), remuxed(source.read_bytes())
    for kind, letter, track_id in ((TrackKind.VIDEO, "v", 1), (TrackKind.AUDIO, "a", 2)):
        sent, own = packets(source, letter), of_kind(found, kind)
        assert all(abs(one.pts / 90 - other[0]) <= 1 for one, other in zip(own, sent, strict=True))
        assert [one.is_key for one in own] == [one[2] for one in sent]
        made = tmp_path / f"{letter}.mp4"
        made.write_bytes(track(events, track_id, later=1))
        copied = packets(made, letter)
        assert len(copied) == len(sent) - 1
        late = copied[0][0] - sent[0][0]
        assert [one[2:] for one in copied] == [one[2:] for one in sent[:-1]]
        assert all(abs(other[0] - one[0] - late) <= 1 for one, other in zip(sent[:-1], copied, strict=True))


@pytest.mark.parametrize("encoding", COPIED)
def test_decode_times_rise_are_as_far_apart_as_pictures_and_never_after_presentation(
    recorded: Recorded, encoding: str
) -> None:
    source = recorded(encoding)
    own = of_kind(demuxed([source.read_bytes()]), TrackKind.VIDEO)
    assert all(one.dts <= one.pts for one in own)
    picture = 90_000 / Fraction(RATES.get(encoding, "25"))
    steps = [after.dts - before.dts for before, after in itertools.pairwise(own)]
    # Times in milliseconds are rounded.
    assert all(abs(step - picture) < 91 for step in steps)
    words = "-v error -select_streams v -show_entries stream=has_b_frames -of csv=p=0"
    depth = subprocess.run(
        ["ffprobe", *words.split(), str(source)], check=True, capture_output=True, text=True
    ).stdout
    assert round((min(one.pts for one in own) - own[0].dts) / picture) == int(depth)


def test_a_stream_may_come_in_any_pieces(recorded: Recorded) -> None:
    data = recorded("H.264 with B-frames and AAC").read_bytes()
    whole, chance = demuxed([data]), random.Random(1)
    cuts = sorted(chance.randrange(len(data)) for _ in range(100))
    pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    for cut in (pieces, [data[place : place + 10] for place in range(0, len(data), 10)]):
        assert demuxed(cut) == whole


def test_first_bytes_that_the_header_has_for_all_frames_are_put_back(recorded: Recorded) -> None:
    data = recorded("E-AC-3").read_bytes()
    short = stripped(data, 2, b"\x0b\x77", encoding(b"\x0b\x77"))
    assert [one.data for one in demuxed([short])] == [one.data for one in demuxed([data])]


def test_codecs_and_shapes_are_those_that_ffprobe_finds(recorded: Recorded, tmp_path: Path) -> None:
    wide = tmp_path / "wide.mkv"
    words = f"-nostdin -v error -i {recorded('WebM')} -c copy -aspect 2:1 {wide}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    made = tmp_path / "made.mp4"
    made.write_bytes(track(remuxed(wide.read_bytes()), 1))
    words = "-v error -show_entries stream=codec_name,width,height,sample_aspect_ratio -of json"
    told = json.loads(
        subprocess.run(["ffprobe", *words.split(), str(made)], check=True, capture_output=True).stdout
    )
    (stream,) = told["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("vp9", 160, 120)
    assert stream["sample_aspect_ratio"] == "3:2"


# Streams that are written by hand


VIDEO_ENTRY = b"".join(
    (
        number_of(ids.TRACK_NUMBER, 2),
        number_of(ids.TRACK_TYPE, 1),
        element(ids.CODEC_ID, b"V_VP9"),
        element(ids.VIDEO, number_of(ids.PIXEL_WIDTH, 160) + number_of(ids.PIXEL_HEIGHT, 120)),
    )
)
HEADER = tracks(opus(1), element(ids.TRACK_ENTRY, VIDEO_ENTRY))
UNKNOWN = b"\x01" + b"\xff" * 7


def picture(time: int) -> bytes:
    return block(time, VP9_KEY, track=2)


def test_laced_frames_have_times_of_their_own() -> None:
    laced = [PACKET, PACKET + b"a", PACKET + b"bc"]
    for flags, lace in (
        (0x82, bytes((2, 10, 11))),  # Xiph's
        (0x86, bytes((2, 0x80 | 10, 0x80 | 64))),  # EBML's: the second one is a byte longer
    ):
        data = segment(HEADER, cluster(1000, picture(0), block(40, *laced, flags=flags, lace=lace)))
        audio = of_kind(demuxed([data]), TrackKind.AUDIO)
        assert [one.data for one in audio] == laced
        # Packets of Opus of 20 ms, at 1.04 s.
        assert [one.pts for one in audio] == [93_600, 95_400, 97_200]
    alike = segment(HEADER, cluster(0, picture(0), block(0, PACKET, PACKET, flags=0x84, lace=b"\1")))
    assert [one.pts for one in of_kind(demuxed([alike]), TrackKind.AUDIO)] == [0, 1800]


def test_groups_clusters_of_unknown_size_and_ticks_of_other_lengths_are_read() -> None:
    info = element(ids.INFO, number_of(ids.TIMESTAMP_SCALE, 100_000))
    referring = element(0xA0, block(400, VP9_KEY, track=2, kind=0xA1) + number_of(ids.REFERENCE_BLOCK, 1))
    clusters = cluster(0, picture(0), referring, size=UNKNOWN) + cluster(1000, picture(0), size=UNKNOWN)
    found = demuxed([segment(info, HEADER, clusters, size=UNKNOWN)])
    assert [(one.dts, one.pts, one.is_key) for one in found] == [
        (0, 0, True),
        (3600, 3600, False),
        (9000, 9000, True),
    ]


def test_the_decoders_first_output_comes_before_the_time_of_the_block() -> None:
    delayed = tracks(opus(1, number_of(ids.CODEC_DELAY, 6_500_000)), element(ids.TRACK_ENTRY, VIDEO_ENTRY))
    found = demuxed([segment(delayed, cluster(0, picture(0), block(0, PACKET)))])
    assert [one.pts for one in of_kind(found, TrackKind.AUDIO)] == [-585]


def test_pictures_before_the_first_key_frame_are_left_out() -> None:
    late = segment(HEADER, cluster(0, block(0, VP9_KEY, track=2, flags=0), picture(40)))
    assert [one.pts for one in demuxed([late])] == [3600]


@pytest.mark.parametrize(
    ("data", "error", "told"),
    [
        (segment(tracks(opus(1))), UnsupportedError, "no video"),
        (segment(tracks(*(opus(number) for number in range(1, 1001)))), TooLargeError, "1000 tracks"),
        (
            segment(tracks(opus(1), element(ids.TRACK_ENTRY, VIDEO_ENTRY.replace(b"V_VP9", b"V_VP8")))),
            UnsupportedError,
            "V_VP8",
        ),
        (
            segment(
                tracks(
                    opus(1, element(ids.CONTENT_ENCODINGS, encoding(b"", algorithm=0))),
                    element(ids.TRACK_ENTRY, VIDEO_ENTRY),
                ),
                cluster(0, block(0, PACKET)),
            ),
            UnsupportedError,
            "compressed with zlib",
        ),
        (segment(HEADER, element(ids.SIMPLE_BLOCK, b"", b"\x08\xff\xff\xff\xff")), TooLargeError, "bytes"),
        (segment(HEADER, element(ids.SIMPLE_BLOCK, b"", UNKNOWN)), MalformedError, "unknown size"),
        (segment(HEADER, cluster((1 << 63) - 1)), MalformedError, "a cluster at"),
        (segment(HEADER, cluster(0, block(0, PACKET, flags=0x82, lace=b"\xff"))), MalformedError, "lacing"),
        (segment(HEADER, cluster(0, picture(2000), picture(0))), MalformedError, "video times go back"),
        (b"\0" * 20, MalformedError, "no element"),
    ],
)
def test_what_cant_be_demuxed_is_told(data: bytes, error: type[MediaError], told: str) -> None:
    with pytest.raises(error, match=told):
        demuxed([data])


def test_an_element_is_as_large_as_the_limits_allow() -> None:
    data = segment(HEADER, cluster(0, picture(0), block(0, bytes(2000))))
    demuxer = MatroskaDemuxer(1000)
    with pytest.raises(TooLargeError, match="of 2004 bytes"):
        demuxer.receive_data(data)


def test_damaged_streams_end_with_an_error_and_make_up_no_bytes(recorded: Recorded) -> None:
    data, chance = recorded("H.264 with B-frames and AAC").read_bytes()[:60_000], random.Random(2)
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        try:
            events = remuxed(bytes(damaged))
        except MediaError:
            continue
        assert sum(len(one.data) for one in events if isinstance(one, Fragment)) <= len(data)
        for listed in samples(events).values():
            assert all(sample.duration > 0 for _, sample, _ in listed)


def test_configurations_are_those_of_the_codecs(recorded: Recorded) -> None:
    kinds = {
        parse_sample_entry(one.tracks[0].sample_entries[0]).kind
        for encoding in COPIED
        for one in remuxed(recorded(encoding).read_bytes())
        if isinstance(one, InitSegment)
    }
    assert kinds == {b"avc1", b"hvc1", b"av01", b"vp09", b"mp4a", b"Opus", b"fLaC", b"ac-3", b"ec-3"}
