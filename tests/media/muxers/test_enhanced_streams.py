"""What ffmpeg 8.1 publishes in the newer codecs is remuxed packet by packet, and can be decoded."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from media.flv.stream_reader import FlvReader
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.packets import TrackKind
from packager.process.ffmpeg_discovery import locate
from tests.media.muxers.muxed_streams import (
    EXECUTIONS,
    FragmentRemuxer,
    check_hostile,
    remuxed,
    samples,
    tags_of,
    track,
)
from tests.media.muxers.muxed_streams import packets as packets_of
from tests.media.rtmp.newer_ffmpeg import newer_ffmpeg

PICTURES = {
    "hvc1": "-c:v libx265 -preset ultrafast -bf 3 -x265-params bframes=3:b-adapt=0:keyint=12:log-level=none",
    "av01": "-c:v libsvtav1 -preset 12 -svtav1-params keyint=12",
    "vp09": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 12",
    "avc1": "-c:v libx264 -preset ultrafast -bf 2 -g 12",
}
SOUNDS = {
    "Opus": "-c:a libopus",
    "fLaC": "-c:a flac",
    "ac-3": "-c:a ac3",
    "ec-3": "-c:a eac3",
    "mp4a": "-c:a aac",
}
PAIRS = [("hvc1", "Opus"), ("av01", "fLaC"), ("vp09", "ec-3"), ("avc1", "ac-3"), ("hvc1", "mp4a")]
RATES = {"vp09": 90_000, "fLaC": 48_000, "ec-3": 48_000}
DELIMITER = b"\x12\0"
"""An AV1 temporal delimiter, which begins what ffmpeg sends, and isn't in MP4."""

Recorded = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record a second and a half of a stream of two codecs."""
    folder, made = tmp_path_factory.mktemp("recorded"), dict[tuple[str, str], Path]()

    def record(picture: str, sound: str) -> Path:
        if (picture, sound) not in made:
            path = made[picture, sound] = folder / f"{len(made)}.flv"
            inputs = "-f lavfi -i testsrc2=size=64x48:rate=24000/1001 -f lavfi -i sine=440:sample_rate=48000"
            words = f"-nostdin -v error {inputs} -t 1.5 {PICTURES[picture]} {SOUNDS[sound]} -pix_fmt yuv420p"
            command = [newer_ffmpeg(), *words.split(), str(path)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return made[picture, sound]

    return record


@pytest.mark.clause("Newer codecs of Enhanced RTMP are copied packet by packet, at the publisher's times")
@pytest.mark.parametrize(("picture", "sound"), PAIRS)
def test_packets_are_those_of_the_stream(
    recorded: Recorded, picture: str, sound: str, tmp_path: Path
) -> None:
    source, made = recorded(picture, sound), tmp_path / "made.mp4"
    events = remuxed([source.read_bytes()])
    for track_id, kind, tolerance in ((1, "v", 0), (2, "a", 1)):
        made.write_bytes(track(events, track_id))
        sent, found = packets_of(source, kind), packets_of(made, kind)
        assert len(found) == len(sent) - 1 > 10
        shift = sent[0][1] - found[0][1]
        for one, other in zip(sent, found, strict=False):
            assert one[2] == other[2]
            assert abs(one[0] - other[0] - shift) <= tolerance
            assert abs(one[1] - other[1] - shift) <= tolerance
        prefix = DELIMITER if (picture, kind) == ("av01", "v") else b""
        hashes = [hashlib.md5(prefix + data).hexdigest() for _, _, data in samples(events)[track_id]]
        assert [one[3].removeprefix("MD5:") for one in sent[:-1]] == hashes
        # Of another release, and none of its decoders has anything to say.
        shown = subprocess.run(
            [locate()[0], "-v", "warning", "-i", made, "-f", "null", "-"], capture_output=True, check=True
        )
        assert shown.stderr == b""


@pytest.mark.parametrize(
    ("picture", "sound", "codecs"),
    [
        ("hvc1", "Opus", ("hvc1.1.6.L30.90", "Opus")),
        ("av01", "fLaC", ("av01.0.00M.08", "fLaC")),
        ("vp09", "ec-3", ("vp09.00.10.08", "ec-3")),
        ("avc1", "ac-3", ("avc1.42c00a", "ac-3")),
    ],
)
def test_sample_entries_say_codec_and_size(
    recorded: Recorded, picture: str, sound: str, codecs: tuple[str, str]
) -> None:
    events = remuxed([recorded(picture, sound).read_bytes()])
    tracks = [event.tracks[0] for event in events if isinstance(event, InitSegment)]
    entries = {one.track_id: parse_sample_entry(one.sample_entries[0]) for one in tracks}
    assert len(tracks) == 2
    assert (entries[1].width, entries[1].height) == (64, 48)
    assert (entries[2].sample_rate, entries[2].channels) == (48_000, 1)
    assert entries[1].codec.rpartition(".")[0] == codecs[0].rpartition(".")[0]
    assert entries[2].codec == codecs[1]


@pytest.mark.parametrize(("picture", "sound"), PAIRS)
def test_a_stream_may_come_in_any_pieces_or_as_tags(recorded: Recorded, picture: str, sound: str) -> None:
    data = recorded(picture, sound).read_bytes()
    whole, chance = remuxed([data]), random.Random(1)
    cuts = sorted(chance.randrange(len(data)) for _ in range(100))
    pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    for cut in (pieces, [data[place : place + 1] for place in range(len(data))]):
        assert samples(remuxed(cut)) == samples(whole)
    remuxer, by_tags = FragmentRemuxer(), list[InitSegment | Fragment]()
    remuxer.receive_data(data[: flv_tags.FILE_HEADER])
    for tag in tags_of(data):
        time = int.from_bytes(tag[7:8] + tag[4:7], "big")
        by_tags += remuxer.receive_tags([(tag[0], time, tag[flv_tags.TAG_HEADER : -flv_tags.SIZE_BEHIND])])
    assert samples(by_tags) == samples(whole)


@pytest.mark.parametrize(("picture", "sound"), PAIRS)
def test_the_stream_is_divided_where_its_key_frames_are_and_nowhere_changes(
    recorded: Recorded, picture: str, sound: str
) -> None:
    source, reader = recorded(picture, sound), FlvReader()
    found = reader.receive_data(source.read_bytes())
    pictures = [one for one in found if one.access and one.packets[0].track.kind is TrackKind.VIDEO]
    assert len(pictures) == sum(one[2] for one in packets_of(source, "v"))
    assert not any(one.changes for one in found)
    assert reader.muxed_container == "matroska"
    assert picture == "avc1" or picture.encode() in reader.signature


@pytest.mark.parametrize(("picture", "sound"), PAIRS)
def test_whatever_comes_times_go_on_and_errors_are_media_errors(
    recorded: Recorded, picture: str, sound: str
) -> None:
    tags = list(tags_of(recorded(picture, sound).read_bytes()))[:40]
    refused = check_hostile(tags, EXECUTIONS, 1)
    assert 0 < refused < EXECUTIONS
