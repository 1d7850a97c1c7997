"""Publishing over RTMP by real encoders: who is let in, what is played, and what publishers are told."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from media.flv.amf0 import Value
from media.rtmp import chunks
from media.rtmp.chunks import Message, write_message
from origin.ingest.limits import IngestLimits
from tests.conftest import start_server
from tests.descriptors import descriptors
from tests.media.rtmp.newer_ffmpeg import newer_ffmpeg
from tests.origin.ingest.rtmp_refusals import FLV, refused
from tests.origin.ingest.studio import KEY, PATIENT, PROMPT, Studio, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.rtmp import HANDSHAKE, command, publishing
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)


@dataclass
class RtmpStudio:
    """A server with the channel ``studio``, and the port to which it is published."""

    studio: Studio
    port: int

    @property
    def address(self) -> str:
        """What is typed into OBS as the server."""
        return f"rtmp://127.0.0.1:{self.port}/live"


def rtmp_studio(folder: Path, more: str = "", limits: Mapping[str, float] = PATIENT) -> Iterator[RtmpStudio]:
    with kept_port() as port, studio(folder, more, f"[server]\nrtmp_port = {port}\n", limits=limits) as one:
        yield RtmpStudio(one, port)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtmpStudio]:
    """A channel that each test finds without publishers, and leaves so."""
    yield from rtmp_studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture
def patient_hall(tmp_path: Path) -> Iterator[RtmpStudio]:
    """A channel of a test's own that keeps its first publisher."""
    yield from rtmp_studio(tmp_path, 'takeover = "refuse"')


@pytest.fixture
def prompt_hall(tmp_path: Path) -> Iterator[RtmpStudio]:
    """A channel of a test's own that waits for no publisher that stands still."""
    yield from rtmp_studio(tmp_path, limits=PROMPT)


def ways_to_publish() -> list[list[str]]:
    """Give ffmpeg's outputs, as its users write them; ADDRESS is that of the server."""
    return [
        [f"ADDRESS/studio?key={KEY}"],
        ["-rtmp_playpath", f"studio?key={KEY}", "ADDRESS"],
        ["-rtmp_app", f"live?key={KEY}", "ADDRESS/studio"],
        ["-rtmp_tcurl", f"rtmp://127.0.0.1/live?key={KEY}", "ADDRESS/studio"],
        ["-rtmp_tcurl", f"rtmp://anybody:{KEY}@127.0.0.1/live", "ADDRESS/studio"],
    ]


@pytest.mark.promise("server.rtmp_port")
@pytest.mark.clause("ffmpeg publishes to a live channel over RTMP with its key in any of the usual places")
@pytest.mark.parametrize("output", ways_to_publish(), ids=lambda one: one[0].replace(KEY, "KEY"))
def test_ffmpeg_publishes_to_a_channel(hall: RtmpStudio, output: list[str]) -> None:
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    with encoding(*FLV, *(one.replace("ADDRESS", hall.address) for one in output)) as encoder:
        hall.studio.wait_for_timeline(before)
        hall.studio.wait_for_state("live")
        encoder.send_signal(signal.SIGINT)
        assert encoder.wait(CLIENT_SECONDS) in (0, 255)
    hall.studio.wait_for_state("idle")


@pytest.mark.clause("A publisher is told why it is refused, before a byte of its stream is read")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("live/studio", "publish_key"),
        ("live/studio?key=wrong", "publish_key"),
        ("live/studio?key=", "publish_key"),
        (f"live/nowhere?key={KEY}", "no such channel"),
        (f"live/..%2f..%2ftmp%2fpwned?key={KEY}", "no such channel"),
        (f"other/studio?key={KEY}", "application"),
        (f"live/../../../../tmp/pwned?key={KEY}", "application"),
    ],
)
def test_a_stranger_is_told_why(hall: RtmpStudio, path: str, reason: str) -> None:
    hall.studio.wait_for_state("idle")
    told = refused([*FLV, f"rtmp://127.0.0.1:{hall.port}/{path}"])
    assert reason in told
    assert hall.studio.channel()["state"] == "idle"


def test_the_newer_publisher_takes_over_and_the_older_one_is_told(hall: RtmpStudio) -> None:
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    target = f"{hall.address}/studio?key={KEY}"
    with encoding(*FLV, target) as older:
        listed = hall.studio.wait_for_timeline(before)
        # Somebody who has no key disturbs nobody.
        assert "publish_key" in refused([*FLV, f"{hall.address}/studio?key=wrong"])
        assert older.poll() is None
        with encoding(*FLV, target):
            hall.studio.wait_for_timeline(listed)
            assert older.wait(CLIENT_SECONDS) != 0
            hall.studio.wait_for_state("live")
    hall.studio.wait_for_state("idle")


@pytest.mark.promise("live.takeover")
def test_a_second_publisher_is_refused_where_the_first_is_kept(patient_hall: RtmpStudio) -> None:
    target = f"{patient_hall.address}/studio?key={KEY}"
    with encoding(*FLV, target) as first:
        patient_hall.studio.wait_for_timeline()
        assert "has a publisher" in refused([*FLV, target])
        assert first.poll() is None
        patient_hall.studio.wait_for_state("live")


@pytest.mark.clause("A publisher that is frozen is noticed in seconds, and one that is gone at once")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_publisher_that_stops_is_noticed_and_may_come_again(prompt_hall: RtmpStudio, number: int) -> None:
    one, target = prompt_hall.studio, f"{prompt_hall.address}/studio?key={KEY}"
    with encoding(*FLV, target) as encoder:
        listed = one.wait_for_timeline()
        os.kill(encoder.pid, number)
        one.wait_for_state("idle")
        with encoding(*FLV, target):
            one.wait_for_timeline(listed)
    one.wait_for_state("idle")


def test_twenty_reconnects_leave_the_channel_playing(hall: RtmpStudio) -> None:
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    target = f"{hall.address}/studio?key={KEY}"
    short = encoder_arguments("flv", more="-t 0.3").replace("-re ", "").split()
    for _ in range(20):
        subprocess.run(
            ["ffmpeg", *short, target], check=True, timeout=CLIENT_SECONDS, stdin=subprocess.DEVNULL
        )
    with encoding(*FLV, target):
        hall.studio.wait_for_state("live")
        hall.studio.wait_for_timeline(before)
    hall.studio.wait_for_state("idle")


def answered(hall: RtmpStudio, data: bytes, *, end: bool = True, up_to: bytes | None = None) -> bytes:
    """Send bytes, and give what is answered: up to some bytes, or until the connection closes."""
    with socket.create_connection(("127.0.0.1", hall.port), CLIENT_SECONDS) as client:
        client.settimeout(CLIENT_SECONDS)
        found = b""
        try:
            client.sendall(data)
            if end:
                client.shutdown(socket.SHUT_WR)
            while (up_to is None or up_to not in found) and (received := client.recv(65536)):
                found += received
        except ConnectionError:
            pass  # what it still sends isn't read
    return found


BOMB = write_message(
    3, Message(chunks.COMMAND, 0, 0, b"\2\0\x07connect\0" + bytes(8) + b"\3\0\1a" * 5000), 128
)


@pytest.mark.clause("CWE-770")
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01" + bytes(500),
        b"\3" + bytes(100),
        HANDSHAKE,
        HANDSHAKE + b"\xc6" * 70_000,
        HANDSHAKE + b"\2\0\0\0\0\0\4\1\0\0\0\0\0\0\0\0",
        HANDSHAKE + b"\2\0\0\0\0\0\4\1\0\0\0\0\0\1\0\0" * 10_000,
        HANDSHAKE + b"\3\0\0\0\xff\xff\xff\x14\0\0\0\0" + bytes(200_000),
        HANDSHAKE + BOMB,
        HANDSHAKE + command("createStream", 1, None),
        publishing("studio?key=wrong") + bytes(500_000),
        publishing(f"studio?key={KEY}") + b"\x06\0\0\0\xff\xff\xff\x09\1\0\0\0" + bytes(200_000),
    ],
    ids=lambda one: f"{len(one)} bytes",
)
def test_what_is_no_stream_ends_the_connection_and_disturbs_nobody(hall: RtmpStudio, data: bytes) -> None:
    answered(hall, data)
    hall.studio.wait_for_state("idle")


def test_a_connection_that_never_publishes_is_closed(hall: RtmpStudio) -> None:
    # It would wait for ever.
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda data: answered(hall, data, end=False), (b"", b"\3", HANDSHAKE)))
    hall.studio.wait_for_state("idle")


@pytest.mark.clause("CWE-770")
@pytest.mark.parametrize(
    "data", [HANDSHAKE[:100], publishing("studio?key=guess")], ids=["no handshake", "wrong keys"]
)
def test_connections_of_strangers_leave_publishers_their_place(hall: RtmpStudio, data: bytes) -> None:
    right = publishing(f"studio?key={KEY}") + command("deleteStream", 6, None, 1)
    with contextlib.ExitStack() as stack:
        for _ in range(IngestLimits().rtmp_connections + 50):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", hall.port), CLIENT_SECONDS))
            one.sendall(data)
            if len(data) > len(HANDSHAKE):
                one.recv(1)  # what follows has been judged, too, or soon is
        assert b"NetStream.Publish.Start" in answered(hall, right)
    hall.studio.wait_for_state("idle")


@pytest.mark.clause("CWE-772")
def test_connections_that_read_nothing_are_closed(hall: RtmpStudio) -> None:
    pid = hall.studio.server.process.pid
    before = descriptors(pid)
    # Of small segments the kernel keeps little: the rest of the answers stays in the server.
    questions = HANDSHAKE + command("connect", 1, {"app": "live"}) + command("createStream", 2, None) * 300
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 88)
            one.connect(("127.0.0.1", hall.port))
            one.sendall(questions)
        wait_for(lambda: descriptors(pid) >= before + 10, "the connections")
        wait_for(lambda: descriptors(pid) <= before + 2, "their end")


@pytest.mark.clause("CWE-770")
def test_a_publisher_that_sends_single_bytes_of_a_message_is_told_to_go(hall: RtmpStudio) -> None:
    with socket.create_connection(("127.0.0.1", hall.port), CLIENT_SECONDS) as client:
        client.sendall(publishing(f"studio?key={KEY}") + b"\6\0\0\0\x80\0\0\x09\1\0\0\0\x17")
        client.settimeout(1)
        told = b""

        def is_told() -> bool:
            nonlocal told
            with contextlib.suppress(TimeoutError):
                told += client.recv(65536)
            with contextlib.suppress(ConnectionError):
                client.send(b"a")
            return b"no whole message came" in told

        wait_for(is_told, "the refusal")
    hall.studio.wait_for_state("idle")


def test_guessing_keys_is_slowed_down_and_the_right_one_is_not(hall: RtmpStudio) -> None:
    guess = publishing("studio?key=guess")
    for _ in range(8):
        began = time.monotonic()
        assert b"publish_key" in answered(hall, guess, end=False, up_to=b"publish_key")
    # Behind the fifth answers are held back: for 0.1 s, and twice as long each time.
    assert time.monotonic() - began > 0.3
    right = publishing(f"studio?key={KEY}")
    assert b"NetStream.Publish.Start" in answered(hall, right + command("deleteStream", 6, None, 1))


def test_a_server_that_ends_tells_its_publishers(tmp_path: Path) -> None:
    with kept_port() as port, studio(tmp_path, "", f"[server]\nrtmp_port = {port}\n") as one:
        hall = RtmpStudio(one, port)
        client = socket.create_connection(("127.0.0.1", port), CLIENT_SECONDS)
        able: dict[str, Value] = {"app": "live", "tcUrl": hall.address, "capsEx": 1.0}
        client.sendall(HANDSHAKE + command("connect", 1, able))
        client.sendall(command("publish", 5, None, f"studio?key={KEY}", "live", stream=1))
        found = bytearray()

        def received(what: bytes) -> bool:
            found.extend(client.recv(65536))
            return what in found

        wait_for(lambda: received(b"NetStream.Publish.Start"), "the server's yes")
        one.server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: received(b"NetConnection.Connect.ReconnectRequest"), "its farewell")
    # The server doesn't wait for a publisher that stays.
    client.close()
    assert "Traceback" not in one.server.text()


def test_codecs_that_are_not_taken_are_told_to_the_publisher(hall: RtmpStudio) -> None:
    hall.studio.wait_for_state("idle")
    picture = "-v error -re -f lavfi -i testsrc2=size=160x120:rate=10 -t 60 -c:v flv1 -f flv"
    assert refused([*picture.split(), f"{hall.address}/studio?key={KEY}"])
    wait_for(lambda: "unsupported video codec 'H.263'" in hall.studio.server.text(), "the reason in the log")


@pytest.mark.clause("Newer codecs of Enhanced RTMP are played, whatever the age of ffmpeg")
@pytest.mark.parametrize(
    "codecs",
    ["-c:v libx265 -c:a libopus", "-c:v libsvtav1 -preset 12 -c:a flac", "-c:v libvpx-vp9 -c:a eac3"],
)
def test_newer_codecs_are_played_and_others_may_follow(hall: RtmpStudio, codecs: str) -> None:
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    picture = "-nostdin -v error -re -f lavfi -i testsrc2=size=160x120:rate=10 -re -f lavfi -i sine"
    target = f"{hall.address}/studio?key={KEY}"
    arguments = [*f"{picture} {codecs} -pix_fmt yuv420p -g 10 -f flv".split(), target]
    with encoding(*arguments, program=newer_ffmpeg()):
        listed = hall.studio.wait_for_timeline(before)
        with encoding(*FLV, target):
            hall.studio.wait_for_timeline(listed)
    hall.studio.wait_for_state("idle")


def test_the_demo_has_a_channel_to_publish_to() -> None:
    with kept_port() as port:
        server = start_server("--demo", "--port", "0", env={"HEADWATER_SERVER_RTMP_PORT": str(port)})
        try:
            use = re.compile(r"Server (rtmp://\S+), Stream Key (studio\?key=\S{20,})$", re.MULTILINE)
            told = wait_for(lambda: use.search(server.text()), "what is typed into OBS")
            assert told
            assert told[1] == f"rtmp://127.0.0.1:{port}/live"
            with encoding(*FLV, f"{told[1]}/{told[2]}"):
                wait_for(lambda: studio_state(server.url) == "live", "the channel")
        finally:
            assert server.stop() == 0


def test_the_demo_takes_rtmp_at_the_usual_port_where_no_other_program_does() -> None:
    # An address of this process's own, where nothing else has that port.
    host = "127." + ".".join(str(byte) for byte in (os.getpid() % (1 << 24)).to_bytes(3, "big"))
    with kept_port() as port, kept_port() as other_port:
        server = start_server("--demo", "--host", host, "--port", str(port))
        try:
            wait_for(lambda: f"rtmp://{host}:1935/live" in server.text(), "RTMP's line")
            second = start_server("--demo", "--host", host, "--port", str(other_port))
            try:
                wait_for(lambda: "the demo takes no RTMP" in second.text(), "the second demo's warning")
                assert studio_state(server.url) == "idle"
            finally:
                assert second.stop() == 0
        finally:
            assert server.stop() == 0


def studio_state(url: str) -> str:
    found = httpx.get(f"{url}/api/live", timeout=CLIENT_SECONDS).json()
    return str(next(one["state"] for one in found if one["name"] == "studio"))


def test_gstreamer_publishes_to_a_channel(hall: RtmpStudio, tmp_path: Path) -> None:
    if not shutil.which("gst-launch-1.0"):
        pytest.skip("no GStreamer")
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    film = tmp_path / "film.flv"
    made = encoder_arguments("flv", more="-t 60").replace("-re ", "").split()
    subprocess.run(["ffmpeg", *made, str(film)], check=True)
    words = (
        f"filesrc location={film} ! flvdemux name=d d.video ! queue ! h264parse"
        " ! flvmux name=m streamable=true"
        f" ! rtmp2sink location={hall.address}/studio?key={KEY} d.audio ! queue ! aacparse ! m."
    )
    with encoding("-q", *words.split(), program="gst-launch-1.0"):
        hall.studio.wait_for_timeline(before)
    hall.studio.wait_for_state("idle")
