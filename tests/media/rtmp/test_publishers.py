"""What real publishers send: ffmpeg of two ages, GStreamer and librtmp, recorded as they publish."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from media.rtmp import chunks
from media.rtmp.chunks import Message
from media.rtmp.connection import ConnectRequest, PublishRequest, StreamEnded
from tests.media.flv.flv_tags import write_tag
from tests.media.rtmp.newer_ffmpeg import INPUTS, OUTPUT, SECONDS, newer_ffmpeg
from tests.programs import program
from tests.rtmp import Recording, read, record


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.flv"
    words = f"ffmpeg {INPUTS} {OUTPUT} -c:v libx264 -bf 2 -c:a aac {path}"
    subprocess.run(words.split(), check=True)
    return path


def assert_same_however_cut(recording: Recording) -> None:
    data = bytes(recording.data)
    assert read([data])[::2] == (recording.events, "")
    for portion in (1, 1024 + 7):
        pieces = [data[at : at + portion] for at in range(0, len(data), portion)]
        assert read(pieces)[::2] == (recording.events, "")


def as_file(recording: Recording) -> bytes:
    """Write what was published as an FLV file."""
    media = [event for event in recording.events if isinstance(event, Message)]
    tags = (write_tag(one.kind, one.timestamp, one.payload) for one in media)
    return flv_tags.file_header() + b"".join(tags)


def packets(path: Path, program: str = "ffprobe") -> list[str]:
    """Give codec, times, size and checksum of every packet, as a program reads them."""
    words = f"{program} -v error -i {path} -map 0 -c copy -f framemd5 -"
    done = subprocess.run(words.split(), check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if not line.startswith("#software")]


GST = (
    "gst-launch-1.0 -q filesrc location={film} ! flvdemux name=d d.video ! queue ! h264parse"
    " ! flvmux name=m streamable=true ! {sink} d.audio ! queue ! aacparse ! m."
)
PUBLISHERS = [
    "ffmpeg -v error -i {film} -c copy -f flv {url}/demo?key=a%2Fb",
    "ffmpeg -v error -i {film} -c copy -f flv -rtmp_playpath demo?key=a%2Fb {url}",
    "ffmpeg -v error -i {film} -c copy -f flv -rtmp_tcurl rtmp://host/live?key=a%2Fb {url}/demo",
    GST.replace("{sink}", "rtmp2sink location={url}/demo?key=a%2Fb"),
    GST.replace("{sink}", "rtmpsink location={url}/demo?key=a%2Fb"),
]


@pytest.mark.parametrize("words", PUBLISHERS)
def test_a_real_publishers_stream_arrives_packet_by_packet(words: str, film: Path, tmp_path: Path) -> None:
    program(words.split()[0])
    recording = record(words.replace("{film}", str(film)).split())
    assert recording.status == 0, recording.output
    assert isinstance(recording.events[0], ConnectRequest)
    assert recording.events[1] == PublishRequest("live", "demo", {"key": "a/b"})
    assert isinstance(recording.events[-1], StreamEnded)
    assert_same_however_cut(recording)
    path = tmp_path / "got.flv"
    path.write_bytes(as_file(recording))
    if words.startswith("ffmpeg"):
        assert packets(path, "ffmpeg") == packets(film, "ffmpeg")
    else:
        # GStreamer writes headers of its own; the pictures are the same.
        pictures = [line.split(",")[-1] for line in packets(film, "ffmpeg") if line.startswith("0,")]
        assert [line.split(",")[-1] for line in packets(path, "ffmpeg") if line.startswith("0,")] == pictures


def test_a_publisher_who_began_hours_ago_has_extended_timestamps(film: Path) -> None:
    later = f"ffmpeg -v error -i {film} -c copy -output_ts_offset 16776.5 -f flv {{url}}/demo"
    recording = record(later.split())
    times = [one.timestamp for one in recording.events if isinstance(one, Message)]
    assert recording.status == 0
    assert max(times) > 0xFFFFFF
    assert min(time for time in times if time) < 0xFFFFFF
    assert_same_however_cut(recording)


@pytest.mark.parametrize(
    ("video", "sound"),
    [("libx264", "aac"), ("libx265", "libopus"), ("libsvtav1", "flac"), ("libvpx-vp9", "eac3")],
)
def test_a_publisher_of_newer_codecs_arrives_packet_by_packet(video: str, sound: str, tmp_path: Path) -> None:
    program, codecs = newer_ffmpeg(), f"-c:v {video} -c:a {sound}"
    recording = record(f"{program} {INPUTS} {OUTPUT} {codecs} -f flv {{url}}/demo".split())
    assert recording.status == 0, recording.output
    assert_same_however_cut(recording)
    path = tmp_path / "got.flv"
    path.write_bytes(as_file(recording))
    found = packets(path, program)
    assert sum(line.startswith("0,") for line in found) == 25 * SECONDS
    assert any(line.startswith("1,") for line in found)


def test_who_wants_to_watch_with_rtmpdump_is_told_that_this_is_for_publishers(tmp_path: Path) -> None:
    program("rtmpdump")
    recording = record(f"rtmpdump -r {{url}}/demo -o {tmp_path / 'none.flv'}".split())
    assert recording.status != 0
    assert "NetStream.Play.Failed" in recording.output
    assert [type(event) for event in recording.events] == [ConnectRequest]


def test_script_data_of_a_publisher_begins_as_in_a_file(film: Path) -> None:
    recording = record(f"ffmpeg -v error -i {film} -c copy -f flv {{url}}/demo".split())
    scripts = [
        one.payload for one in recording.events if isinstance(one, Message) and one.kind == chunks.DATA
    ]
    assert [script[:13] for script in scripts] == [b"\2\0\x0aonMetaData"]
