"""Publishing over SRT by real encoders: who is let in, what is played, and how others are refused."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import start_server
from tests.copied_channel import copied_channel
from tests.origin.ingest.srt_studio import PASSPHRASE, RIGHT, SrtStudio, srt_studio
from tests.origin.ingest.studio import (
    CHANNEL,
    KEY,
    PROMPT,
    encoder_arguments,
    encoding,
    studio,
)
from tests.patience import CLIENT_SECONDS
from tests.srt import Faults, bad_path, calling, udp_port
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

TS = encoder_arguments("mpegts").split()


OTHERS = f"""
[[live]]
name = "vault"
publish_key = "{KEY}"
srt_passphrase = "{PASSPHRASE}"
{CHANNEL}"""


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SrtStudio]:
    """A channel that each test finds without publishers, and leaves so."""
    yield from srt_studio(tmp_path_factory.mktemp("studio"), others=copied_channel("tests") + OTHERS)


@pytest.fixture
def prompt_hall(tmp_path: Path) -> Iterator[SrtStudio]:
    """A channel of a test's own that waits for no publisher that stands still."""
    yield from srt_studio(tmp_path, limits=PROMPT)


@contextlib.contextmanager
def publishing(*arguments: str, program: str = "ffmpeg") -> Iterator[subprocess.Popen[bytes]]:
    """Run an encoder that closes its connection at the end: of one that is killed SRT tells nothing."""
    with encoding(*arguments, program=program) as encoder:
        yield encoder
        encoder.send_signal(signal.SIGINT)
        encoder.wait(CLIENT_SECONDS)


@pytest.mark.promise("server.srt_port")
@pytest.mark.clause("ffmpeg publishes to a live channel over SRT with its key in any of the usual stream IDs")
@pytest.mark.parametrize(
    "stream_id", [RIGHT, f"#!::r=studio,m=publish,u=anybody,s={KEY}", f"studio?key={KEY}"]
)
def test_ffmpeg_publishes_to_a_channel(hall: SrtStudio, stream_id: str) -> None:
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    with publishing(*TS, *hall.output(stream_id)) as encoder:
        hall.studio.wait_for_timeline(before)
        hall.studio.wait_for_state("live")
        publisher = hall.studio.channel()["publisher"]
        assert (publisher["protocol"], publisher["srt_port"]) == ("srt", hall.port)
        encoder.send_signal(signal.SIGINT)
        assert encoder.wait(CLIENT_SECONDS) in (0, 255)
    hall.studio.wait_for_state("idle")


def test_gstreamer_publishes_to_a_channel(hall: SrtStudio, tmp_path: Path) -> None:
    if not shutil.which("gst-launch-1.0"):
        pytest.skip("no GStreamer")
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    film = tmp_path / "film.ts"
    made = encoder_arguments("mpegts", more="-t 60").replace("-re ", "").split()
    subprocess.run(["ffmpeg", *made, str(film)], check=True)
    words = (
        f"filesrc location={film} ! tsparse set-timestamps=true ! srtsink uri=srt://127.0.0.1:{hall.port}"
        f" streamid={RIGHT} wait-for-connection=true sync=true"
    )
    with publishing("-q", *words.split(), program="gst-launch-1.0"):
        hall.studio.wait_for_timeline(before)
        assert hall.studio.channel()["publisher"]["protocol"] == "srt"
    hall.studio.wait_for_state("idle")


def test_a_stream_id_may_stand_in_the_address_as_addresses_write_it(hall: SrtStudio) -> None:
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    address = f"srt://127.0.0.1:{hall.port}?streamid=%23!::r=studio,m=publish,s={KEY}"
    with publishing(*TS, address):
        hall.studio.wait_for_timeline(before)
    hall.studio.wait_for_state("idle")


@pytest.mark.clause("A caller of SRT is refused in its handshake with the reason for it")
@pytest.mark.parametrize(
    ("stream_id", "reason"),
    [
        ("publish:studio:wrong", 1401),
        ("publish:studio", 1401),
        ("#!::r=studio,m=publish,s=wrong", 1401),
        (f"publish:tests:{KEY}", 1403),
        (f"publish:nowhere:{KEY}", 1404),
        (f"publish:../../tmp/pwned:{KEY}", 1404),
        (f"#!::r=studio,m=request,s={KEY}", 1405),
        ("", 1400),
        (f"?key={KEY}", 1400),
        ("x" * 512, 1404),
    ],
)
def test_a_stranger_is_refused_with_a_reason(hall: SrtStudio, stream_id: str, reason: int) -> None:
    assert hall.refusal(stream_id) == reason
    assert hall.studio.channel()["publisher"]["publishers"] == 0


def test_ffmpeg_ends_at_once_where_its_key_is_wrong(hall: SrtStudio) -> None:
    run = subprocess.run(
        ["ffmpeg", *TS, *hall.output("publish:studio:wrong")],
        capture_output=True,
        timeout=CLIENT_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode != 0
    assert b"rejection" in run.stderr


def test_guessing_keys_is_slowed_down_and_ends_soon(hall: SrtStudio) -> None:
    found = [hall.refusal(f"publish:studio:guess-{count}") for count in range(12)]
    assert found[0] == 1401
    assert 1402 in found
    # Whoever has a right key that can't be guessed is let in while the guesser has to wait.
    assert hall.refusal(RIGHT) == 0
    hall.studio.wait_for_state("idle")


@pytest.mark.promise("live.srt_passphrase")
@pytest.mark.clause("A channel with a passphrase takes only SRT streams that are encrypted with it")
def test_ffmpeg_publishes_an_encrypted_stream(hall: SrtStudio) -> None:
    target = f"srt://127.0.0.1:{hall.port}?passphrase={PASSPHRASE}&pbkeylen=32"
    with publishing(*TS, "-srt_streamid", f"publish:vault:{KEY}", target):
        wait_for(lambda: "#EXTINF" in hall.studio.media_playlist("vault"), "the stream")
        assert hall.studio.channel("vault")["publisher"]["protocol"] == "srt"
        assert hall.studio.channel("vault")["publisher"]["last_error"] == ""
    wait_for(lambda: hall.studio.channel("vault")["state"] == "idle", "its end")


@pytest.mark.parametrize(
    ("stream_id", "passphrase", "key_bytes", "reason"),
    [
        (f"publish:vault:{KEY}", PASSPHRASE, 16, 0),
        (f"publish:vault:{KEY}", PASSPHRASE, 24, 0),
        (f"publish:vault:{KEY}", PASSPHRASE.upper(), 16, 10),  # SRT_REJ_BADSECRET
        (f"publish:vault:{KEY}", "", 16, 11),  # SRT_REJ_UNSECURE
        (RIGHT, PASSPHRASE, 16, 11),
        ("publish:vault", PASSPHRASE, 16, 1401),
    ],
)
def test_a_passphrase_is_checked_in_the_handshake(
    hall: SrtStudio, stream_id: str, passphrase: str, key_bytes: int, reason: int
) -> None:
    assert hall.refusal(stream_id, passphrase, key_bytes) == reason


def test_the_newer_publisher_takes_over(hall: SrtStudio) -> None:
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    with publishing(*TS, *hall.output()) as older:
        listed = hall.studio.wait_for_timeline(before)
        # Somebody who has no key disturbs nobody.
        assert hall.refusal("publish:studio") == 1401
        assert older.poll() is None
        with publishing(*TS, *hall.output()):
            hall.studio.wait_for_timeline(listed)
            assert older.wait(CLIENT_SECONDS) != 0
            hall.studio.wait_for_state("live")
    hall.studio.wait_for_state("idle")


def test_a_second_publisher_is_refused_where_the_first_is_kept(tmp_path: Path) -> None:
    for hall in srt_studio(tmp_path, 'takeover = "refuse"'):
        with publishing(*TS, *hall.output()) as first:
            hall.studio.wait_for_timeline()
            assert hall.refusal(RIGHT) == 1409
            assert first.poll() is None
            hall.studio.wait_for_state("live")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_publisher_that_stops_is_noticed_and_may_come_again(prompt_hall: SrtStudio, number: int) -> None:
    one, output = prompt_hall.studio, prompt_hall.output()
    with encoding(*TS, *output) as encoder:
        listed = one.wait_for_timeline()
        os.kill(encoder.pid, number)
        one.wait_for_state("idle")
        with publishing(*TS, *output):
            one.wait_for_timeline(listed)
    one.wait_for_state("idle")


@pytest.mark.clause("What SRT loses on its way is counted, and what is missing for good breaks no playlist")
def test_a_bad_path_is_seen_and_played_on(hall: SrtStudio) -> None:
    hall.studio.wait_for_state("idle")
    before = hall.studio.media_playlist_so_far()
    with (
        bad_path(hall.port, Faults()) as port,
        publishing(*TS, "-srt_streamid", RIGHT, f"srt://127.0.0.1:{port}") as encoder,
    ):
        listed = hall.studio.wait_for_timeline(before)

        def told() -> dict[str, Any]:
            publisher = hall.studio.channel()["publisher"]
            link = publisher["link"] or {}
            is_all = link.get("retransmitted") and link.get("dropped") and publisher["lost_packets"]
            return publisher if is_all else {}

        publisher = wait_for(told, "the losses")
        assert publisher["link"]["lost"] >= publisher["link"]["dropped"]
        assert publisher["link"]["round_trip_seconds"] > 0
        newest = media_sequence_number(listed) + 2
        wait_for(lambda: media_sequence_number(hall.studio.media_playlist()) >= newest, "more segments")
        assert hall.studio.channel()["publisher"]["since"] == publisher["since"]
        assert encoder.poll() is None
    hall.studio.wait_for_state("idle")
    # What was counted stays when the publisher has gone.
    metrics = hall.studio.client.get(f"{hall.studio.server.url}/metrics").text
    for name in ("srt_lost", "srt_retransmitted", "srt_dropped", "source_lost"):
        found = re.search(rf'\nheadwater_{name}_packets_total{{channel="studio"}} ([0-9.]+)\n', metrics)
        assert found is not None
        assert float(found[1]) > 0


def media_sequence_number(playlist: str) -> int:
    """Give the number of a playlist's first segment (RFC 8216bis §4.4.3.2)."""
    return int(playlist.partition("#EXT-X-MEDIA-SEQUENCE:")[2].partition("\n")[0])


def test_what_is_no_stream_is_disconnected_and_disturbs_nobody(hall: SrtStudio) -> None:
    hall.studio.wait_for_state("idle")
    rng = random.Random(7)
    with calling(hall.port, RIGHT) as caller:
        wait_for(lambda: not caller.send(rng.randbytes(1316)), "the end of the connection")
    wait_for(lambda: "none of MPEG-TS" in hall.studio.channel()["publisher"]["last_error"], "the reason")
    hall.studio.wait_for_state("idle")


def test_a_publisher_that_sends_nothing_is_disconnected(prompt_hall: SrtStudio) -> None:
    with calling(prompt_hall.port, RIGHT) as caller:
        assert caller.refusal == 0
        wait_for(lambda: not caller.is_connected, "the end of the connection")
    assert "nothing of a stream came" in prompt_hall.studio.channel()["publisher"]["last_error"]


def test_datagrams_that_are_no_srt_disturb_nobody(hall: SrtStudio) -> None:
    hall.studio.wait_for_state("idle")
    rng = random.Random(7)
    # The first packet of a handshake: a caller that is answered a cookie, and doesn't send it back.
    induction = bytes.fromhex("80000000" + "00000000" * 3 + "0000000400000002" + "00000000" + "000005dc")
    induction += bytes.fromhex("00002000000000010000000700000000") + bytes(16)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        for count in range(10_000):
            data = induction if count % 2 else rng.randbytes(rng.randrange(1, 1400))
            sock.sendto(data, ("127.0.0.1", hall.port))
    hall.wait_until_listening()
    before = hall.studio.media_playlist_so_far()
    with publishing(*TS, *hall.output()):
        hall.studio.wait_for_timeline(before)
    hall.studio.wait_for_state("idle")


def test_a_server_that_ends_disconnects_its_publishers(tmp_path: Path) -> None:
    """``studio`` sees that it ends by itself, ``srt_studio`` that it says nothing of an error."""
    for hall in srt_studio(tmp_path):
        encoder = subprocess.Popen(
            ["ffmpeg", *TS, *hall.output()], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        hall.studio.wait_for_state("live")
    try:
        assert encoder.wait(CLIENT_SECONDS) != 0
    finally:
        encoder.kill()
        encoder.wait()


def test_a_port_that_somebody_has_is_waited_for(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with studio(tmp_path, head=f"[server]\nsrt_port = {port}\n") as one:
            wait_for(lambda: "srt can't listen" in one.server.text(), "the warning")
            other.close()
            SrtStudio(one, port).wait_until_listening()
    assert "Traceback" not in one.server.text()


def test_a_server_without_libsrt_says_what_to_install_and_goes_on(tmp_path: Path) -> None:
    # Whoever looks for it finds something else.
    for name in ("libsrt-gnutls.so.1.5", "libsrt.so.1.5"):
        (tmp_path / name).write_text("no library\n" * 100)
    config = tmp_path / "headwater.toml"
    config.write_text(f'[server]\nsrt_port = {udp_port()}\n[library]\npath = "{tmp_path}"\n')
    environment = {"LD_LIBRARY_PATH": str(tmp_path)}
    server = start_server("--config", str(config), "--port", "0", env=environment)
    try:
        wait_for(lambda: "install libsrt1.5-gnutls" in server.text(), "the advice")
        unused = "server.srt_port: no live channel has source = 'publish'"
        wait_for(lambda: unused in server.text(), "the warning")
    finally:
        assert server.stop() == 0
    assert "Traceback" not in server.text()
