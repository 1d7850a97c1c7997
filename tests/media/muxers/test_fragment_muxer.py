"""media.muxers.fragment_muxer: what a publisher sent, packet by packet, and nothing worse than an error."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from media.errors import MediaError
from media.flv import tags as flv_tags
from media.mp4.fragments.fragments import Fragment
from tests.media.flv.flv_tags import write_tag
from tests.media.muxers.muxed_streams import (
    EXECUTIONS,
    check_hostile,
    packets,
    remuxed,
    samples,
    tags_of,
    track,
)

ENCODINGS = {
    "B-frames at 29.97 a second": "-r 30000/1001 -c:v libx264 -preset fast -bf 3 -g 30 -c:a aac -ar 44100",
    "no delay": "-r 25 -c:v libx264 -preset ultrafast -tune zerolatency -g 25 -c:a aac -ar 48000",
}
WIDE_PIXELS = "-r 25 -c:v libx264 -bsf:v h264_metadata=sample_aspect_ratio=60000/1 -an"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Record two seconds of a stream."""
    folder, made = tmp_path_factory.mktemp("recorded"), dict[str, Path]()

    def record(encoding: str) -> Path:
        if encoding not in made:
            made[encoding] = folder / f"{len(made)}.flv"
            inputs = "-f lavfi -i testsrc2=size=64x48 -f lavfi -i sine=440 -t 2 -pix_fmt yuv420p"
            words = f"-nostdin -v error {inputs} {ENCODINGS.get(encoding, encoding)} {made[encoding]}"
            subprocess.run(["ffmpeg", *words.split()], check=True)
        return made[encoding]

    return record


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_packets_are_those_of_the_stream(
    recorded: Callable[[str], Path], encoding: str, tmp_path: Path
) -> None:
    source, made = recorded(encoding), tmp_path / "made.mp4"
    events = remuxed([source.read_bytes()])
    for track_id, kind, tolerance in ((1, "v", 0), (2, "a", 1)):
        made.write_bytes(track(events, track_id))
        sent, found = packets(source, kind), packets(made, kind)
        # How long the last one lasts would be known with the next.
        assert len(found) == len(sent) - 1 > 40
        for one, other in zip(sent, found, strict=False):
            assert one[2:] == other[2:]
            # FLV has milliseconds, AAC's frames their own duration.
            assert abs(one[0] - other[0]) <= tolerance
            assert abs(one[1] - other[1]) <= tolerance


def test_a_stream_may_come_in_any_pieces(recorded: Callable[[str], Path]) -> None:
    data = recorded("no delay").read_bytes()
    whole, chance = remuxed([data]), random.Random(1)
    cuts = sorted(chance.randrange(len(data)) for _ in range(200))
    pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    for cut in (pieces, [data[place : place + 1] for place in range(len(data))]):
        assert samples(remuxed(cut)) == samples(whole)


def audio(time: int, data: bytes = b"frame") -> bytes:
    return write_tag(flv_tags.AUDIO, time, b"\xaf\1" + data)


AAC_48000 = write_tag(flv_tags.AUDIO, 0, b"\xaf\0\x11\x90")


def test_a_frame_of_sound_lasts_its_time_unless_one_is_missing() -> None:
    times = [0, 21, 43, 64, 85, 300, 320, 320, 362]
    events = remuxed([flv_tags.file_header() + AAC_48000, *(audio(time) for time in times)])
    fragments = [event for event in events if isinstance(event, Fragment)]
    durations = [sample.duration for fragment in fragments for sample in fragment.samples]
    assert durations == [1024] * 4 + [300 * 48 - 4096, 1024, 1024, 1024]


@pytest.mark.parametrize(
    "data",
    [
        b"\x47" * 100,
        flv_tags.file_header() + write_tag(flv_tags.VIDEO, 0, b"\x12\0\0\0\0"),
        flv_tags.file_header() + write_tag(flv_tags.AUDIO, 0, b"\x2f\0"),
        flv_tags.file_header() + write_tag(flv_tags.VIDEO, 0, b"\x17\0\0\0\0" + bytes(9)),
        flv_tags.file_header() + write_tag(flv_tags.AUDIO, 0, b"\xaf\0\x11"),
        flv_tags.file_header() + b"\x09\xff\xff\xff" + bytes(20),
    ],
    ids=["no FLV", "H.263", "MP3", "no parameter set", "AAC cut off", "a tag of 16 MB"],
)
def test_what_can_not_be_copied_is_an_error(data: bytes) -> None:
    with pytest.raises(MediaError):
        remuxed([data])


def test_pixels_wider_than_a_track_header_can_say_are_an_error(recorded: Callable[[str], Path]) -> None:
    with pytest.raises(MediaError, match="a picture shown at 3840000 x 48 pixels"):
        remuxed([recorded(WIDE_PIXELS).read_bytes()])


def test_frames_before_another_configuration_are_kept_however_they_come() -> None:
    other = write_tag(flv_tags.AUDIO, 64, b"\xaf\0\x12\x10")
    frames = b"".join(audio(time) for time in (0, 21, 43))
    tags = [flv_tags.file_header() + AAC_48000, frames, other, frames]
    whole, cut = remuxed([b"".join(tags)]), remuxed(tags)
    assert whole == cut
    assert [len(event.samples) if isinstance(event, Fragment) else 0 for event in whole] == [0, 2, 0, 2]


def test_whatever_comes_times_go_on_and_errors_are_media_errors(recorded: Callable[[str], Path]) -> None:
    tags = list(tags_of(recorded("no delay").read_bytes()))[:40]
    refused = check_hostile(tags, EXECUTIONS, 1)
    assert 0 < refused < EXECUTIONS
