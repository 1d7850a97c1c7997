"""Publishing over HTTP by real encoders: who is let in, what is played, and what publishers are told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.copied_channel import copied_channel
from tests.keys import ADMIN_TOKEN
from tests.origin.ingest.studio import KEY, Studio, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A channel that each test finds without publishers, and leaves so."""
    with studio(tmp_path_factory.mktemp("studio")) as one:
        yield one


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of MPEG-TS in a file."""
    path = tmp_path_factory.mktemp("recorded") / "stream.ts"
    arguments = encoder_arguments(more="-t 3").replace("-re ", "")
    subprocess.run(["ffmpeg", *arguments.split(), str(path)], check=True)
    return path


@pytest.mark.promise("POST /live/CHANNEL/ingest", "live.source", "live.publish_key", "live.ladder")
@pytest.mark.clause("ffmpeg publishes to a live channel with -method PUT, in four containers")
@pytest.mark.parametrize(
    ("container", "more", "method"),
    [
        ("mpegts", "", "PUT"),
        ("flv", "", "POST"),
        ("matroska", "", "PUT"),
        ("webm", "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libopus", "POST"),  # VP8
        ("mp4", "-movflags frag_keyframe+empty_moov", "PUT"),
        ("mp4", "-movflags cmaf+empty_moov -frag_duration 200000", "POST"),
    ],
)
def test_ffmpeg_publishes_to_a_channel(hall: Studio, container: str, more: str, method: str) -> None:
    hall.wait_for_state("idle")
    before = hall.media_playlist_so_far()
    if container == "webm":
        words = encoder_arguments(container, coding=more).split()
    else:
        words = encoder_arguments(container, more=more).split()
    arguments = [*words, "-method", method, f"{hall.address}?key={KEY}"]
    with encoding(*arguments) as encoder:
        hall.wait_for_timeline(before)
        hall.wait_for_state("live")
        wait_for(lambda: hall.channel()["publisher"].get("keyframe_interval"), "a second key frame")
        # Two key frames that come at once on a busy machine are sooner known than bits by the second.
        wait_for(lambda: hall.channel()["publisher"]["bitrate"], "a second of bits")
        told = hall.channel()["publisher"]
        assert (told["on_air"], told["protocol"], told["container"]) == (
            *(True, "http"),
            container.replace("webm", "matroska"),
        )
        assert (told["width"], told["height"], told["frame_rate"]) == (160, 120, 10)
        assert told["video_codec"] == ("vp8" if container == "webm" else "h264")
        assert told["keyframe_interval"] == pytest.approx(1, abs=0.11)
        assert told["bitrate"] > 1000
        metrics = hall.client.get(f"{hall.server.url}/metrics").text
        assert 'headwater_live_publishers{channel="studio"} 1.0\n' in metrics
        encoder.send_signal(signal.SIGINT)  # as who presses q: the body gets its end
        assert encoder.wait(CLIENT_SECONDS) in (0, 255)
    hall.wait_for_state("idle")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-T", "FILE", "ADDRESS?key=KEY"],
        ["-T", "-", "ADDRESS?key=KEY"],
        ["-X", "POST", "-T", "FILE", "-H", "Authorization: Bearer KEY", "ADDRESS"],
        ["-T", "FILE", "-u", "anybody:KEY", "ADDRESS"],
        ["-T", "FILE", "-H", "Expect: 100-continue", "-u", "anybody:TOKEN", "ADDRESS"],
        ["--http1.0", "-T", "FILE", "ADDRESS?key=KEY"],
    ],
    ids=" ".join,
)
def test_curl_uploads_a_stream(hall: Studio, recorded: Path, arguments: list[str]) -> None:
    """With a length or chunked; it is answered when all has been taken, at the pace at which it is played."""
    hall.wait_for_state("idle")
    given = {"FILE": str(recorded), "ADDRESS": hall.address, "KEY": KEY, "TOKEN": ADMIN_TOKEN}
    for name, value in given.items():
        arguments = [one.replace(name, value) for one in arguments]
    with recorded.open("rb") as stream:
        run = subprocess.run(
            ["curl", "-sS", "-w", "%{http_code}", *arguments],
            stdin=stream,
            capture_output=True,
            text=True,
            timeout=CLIENT_SECONDS,
        )
    assert (run.stdout, run.stderr) == ("200", "")
    hall.wait_for_state("idle")


def ask(hall: Studio, head: str, body: bytes = b"") -> bytes:
    """Send a request, and give all that is answered until the connection closes."""
    host, port = hall.server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), CLIENT_SECONDS) as client:
        client.sendall(head.replace("\n", "\r\n").encode() + body)
        found = b""
        while data := client.recv(4096):
            found += data
    return found


@pytest.mark.clause("RFC 9110 §10.1.1", "A publisher's key is checked before a byte of its stream is read")
@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        ("studio/ingest", "", 401),
        ("studio/ingest?key=wrong", "", 401),
        ("studio/ingest?key=", "", 401),
        ("studio/ingest", "Authorization: Bearer wrong\n", 401),
        ("studio/ingest?key=%FF%00", "", 401),
        ("nowhere/ingest?key=KEY", "", 404),
        ("%2e%2e%2f/ingest?key=KEY", "", 404),
        ("..%2f..%2ftmp%2fpwned/ingest?key=KEY", "", 404),
        ("studio/ingest?key=KEY", "Origin: https://elsewhere.example\n", 403),
        ("studio/ingest?key=KEY", "Sec-Fetch-Site: cross-site\n", 403),
    ],
)
def test_a_stranger_is_refused_before_the_body_is_asked_for(
    hall: Studio, path: str, more: str, status: int
) -> None:
    head = (
        f"PUT /live/{path.replace('KEY', KEY)} HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding: chunked\n"
        f"Expect: 100-continue\nConnection: close\n{more}\n"
    )
    answer = ask(hall, head)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"100 Continue" not in answer
    assert hall.channel()["state"] == "idle"


@pytest.mark.clause("What is no stream is refused with its reason, and a channel isn't shown as live for it")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        os.urandom(100_000),
        b"\x89PNG\r\n\x1a\n" + bytes(50_000),
        b"<!DOCTYPE html><title>no stream</title>" * 1000,
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n" * 500,
        b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + b"\xff" * 50_000,
        (b"\x47\x1f\xff\x10" + bytes(184)) * 100,
        b"\x1aE\xdf\xa3\x80" + bytes(50_000),
        b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x01mdat" + b"\xff" * 50_000,
    ],
    ids=["nothing", "noise", "a picture", "a page", "a playlist", "tags", "null packets", "EBML", "boxes"],
)
def test_what_is_no_stream_is_refused(hall: Studio, body: bytes) -> None:
    before = hall.server.text().count("publisher is on air")
    head = (
        f"PUT /live/studio/ingest?key={KEY} HTTP/1.1\nHost: 127.0.0.1\nContent-Length: {len(body)}\n"
        "Connection: close\n\n"
    )
    answer = ask(hall, head, body)
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"not a stream that can be published: " in answer
    assert hall.channel()["state"] == "idle"
    assert hall.server.text().count("publisher is on air") == before


@pytest.mark.clause("Another publisher with the key takes over, one without it disturbs nobody")
def test_a_second_publisher_takes_over_and_a_stranger_does_not(hall: Studio) -> None:
    hall.wait_for_state("idle")
    address, before = f"{hall.address}?key={KEY}", hall.media_playlist_so_far()
    with encoding(*encoder_arguments().split(), "-method", "PUT", address) as first:
        playlist = hall.wait_for_timeline(before)
        with encoding(*encoder_arguments().split(), "-method", "PUT", f"{hall.address}?key=wrong") as other:
            assert other.wait(CLIENT_SECONDS) != 0
        assert first.poll() is None
        with encoding(*encoder_arguments("flv", "320x240").split(), "-method", "PUT", address) as second:
            assert first.wait(CLIENT_SECONDS) is not None
            playlist = hall.wait_for_timeline(playlist)
            assert second.poll() is None
    wait_for(lambda: "another publisher took over" in hall.server.text(), "the log")
    assert KEY not in hall.server.text()
    hall.wait_for_state("idle")


@pytest.mark.promise("limits.publisher_seconds")
def test_a_publisher_that_is_silent_is_disconnected_and_told_so(tmp_path: Path, recorded: Path) -> None:
    """Single bytes now and then are no stream."""
    with studio(tmp_path, limits={"publisher_seconds": 1}) as short:
        body = recorded.read_bytes()[:20_000]
        head = (
            f"PUT /live/studio/ingest?key={KEY} HTTP/1.1\nHost: 127.0.0.1\n"
            "Content-Length: 1000000\nConnection: close\n\n"
        )
        answer = ask(short, head, body)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"nothing of a stream came for 1 s" in answer
        short.wait_for_state("idle")


def test_a_key_is_made_and_kept_and_opens_the_channel(tmp_path: Path, recorded: Path) -> None:
    data = tmp_path / "data"
    head = f'[server]\ndata = "{data}"\n'
    channel = '[[live]]\nname = "other"\nsource = "publish"\nladder = ["240p"]\n'
    with studio(tmp_path, more=channel, head=head) as first:
        line = wait_for(
            lambda: next((one for one in first.server.output if "live/other/ingest" in one), ""),
            "the key",
        )
        key = line.split("/live/other/ingest?key=")[1].split(" ")[0]
        answer = first.client.put(f"{first.server.url}/live/other/ingest?key={key}", content=b"no stream")
        assert answer.status_code == 415
        assert first.client.put(f"{first.server.url}/live/other/ingest?key={KEY}").status_code == 401
        assert first.client.put(f"{first.address}?key={key}").status_code == 401
    with studio(tmp_path, more=channel, head=head) as second:
        assert key not in second.server.text()
        answer = second.client.put(f"{second.server.url}/live/other/ingest?key={key}", content=b"no stream")
        assert answer.status_code == 415


def test_a_channel_of_another_source_takes_no_publisher(tmp_path: Path) -> None:
    channel = copied_channel("film", f'publish_key = "{KEY}"')
    with studio(tmp_path, more=channel) as one:
        answer = one.client.put(f"{one.server.url}/live/film/ingest?key={KEY}", content=b"x")
        assert answer.status_code == 403
        assert answer.text == "this channel takes no publisher\n"
        assert one.client.get(one.address).status_code == 405
