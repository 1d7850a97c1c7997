"""The Matroska that ffmpeg gets in place of FLV with codecs that old ones misread there."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MediaError, UnsupportedError
from media.flv.amf0 import write_values
from media.flv.demuxer import FlvDemuxer
from media.flv.tags import AUDIO, SCRIPT, VIDEO
from media.matroska.stream_reader import MatroskaStreamReader
from media.muxers.matroska_muxer import MatroskaMuxer
from media.rtmp.chunks import Message
from packager.process.ffmpeg_discovery import locate
from tests.media.rtmp.newer_ffmpeg import INPUTS, OUTPUT, SECONDS, newer_ffmpeg
from tests.rtmp import record

AVC, AAC = b"\x17\0\0\0\0" + bytes(20), b"\xaf\0\x12\x10"
HEVC, OPUS = b"\x90hvc1" + bytes(30), b"\x90OpusOpusHead\1\2" + struct.pack("<HIHB", 312, 48000, 0, 0)
KEY = b"\x93hvc1" + b"picture"

Tag = tuple[int, int, bytes]


def written(*tags: Tag) -> bytes:
    demuxer, muxer = FlvDemuxer(), MatroskaMuxer()
    return b"".join(muxer.push(demuxer.receive_tags([tag])) for tag in tags)


@pytest.mark.clause("CWE-770")
@pytest.mark.parametrize(
    ("first", "frame", "count"),
    [
        ((VIDEO, 0, HEVC), KEY, 128),
        ((VIDEO, 0, HEVC), KEY + bytes(1 << 20), 8),
    ],
)
def test_no_more_than_a_limit_is_held_back_however_slowly_time_goes(
    first: Tag, frame: bytes, count: int
) -> None:
    tags = [first, *[(first[0], 0, frame)] * count]
    assert written(*tags[:-1]) == b""
    assert written(*tags).count(frame.removeprefix(KEY[:5])) == count


@pytest.mark.parametrize(
    ("kind", "body"), [(VIDEO, b"\x12ab"), (AUDIO, b"\xbfab"), (VIDEO, b"\x91vvc1\0\0\0ab")]
)
def test_a_codec_that_nobody_plays_is_refused(kind: int, body: bytes) -> None:
    with pytest.raises(UnsupportedError, match="unsupported "):
        written((kind, 0, body))


def chunks_of(data: bytes) -> tuple[int, int, bytes]:
    """Give access points and changes that a channel sees in a stream, and what tells its codecs."""
    reader = MatroskaStreamReader()
    found = reader.receive_data(data)
    return sum(one.access for one in found), sum(one.changes for one in found), reader.signature


def test_times_wrap_and_metadata_tell_the_size() -> None:
    metadata = write_values(["onMetaData", {"width": 320.0, "height": 180.0, "framerate": 25.0}])
    begin: list[Tag] = [(SCRIPT, 0, metadata), (VIDEO, 0xFFFFFFE0, HEVC), (AUDIO, 0xFFFFFFE0, OPUS)]
    frames: list[Tag] = [(VIDEO, 0xFFFFFFE0, KEY), (AUDIO, 0xFFFFFFF0, b"\x91Opusa"), (VIDEO, 8, KEY)]
    access, changes, signature = chunks_of(written(*begin, *frames))
    assert (access, changes) == (2, 0)
    assert b"(320, 180)" in signature
    assert b"V_MPEGH/ISO/HEVC" in signature
    assert b"A_OPUS" in signature


@pytest.mark.parametrize("later", [0, 3_500_000, 3_589_000])
def test_a_clock_that_begins_anew_is_a_jump_behind_which_time_goes_on(later: int) -> None:
    before: list[Tag] = [(VIDEO, 3_600_000 + time, HEVC if time == 0 else KEY) for time in range(0, 2000, 40)]
    behind: list[Tag] = [(VIDEO, later + time, KEY) for time in range(0, 2000, 40)]
    found = MatroskaStreamReader().receive_data(written(*before, *behind))
    clocks = [one.clock for one in found if one.access and one.clock is not None]
    (change,) = [index for index, one in enumerate(found) if one.changes]
    assert change == len(found) - len(behind) - 1
    assert clocks[-1] - clocks[-len(behind)] == (2000 - 40) * 90


def test_a_picture_shown_long_before_it_is_decoded_harms_nobody() -> None:
    early = b"\x91hvc1\x80\0\0picture"
    assert chunks_of(written((VIDEO, 0, HEVC), (VIDEO, 0, early), (VIDEO, 2000, KEY)))[0] == 2


def test_another_configuration_and_a_late_track_can_not_go_on_in_one_stream() -> None:
    begin: list[Tag] = [(VIDEO, 0, HEVC), (VIDEO, 0, KEY), (VIDEO, 2000, KEY)]
    assert chunks_of(written(*begin))[:2] == (2, 0)
    other: list[Tag] = [(VIDEO, 2040, HEVC + b"x"), (VIDEO, 2040, KEY)]
    with pytest.raises(UnsupportedError, match="tracks change"):
        written(*begin, *other)
    late: list[Tag] = [(AUDIO, 2040, OPUS), (AUDIO, 2040, b"\x91Opusa"), (VIDEO, 2080, KEY)]
    with pytest.raises(UnsupportedError, match="tracks change"):
        written(*begin, *late)


def test_only_the_first_track_of_pictures_goes_on() -> None:
    two = b"\x96\x13hvc1\0\0\0\2ab\1\0\0\3cde"
    found = written((VIDEO, 0, HEVC), (AUDIO, 0, OPUS), (AUDIO, 0, b"\x91Opusa"), (VIDEO, 0, two))
    assert b"ab" in found
    assert b"cde" not in found


@pytest.mark.parametrize(
    ("video", "sound", "codecs"),
    [
        ("libx264", "aac", {"h264", "aac"}),
        ("libx265 -bf 2", "libopus", {"hevc", "opus"}),
        ("libx265", "aac", {"hevc", "aac"}),
        ("libsvtav1", "flac", {"av1", "flac"}),
        ("libvpx-vp9", "eac3", {"vp9", "eac3"}),
        ("libx264", "ac3", {"h264", "ac3"}),
        ("libx265", "libmp3lame", {"hevc", "mp3"}),
    ],
)
def test_an_old_ffmpeg_decodes_what_a_new_one_publishes(
    video: str, sound: str, codecs: set[str], tmp_path: Path
) -> None:
    words = f"{newer_ffmpeg()} {INPUTS} {OUTPUT} -c:v {video} -c:a {sound} -f flv {{url}}/demo"
    recording = record(words.split())
    assert recording.status == 0, recording.output
    media = [one for one in recording.events if isinstance(one, Message)]
    path = tmp_path / "stream"
    path.write_bytes(written(*((one.kind, one.timestamp, one.payload) for one in media)))
    probe = "-v error -count_frames -of json -show_entries stream=codec_name,width,nb_read_frames"
    done = subprocess.run([locate()[1], *probe.split(), path], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    streams = json.loads(done.stdout)["streams"]
    assert {one["codec_name"] for one in streams} == codecs
    pictures = next(one for one in streams if "width" in one)
    assert (pictures["width"], int(pictures["nb_read_frames"])) == (160, 25 * SECONDS)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([AUDIO, VIDEO, SCRIPT]),
            st.integers(0, 0xFFFFFFFF),
            st.one_of(
                st.sampled_from([AVC, AAC, HEVC, OPUS, KEY, b"\x91Opusa", b"\x17\1\0\0\0ab"]),
                st.binary(max_size=60),
            ),
        ),
        max_size=12,
    )
)
def test_nothing_breaks_the_writer_and_all_that_it_writes_is_read(tags: list[Tag]) -> None:
    with contextlib.suppress(MediaError):
        if data := written(*tags):
            chunks_of(data)
