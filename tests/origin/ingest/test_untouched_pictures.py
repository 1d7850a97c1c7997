"""A publisher's own picture goes out untouched whatever brings it, beside renditions that are made of it.

Of some containers and codecs an ffmpeg copies it, of others none runs; what viewers decode is the same.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import m3u8
import pytest

from packager.process.ffmpeg_discovery import locate
from tests.media.rtmp.newer_ffmpeg import newer_ffmpeg
from tests.origin.ingest.studio import KEY, Studio, encoding, studio
from tests.ports import kept_port

pytestmark = pytest.mark.timeout(900)

INPUTS = "-f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=48000 -t 4"
H264 = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0 -pix_fmt yuv420p"
HEVC = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p -x265-params keyint=25:scenecut=0:log-level=none"
AV1 = "-c:v libsvtav1 -preset 12 -svtav1-params keyint=25 -pix_fmt yuv420p"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -pix_fmt yuv420p"


@dataclass(frozen=True)
class Stream:
    """A publisher's stream, and what becomes of it.

    Attributes:
        coding: its codecs, as ffmpeg's arguments.
        container: of the stream, by ffmpeg's name.
        codecs: how the strings of its codecs begin.
        needs_ffmpeg: whether an ffmpeg runs for it.
        more: further arguments of who sends it.
        ladder: of its channel.
        is_put: whether FLV is sent over HTTP, as any other container is, and not over RTMP.
    """

    coding: str
    container: str
    codecs: tuple[str, str]
    needs_ffmpeg: bool
    more: str = ""
    ladder: tuple[str, ...] = ("source",)
    is_put: bool = False


STREAMS = {
    "HEVC over Enhanced RTMP": Stream(f"{HEVC} -c:a aac", "flv", ("hvc1.", "mp4a."), needs_ffmpeg=False),
    "AV1 and FLAC over Enhanced RTMP": Stream(
        f"{AV1} -c:a flac", "flv", ("av01.", "fLaC"), needs_ffmpeg=False
    ),
    "VP9 and Opus over Enhanced RTMP": Stream(
        f"{VP9} -c:a libopus", "flv", ("vp09.", "Opus"), needs_ffmpeg=False
    ),
    "H.264 and E-AC-3 over RTMP": Stream(f"{H264} -c:a eac3", "flv", ("avc1.", "ec-3"), needs_ffmpeg=False),
    "HEVC with a ladder that is made, too": Stream(
        f"{HEVC} -c:a libopus", "flv", ("hvc1.", "Opus"), needs_ffmpeg=True, ladder=("source", "240p")
    ),
    "HEVC and Opus in FLV over HTTP": Stream(
        f"{HEVC} -c:a libopus", "flv", ("hvc1.", "Opus"), needs_ffmpeg=False, is_put=True
    ),
    "HEVC and AC-3 in MPEG-TS": Stream(f"{HEVC} -c:a ac3", "mpegts", ("hvc1.", "ac-3"), needs_ffmpeg=False),
    "fragmented MP4": Stream(
        f"{H264} -c:a aac",
        "mp4",
        ("avc1.", "mp4a."),
        needs_ffmpeg=False,
        more="-movflags cmaf+empty_moov -frag_duration 200000",
    ),
    "HEVC and Opus in MP4 with a fragment for each key frame": Stream(
        f"{HEVC} -c:a libopus",
        "mp4",
        ("hvc1.", "Opus"),
        needs_ffmpeg=False,
        more="-movflags empty_moov+frag_keyframe+default_base_moof",
    ),
    "Matroska with Opus": Stream(f"{H264} -c:a libopus", "matroska", ("avc1.", "Opus"), needs_ffmpeg=False),
    "HEVC and FLAC in Matroska": Stream(
        f"{HEVC} -c:a flac", "matroska", ("hvc1.", "fLaC"), needs_ffmpeg=False
    ),
    "AV1 and Opus in WebM": Stream(f"{AV1} -c:a libopus", "webm", ("av01.", "Opus"), needs_ffmpeg=False),
    "a ladder that is made, too": Stream(
        f"{H264} -c:a aac", "flv", ("avc1.", "mp4a."), needs_ffmpeg=True, ladder=("source", "240p")
    ),
}


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, int]]:
    """A channel for each of the streams."""
    channels = "".join(
        f'\n[[live]]\nname = "c{index}"\npublish_key = "{KEY}"\nladder = {list(stream.ladder)}\n'
        'source = "publish"\nsegment_duration = 1.0\npart_duration = 0.25\n'
        for index, stream in enumerate(STREAMS.values())
    )
    with kept_port() as port:
        server, folder = f"[server]\nrtmp_port = {port}\n", tmp_path_factory.mktemp("studio")
        with studio(folder, channels, server, ladder=False) as one:
            yield one, port


def pictures(path: Path) -> list[str]:
    """Give the MD5 of each picture of a file, decoded, in the order in which they are shown."""
    words = f"-v error -i {path} -map 0:v -f framemd5 -"
    # The system's, since the wheel's doesn't decode AV1.
    told = subprocess.run([locate()[0], *words.split()], check=True, capture_output=True, text=True).stdout
    return [line.split(",")[5].strip() for line in told.splitlines() if not line.startswith("#")]


@pytest.mark.clause("A publisher's own picture goes out untouched, whatever its container and codecs are")
@pytest.mark.parametrize("name", STREAMS)
def test_viewers_decode_what_was_published(hall: tuple[Studio, int], tmp_path: Path, name: str) -> None:
    (one, port), stream, channel = hall, STREAMS[name], f"c{list(STREAMS).index(name)}"
    # Matroska holds all of them.
    recording = tmp_path / "recording.mkv"
    words = f"-nostdin -v error {INPUTS} {stream.coding} {recording}"
    subprocess.run([newer_ffmpeg(), *words.split()], check=True)
    address = f"{one.server.url}/live/{channel}/ingest?key={KEY}"
    arguments = f"-nostdin -v error -re -stream_loop -1 -i {recording} -c copy {stream.more}"
    output = ["-f", stream.container, "-method", "PUT", address]
    if stream.container == "flv" and not stream.is_put:
        output = ["-f", "flv", f"rtmp://127.0.0.1:{port}/live/{channel}?key={KEY}"]
    with encoding(*arguments.split(), *output, program=newer_ffmpeg()):
        playlist = m3u8.loads(one.wait_for_timeline(rendition="source", name=channel))
        assert one.channel(channel)["publisher"]["is_encoded"] == stream.needs_ffmpeg
        base = f"{one.server.url}/live/{channel}"
        master = m3u8.loads(one.client.get(f"{base}/master.m3u8").text)
        infos = [found.stream_info for found in master.playlists if found.uri == "source/media.m3u8"]
        told = str(infos[0].codecs).split(",")
        assert all(own.startswith(begin) for own, begin in zip(told, stream.codecs, strict=True))
        segment = next(found for found in playlist.segments if found.duration)
        uris = (segment.init_section.uri, segment.uri)
        made = tmp_path / "made.mp4"
        made.write_bytes(b"".join(one.client.get(f"{base}/source/{uri}").content for uri in uris))
    sent, found = pictures(recording), pictures(made)
    assert len(found) >= 12
    first = sent.index(found[0])
    assert found == [sent[(first + index) % len(sent)] for index in range(len(found))]
