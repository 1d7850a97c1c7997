"""Publishing in many requests, a track or a segment in each, by ffmpeg's muxers and by hand."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.ingest.segmented_publishing import FOLDERS_SECONDS
from tests.origin.ingest.studio import CODING, KEY, Studio, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

PICTURE = "-re -f lavfi -i testsrc2=size=160x120:rate=10"
SOUND = "-re -f lavfi -i sine=440:sample_rate=48000"
FRAGMENTS = "-f mp4 -movflags cmaf+empty_moov+frag_keyframe"


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A channel that each test finds without publishers, and leaves so."""
    with studio(tmp_path_factory.mktemp("studio")) as one:
        yield one


def with_key(hall: Studio) -> str:
    """Where a muxer publishes to that names its segments itself: the key is the password in the URL."""
    return hall.address.replace("http://", f"http://encoder:{KEY}@")


@pytest.mark.promise("POST /live/CHANNEL/ingest/NAME")
@pytest.mark.clause("ffmpeg publishes to a live channel with its muxers of DASH and HLS")
@pytest.mark.parametrize(
    ("more", "name", "container"),
    [
        ("-f dash -window_size 2 -extra_window_size 0 -method PUT", "manifest.mpd", "mp4"),
        ("-f hls -hls_flags delete_segments -method PUT", "stream.m3u8", "mpegts"),
        ("-f hls -hls_segment_type fmp4 -method PUT", "stream.m3u8", "mp4"),
        ("-f dash -streaming 1 -ldash 1 -method POST -http_persistent 1", "low/manifest.mpd", "mp4"),
    ],
    ids=["DASH", "HLS", "HLS of fragments", "low-latency DASH"],
)
def test_ffmpeg_publishes_segments(hall: Studio, more: str, name: str, container: str) -> None:
    hall.wait_for_state("idle")
    before = hall.media_playlist_so_far()
    duration = "-seg_duration 1" if "dash" in more else "-hls_time 1"
    words = f"-nostdin -v error {PICTURE} {SOUND} {CODING} -g 10 {duration} {more}"
    with encoding(*words.split(), f"{with_key(hall)}/{name}") as encoder:
        hall.wait_for_timeline(before)
        told = hall.channel()["publisher"]
        assert (told["protocol"], told["container"]) == ("http", container)
        assert (told["video_codec"], told["audio_codec"]) == ("h264", "aac")
        encoder.send_signal(signal.SIGINT)  # as who presses q: it writes its last manifest
        assert encoder.wait(CLIENT_SECONDS) in (0, 255)
    # The last manifest or playlist says that it is over: nothing is waited for. In low-latency DASH ffmpeg
    # 5.1 doesn't send it where it is interrupted in some tenths of each second.
    hall.wait_for_state("idle")
    silent = ["nothing of a stream came for 15 s"] if "ldash" in more else []
    assert hall.channel()["publisher"]["last_error"] in ["", *silent]


@pytest.mark.clause("A request for each track publishes to a live channel")
def test_each_track_comes_in_a_request_of_its_own(hall: Studio) -> None:
    hall.wait_for_state("idle")
    before = hall.media_playlist_so_far()
    words = f"-nostdin -v error {PICTURE} {SOUND} {CODING} -g 10"
    tracks = {"video.cmfv": "-map 0:v", "audio.cmfa": "-map 1:a -frag_duration 500000"}
    for name, which in tracks.items():
        words += f" {which} {CODING} -g 10 {FRAGMENTS} -method PUT {hall.address}/{name}?key={KEY}"
    with encoding(*words.split()):
        hall.wait_for_timeline(before)
        told = hall.channel()["publisher"]
        assert (told["video_codec"], told["audio_codec"], told["container"]) == ("h264", "aac", "mp4")
    # It was killed: its requests break off, and the rest of a fragment is nobody's.
    hall.wait_for_state("idle")


@pytest.mark.clause("Of several variants that an encoder uploads the first by name is played")
@pytest.mark.parametrize("place", ["seg_%v_%d.m4s", "v%v/seg_%d.m4s"], ids=["one folder", "a folder each"])
def test_of_several_variants_the_first_is_played(hall: Studio, place: str) -> None:
    """As ffmpeg's muxer of HLS sends them: they are one publisher's, and don't replace each other."""
    hall.wait_for_state("idle")
    before = hall.media_playlist_so_far()
    words = f"-nostdin -v error {PICTURE} {SOUND} -map 0:v -map 0:v -map 1:a -map 1:a {CODING} -g 10"
    words += " -s:v:1 80x60 -f hls -hls_time 1 -hls_segment_type fmp4 -method PUT"
    init = "init.mp4" if "/" in place else "init_%v.mp4"
    words += f" -hls_fmp4_init_filename {init} -hls_segment_filename {with_key(hall)}/{place}"
    playlist = (
        f"{with_key(hall)}/{place.rpartition('seg_')[0]}{'out.m3u8' if '/' in place else 'out_%v.m3u8'}"
    )
    with encoding(*words.split(), "-var_stream_map", "v:0,a:0 v:1,a:1", playlist):
        hall.wait_for_timeline(before)
        told = hall.channel()["publisher"]
        assert (told["publishers"], told["width"], told["height"]) == (1, 160, 120)
    wait_for(lambda: hall.channel()["publisher"]["publishers"] == 0, "its end")
    hall.wait_for_state("idle")


def first_number(playlist: str) -> int:
    """Give the number of the first segment that is listed."""
    return int(playlist.partition("#EXT-X-MEDIA-SEQUENCE:")[2].split("\n")[0])


@pytest.mark.clause("A second publisher takes the place of the first when its stream is known to be one")
def test_a_second_segmenting_encoder_takes_the_place_of_the_first(hall: Studio) -> None:
    hall.wait_for_state("idle")
    before = hall.media_playlist_so_far()
    words = f"-nostdin -v error {PICTURE} {SOUND} {CODING} -g 10 -f hls -hls_time 1 -method PUT"
    with encoding(*words.split(), f"{with_key(hall)}/first/stream.m3u8") as first:
        before = hall.wait_for_timeline(before)
        # What begins in a folder beside a stream's own just after it is one more variant of that stream.
        begun = hall.channel()["publisher"]["since"]
        wait_for(lambda: time.time() - begun > FOLDERS_SECONDS + 1, "the end of that time")
        fragments = f"{words} -hls_segment_type fmp4".split()
        with encoding(*fragments, f"{with_key(hall)}/second/stream.m3u8") as second:
            wait_for(lambda: hall.channel()["publisher"].get("container") == "mp4", "the second one")
            before = hall.wait_for_timeline(before)
            number = first_number(before)
            # The first one sends its segments all the same, and doesn't take its place back.
            wait_for(lambda: first_number(hall.media_playlist()) > number + 2, "more of the second one")
            told = hall.channel()["publisher"]
            assert (told["container"], told["publishers"]) == ("mp4", 1)
            assert first.poll() is None
            second.send_signal(signal.SIGINT)
            assert second.wait(CLIENT_SECONDS) in (0, 255)
        hall.wait_for_timeline(before)
        assert hall.channel()["publisher"]["container"] == "mpegts"
    hall.wait_for_state("idle")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds as ffmpeg's muxer of DASH writes them."""
    folder = tmp_path_factory.mktemp("recorded")
    words = f"-v error {PICTURE} {SOUND} {CODING} -g 10 -t 2 -seg_duration 1 -f dash".replace("-re ", "")
    subprocess.run(["ffmpeg", *words.split(), str(folder / "manifest.mpd")], check=True)
    return folder


def test_what_cannot_be_taken_is_told(hall: Studio, recorded: Path) -> None:
    hall.wait_for_state("idle")

    def put(name: str, data: bytes, key: str = KEY, method: str = "PUT") -> int:
        return hall.client.request(method, f"{hall.address}/{name}?key={key}", content=data).status_code

    names = ("init-stream0.m4s", "chunk-stream0-00001.m4s")
    init, segment = [(recorded / name).read_bytes() for name in names]
    assert put("init-stream0.m4s", init, key="wrong") == 401
    assert put("chunk-stream0-00001.m4s", b"", key="", method="DELETE") == 401
    assert put("chunk-stream0-00001.m4s", b"", method="DELETE") == 204
    assert put("chunk-stream0-00001.m4s", segment) == 412, "its init segment first"
    assert put("manifest.mpd", b"<MPD/>") == 200
    assert put("manifest.mpd", bytes(2 << 20)) == 413
    assert hall.client.get(f"{hall.address}/manifest.mpd").status_code in (404, 405)
    assert put("..%2f..%2fetc%2fpasswd", b"<html></html>") == 415
    # In the middle of a body of 12 MB the reason arrives, too, and no reset in its place.
    assert put("long.m4s", b"<html>" * (2 << 20)) == 415
    wait_for(lambda: hall.channel()["publisher"]["publishers"] == 0, "nobody")
    # A segment that breaks off is nobody's, and the stream goes on with the next one.
    assert put("init-stream0.m4s", init) == 200
    assert put("chunk-stream0-00001.m4s", segment[:-100]) == 200
    assert put("chunk-stream0-00002.m4s", (recorded / "chunk-stream0-00002.m4s").read_bytes()) == 200
    assert hall.channel()["publisher"]["publishers"] == 1
    assert put("manifest.mpd", b'<MPD type="static"/>') == 200
    hall.wait_for_state("idle")
    assert put("init-stream0.m4s", init) == 200
    assert put("chunk-stream0-00001.m4s", bytes(len(segment))) == 415
    assert "neither MPEG-TS nor" in hall.channel()["publisher"]["last_error"]
