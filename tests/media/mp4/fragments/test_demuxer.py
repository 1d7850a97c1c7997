"""media.mp4.fragments.demuxer: the packets of a publisher's fragmented MP4, whatever way it is written."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from media.errors import MediaError, TooLargeError, UnsupportedError
from media.mp4.boxes import box, full_box
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.demuxer import FragmentDemuxer
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.packets import Packet, TrackKind
from tests import hostile_media as hostile
from tests.media.muxers.muxed_streams import FragmentRemuxer, packets, samples, track

H264 = "-c:v libx264 -preset fast -bf 3 -g 25"
EMPTY = "-movflags empty_moov+default_base_moof"
DELAYED = "-movflags delay_moov+default_base_moof"
NEGATIVE = "CMAF, with negative offsets"
FORMS = {
    "a fragment for each key frame": f"{H264} -c:a aac -ar 44100 {EMPTY}+frag_keyframe",
    "offsets from the beginning": f"{H264} -c:a aac -movflags empty_moov+frag_keyframe",
    NEGATIVE: f"{H264} -c:a aac -ar 44100 -movflags cmaf",
    "edit lists": f"{H264} -c:a aac -ar 44100 -movflags delay_moov+frag_keyframe",
    "a fragment for each frame": f"{H264} -c:a aac {EMPTY}+frag_every_frame",
    "HEVC and Opus": "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=3"
    f" -c:a libopus {EMPTY} -frag_duration 300000",
    "hvc1 and E-AC-3": "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25"
    f" -tag:v hvc1 -c:a eac3 {DELAYED} -frag_duration 300000",
    "AV1 and FLAC": f"-c:v libsvtav1 -preset 12 -g 25 -c:a flac -strict -2 {EMPTY}+frag_keyframe",
    "VP9 and AC-3": f"-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -c:a ac3 {DELAYED}+frag_keyframe",
    "ticks of a third of a millisecond": f"{H264} -video_track_timescale 30000 -r 30000/1001"
    f" -c:a aac {EMPTY}+frag_keyframe",
    "no picture": f"-c:a aac -vn {EMPTY}+frag_keyframe",
    "MP3": f"{H264} -c:a libmp3lame {EMPTY}+frag_keyframe",
    "not fragmented": f"{H264} -c:a aac -movflags faststart",
}
COPIED = [one for one in FORMS if one not in ("no picture", "MP3", "not fragmented")]

Recorded = Callable[[str], Path]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record two seconds of a stream."""
    folder, made = tmp_path_factory.mktemp("recorded"), dict[str, Path]()

    def record(form: str) -> Path:
        if form not in made:
            made[form] = folder / f"{len(made)}.mp4"
            inputs = "-f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=48000 -t 2"
            words = f"-nostdin -v error {inputs} {FORMS[form]} -pix_fmt yuv420p {made[form]}"
            subprocess.run(["ffmpeg", *words.split()], check=True, stderr=subprocess.DEVNULL)
        return made[form]

    return record


def demuxed(pieces: Iterable[bytes]) -> list[Packet]:
    demuxer = FragmentDemuxer()
    return [packet for piece in pieces for packet in demuxer.receive_data(piece)]


def remuxed(data: bytes) -> list[InitSegment | Fragment]:
    return FragmentRemuxer(FragmentDemuxer()).receive_data(data)


def of_kind(found: Sequence[Packet], kind: TrackKind) -> list[Packet]:
    return [one for one in found if one.track.kind is kind]


@pytest.mark.parametrize("form", COPIED)
def test_packets_and_their_times_are_those_of_the_stream(
    recorded: Recorded, form: str, tmp_path: Path
) -> None:
    source = recorded(form)
    found, events = demuxed([source.read_bytes()]), remuxed(source.read_bytes())
    for kind, letter, track_id in ((TrackKind.VIDEO, "v", 1), (TrackKind.AUDIO, "a", 2)):
        sent, own = packets(source, letter), of_kind(found, kind)
        assert len(own) == len(sent)
        # ffprobe adds the lowest of negative offsets to the times of all pictures.
        late = 80 if form == NEGATIVE and letter == "v" else 0
        for one, other in zip(own, sent, strict=True):
            assert abs(one.pts / 90 + late - other[0]) <= 1
            assert abs(one.dts / 90 - other[1]) <= 1
            assert one.is_key == other[2]
        made = tmp_path / f"{letter}.mp4"
        made.write_bytes(track(events, track_id, later=1))
        assert [one[2:] for one in packets(made, letter)] == [one[2:] for one in sent[:-1]]


# With a fragment for each frame, ffmpeg repeats a time of sound at the beginning.
@pytest.mark.parametrize("form", [one for one in COPIED if "each frame" not in one])
def test_no_sample_of_sound_drifts(recorded: Recorded, form: str) -> None:
    """Times of sound come out of the muxer as the publisher's, in samples."""
    source = recorded(form)
    words = "-v error -select_streams a -show_entries packet=pts:stream=time_base -of json"
    told = json.loads(
        subprocess.run(["ffprobe", *words.split(), str(source)], check=True, capture_output=True).stdout
    )
    scale = int(told["streams"][0]["time_base"].partition("/")[2])
    events = remuxed(source.read_bytes())
    assert {one.tracks[0].timescale for one in events if isinstance(one, InitSegment)} == {90_000, scale}
    own = [time for time, _, _ in samples(events)[2]]
    assert own == [one["pts"] for one in told["packets"]][: len(own)]


def test_a_stream_may_come_in_any_pieces(recorded: Recorded) -> None:
    data = recorded("edit lists").read_bytes()
    whole, chance = demuxed([data]), random.Random(1)
    cuts = sorted(chance.randrange(len(data)) for _ in range(100))
    pieces = [data[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(data)])]
    for cut in (pieces, [data[place : place + 10] for place in range(0, len(data), 10)]):
        assert demuxed(cut) == whole


def test_configurations_are_those_of_the_codecs(recorded: Recorded, tmp_path: Path) -> None:
    kinds = {
        parse_sample_entry(one.tracks[0].sample_entries[0]).kind
        for form in COPIED
        for one in remuxed(recorded(form).read_bytes())
        if isinstance(one, InitSegment)
    }
    assert kinds == {b"avc1", b"hvc1", b"av01", b"vp09", b"mp4a", b"Opus", b"fLaC", b"ac-3", b"ec-3"}
    for form in ("HEVC and Opus", "AV1 and FLAC"):
        made = tmp_path / "made.mp4"
        made.write_bytes(track(remuxed(recorded(form).read_bytes()), 2))
        words = ["-v", "error", "-i", str(made), "-f", "null", "-"]
        assert not subprocess.run(["ffmpeg", *words], check=True, capture_output=True).stderr


def test_the_shape_of_pixels_is_the_containers(recorded: Recorded, tmp_path: Path) -> None:
    wide, made = tmp_path / "wide.mp4", tmp_path / "made.mp4"
    words = (
        f"-nostdin -v error -i {recorded('VP9 and AC-3')} -c copy -aspect 2:1 {DELAYED}+frag_keyframe {wide}"
    )
    subprocess.run(["ffmpeg", *words.split()], check=True)
    made.write_bytes(track(remuxed(wide.read_bytes()), 1))
    words = "-v error -show_entries stream=sample_aspect_ratio -of csv=p=0"
    told = subprocess.run(["ffprobe", *words.split(), str(made)], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "3:2"


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("no picture", "no video"),
        ("MP3", "isn't AAC"),
        ("not fragmented", "isn't fragmented"),
    ],
)
def test_what_cant_be_demuxed_is_told(recorded: Recorded, form: str, told: str) -> None:
    with pytest.raises(UnsupportedError, match=told):
        demuxed([recorded(form).read_bytes()])


def head(recorded: Recorded) -> bytes:
    """Return the boxes in front of the first fragment."""
    data = recorded("a fragment for each key frame").read_bytes()
    return data[: data.index(b"moof") - 4]


def test_encrypted_tracks_and_tracks_of_several_configurations_are_refused(recorded: Recorded) -> None:
    with pytest.raises(UnsupportedError, match="encrypted"):
        demuxed([head(recorded).replace(b"avc1\0\0", b"encv\0\0")])


def test_more_samples_boxes_or_bytes_than_the_limits_allow_are_refused(recorded: Recorded) -> None:
    init = head(recorded)
    for make in (hostile.many_samples, hostile.samples_of_nothing, hostile.boxes_in_trafs):
        with pytest.raises(TooLargeError):
            demuxed([make(init, 1 << 16)])
    with pytest.raises(TooLargeError, match="more than"):
        demuxed([init + b"\x7f\xff\xff\xffmdat"])
    tracks = b"".join(box(b"trak") for _ in range(1000))
    with pytest.raises(MediaError):
        demuxed([box(b"ftyp", b"iso6", bytes(4)) + box(b"moov", full_box(b"mvhd", 0, 0, bytes(96)), tracks)])


def test_damaged_streams_end_with_an_error_and_make_up_no_bytes(recorded: Recorded) -> None:
    data, chance = recorded(NEGATIVE).read_bytes()[:60_000], random.Random(2)
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
