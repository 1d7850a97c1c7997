"""What is published to a channel is pushed on to RTMP and SRT addresses of another server, with retries."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificate, self_signed
from tests.origin.ingest.studio import CHANNEL, KEY, Studio, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.srt import udp_port
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

TS = encoder_arguments("mpegts").split()
FLV = encoder_arguments("flv").split()
FAR_KEY = "of-the-far-one-91c2"


@dataclass
class Relay:
    """A server whose channel ``studio`` is pushed on to the channels ``far`` and ``srt`` of another one.

    Attributes:
        near: the one that is published to.
        far: the other one.
        rtmp_port: of the first.
    """

    near: Studio
    far: Studio
    rtmp_port: int

    def forwards(self) -> list[dict[str, Any]]:
        """Give what the list of channels tells of the pushing."""
        told: list[dict[str, Any]] = self.near.channel()["publisher"]["forwards"]
        return told

    def is_on_air(self, name: str) -> bool:
        """Tell whether a channel of the far server has a publisher."""
        return bool(self.far.channel(name)["publisher"]["on_air"])

    def wait_until_played(self, name: str) -> None:
        """Wait until a channel of the far server has media that is listed."""
        wait_for(lambda: "#EXTINF" in self.far.media_playlist(name), f"the channel {name}")


def running_programs() -> Iterator[bytes]:
    """Give the arguments of all programs of this machine."""
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            yield one.read_bytes()


def far_head(rtmp_port: int, srt_port: int) -> str:
    """Configure the far server."""
    channels = "".join(
        f'\n[[live]]\nname = "{name}"\npublish_key = "{FAR_KEY}"\n{CHANNEL}' for name in ("far", "again")
    )
    return f"[server]\nrtmp_port = {rtmp_port}\nsrt_port = {srt_port}\n{channels}"


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """Two servers; the first one pushes over RTMP and SRT, and to somewhere where nobody is."""
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    with kept_port() as rtmp, kept_port() as own, kept_port() as nobody:
        srt = udp_port()
        targets = [
            f"rtmp://localhost:{rtmp}/live/far?key={FAR_KEY}",
            f"srt://127.0.0.1:{srt}?streamid=publish:again:{FAR_KEY}",
            f"rtmp://127.0.0.1:{nobody}/live/{FAR_KEY}",
        ]
        with (
            studio(far, head=far_head(rtmp, srt)) as other,
            studio(near, f"forward = {targets}", f"[server]\nrtmp_port = {own}\n") as one,
        ):
            yield Relay(one, other, own)

            for secret in (KEY, FAR_KEY):
                assert secret not in one.server.text()
        assert "Traceback" not in one.server.text()
        assert "Traceback" not in other.server.text()


@pytest.mark.promise("live.forward")
@pytest.mark.clause("A channel is pushed on to RTMP and SRT addresses, each with its own retry")
@pytest.mark.parametrize("protocol", ["http", "rtmp"])
def test_what_is_published_is_pushed_on(relay: Relay, protocol: str) -> None:
    arguments = [*TS, "-method", "PUT", f"{relay.near.address}?key={KEY}"]
    if protocol == "rtmp":
        arguments = [*FLV, f"rtmp://127.0.0.1:{relay.rtmp_port}/live/studio?key={KEY}"]
    with encoding(*arguments):
        relay.wait_until_played("far")
        relay.wait_until_played("again")
        over_rtmp, over_srt, nowhere = relay.forwards()
        assert over_rtmp["state"] == over_srt["state"] == "sending"
        assert over_rtmp["sent_bytes"] > 0
        assert relay.far.channel("far")["publisher"]["protocol"] == "rtmp"
        assert relay.far.channel("again")["publisher"]["protocol"] == "srt"
        writers = [one for one in running_programs() if b"avio_writer" in one]
        assert writers
        assert not [one for one in writers if FAR_KEY.encode() in one]
        # One that nobody takes disturbs neither the channel nor the others.
        wait_for(lambda: relay.forwards()[2]["failures"] > 1, "another attempt")
        assert "refused" in relay.forwards()[2]["last_error"]
        assert nowhere["sent_bytes"] == 0 or nowhere["state"] != "sending"
        relay.near.wait_for_state("live")
        assert FAR_KEY not in relay.near.client.get(f"{relay.near.server.url}/api/live").text
        metrics = relay.near.client.get(f"{relay.near.server.url}/metrics").text
        assert (
            f'headwater_forward_sending{{channel="studio",number="1",target="{over_rtmp["target"]}"}} 1.0'
            in metrics
        )
    # With the publisher they go, and come again with the next one.
    wait_for(lambda: not relay.is_on_air("far") and not relay.is_on_air("again"), "the end of both")
    with encoding(*arguments):
        wait_for(lambda: relay.is_on_air("far") and relay.is_on_air("again"), "the next publisher")


def test_a_far_server_that_ends_the_stream_gets_it_again(relay: Relay) -> None:
    with encoding(*TS, "-method", "PUT", f"{relay.near.address}?key={KEY}"):
        relay.wait_until_played("far")
        since = relay.far.channel("far")["publisher"]["since"]
        # Somebody else takes its place, and goes.
        with encoding(*TS, "-method", "PUT", f"{relay.far.server.url}/live/far/ingest?key={FAR_KEY}"):
            wait_for(lambda: relay.forwards()[0]["failures"] > 0, "the end of the first stream")
        wait_for(lambda: relay.far.channel("far")["publisher"].get("since", since) > since, "another stream")
        wait_for(lambda: relay.forwards()[0]["state"] == "sending", "the next attempt")


def test_a_server_that_ends_while_it_pushes_ends_cleanly(relay: Relay) -> None:
    """``studio`` sees the status, and ``relay`` that no error was logged."""
    arguments = [*FLV, f"rtmp://127.0.0.1:{relay.rtmp_port}/live/studio?key={KEY}"]
    with encoding(*arguments):
        wait_for(lambda: relay.forwards()[1]["state"] == "sending", "the pushing")
        wait_for(lambda: relay.forwards()[2]["failures"] > 0, "the failure")
        assert relay.near.server.stop() == 0
        wait_for(lambda: relay.far.channel("far")["state"] == "idle", "the end of the far stream")


class TlsFront(socketserver.ThreadingTCPServer):
    """Takes TLS from clients, and carries what is in it to a port, and back."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, certificate: Certificate, port: int) -> None:
        super().__init__(("127.0.0.1", 0), TlsFrontHandler)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate.chain, certificate.key)
        self.behind = port
        self.carried = 0


class TlsFrontHandler(socketserver.BaseRequestHandler):
    server: TlsFront

    def handle(self) -> None:
        with (
            contextlib.suppress(OSError),
            self.server.context.wrap_socket(self.request, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self.server.behind)) as behind,
        ):
            back = threading.Thread(target=self.carry_back, args=(behind, client), daemon=True)
            back.start()
            while data := client.recv(1 << 16):
                self.server.carried += len(data)
                behind.sendall(data)
            behind.shutdown(socket.SHUT_WR)
            back.join(CLIENT_SECONDS)

    def carry_back(self, behind: socket.socket, client: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            while data := behind.recv(1 << 16):
                client.sendall(data)


@contextlib.contextmanager
def tls_front(certificate: Certificate, port: int) -> Iterator[TlsFront]:
    with TlsFront(certificate, port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.clause("CWE-295", "A channel is pushed on over RTMPS to who has a trusted certificate alone")
def test_a_stream_goes_over_tls_only_to_whom_a_trusted_certificate_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("near", "far", "trusted", "strange")]
    for folder in folders:
        folder.mkdir()
    near, far, *_ = folders
    trusted, strange = (self_signed(folder) for folder in folders[2:])
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.chain))
    with (
        kept_port() as rtmp,
        tls_front(trusted, rtmp) as front,
        tls_front(strange, rtmp) as stranger,
        studio(far, head=far_head(rtmp, 0)) as other,
    ):
        ports = [server.server_address[1] for server in (front, stranger)]
        targets = [
            f"rtmps://{host}:{port}/live/{name}?key={FAR_KEY}"
            for host, port, name in (
                ("127.0.0.1", ports[0], "far"),
                ("127.0.0.1", ports[1], "again"),
                ("localhost", ports[0], "again"),
            )
        ]
        with (
            studio(near, f"forward = {targets}") as one,
            encoding(*TS, "-method", "PUT", f"{one.address}?key={KEY}"),
        ):
            relay = Relay(one, other, 0)
            relay.wait_until_played("far")
            assert relay.forwards()[0]["state"] == "sending"
            assert front.carried > 0
            wait_for(lambda: all(told["failures"] > 1 for told in relay.forwards()[1:]), "both refusals")
            assert all("ertificate" in told["last_error"] for told in relay.forwards()[1:])
            assert stranger.carried == 0, "nothing of the stream and its key"
            assert not relay.is_on_air("again")
            assert FAR_KEY not in one.server.text()
