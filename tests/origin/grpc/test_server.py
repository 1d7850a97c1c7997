"""A real server with gRPC: over TLS, when its certificate is renewed, at its end, and without the extra."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.certificates import self_signed
from tests.conftest import START_SECONDS, start_server
from tests.event_server import LIMIT, TOKEN
from tests.grpc_events import KEY, PROTOS, SERVICES
from tests.ports import kept_port, listens
from tests.waiting import wait_for

CONFIG = f"""
[library]
access = "signed"
[tls]
certificate = "chain.pem"
key = "key.pem"
port = 0

[[events]]
name = "news"
publish_token = "{TOKEN}"
"""


def stub_of(port: int, folder: Path) -> Any:
    trusted = grpc.ssl_channel_credentials((folder / "chain.pem").read_bytes())
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.secure_channel(f"127.0.0.1:{port}", trusted, options)
    grpc.channel_ready_future(channel).result(LIMIT)
    return SERVICES.EventsStub(channel)


def test_readers_stay_when_the_certificate_is_renewed_and_are_to_come_again_when_the_server_ends(
    tmp_path: Path,
) -> None:
    self_signed(tmp_path)
    (tmp_path / "headwater.toml").write_text(CONFIG)
    with kept_port() as port:
        server = start_server("--port", "0", cwd=tmp_path, env={"HEADWATER_GRPC_PORT": str(port)})
        wait_for(lambda: f"gRPC is at 127.0.0.1:{port}" in server.text(), "the announcement")
        events = stub_of(port, tmp_path).Subscribe(PROTOS.SubscribeRequest(channel="news"), timeout=LIMIT)
        self_signed(tmp_path)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "certificates read again" in server.text(), "the renewed certificate")
        published = stub_of(port, tmp_path).Publish(
            PROTOS.PublishRequest(channel="news", data="hello"), metadata=KEY, timeout=LIMIT
        )
        assert next(events).id == published.id
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=LIMIT) as answer:
            metrics = answer.read().decode()
        assert 'headwater_events_readers{channel="news"} 1.0' in metrics
        assert 'headwater_requests_total{area="events",status="200"} 1.0' in metrics
        assert server.stop() == 0
        try:
            ended = [one.event for one in events]
        except grpc.RpcError as error:
            ended = [error.code(), error.details()]
        assert ended == [grpc.StatusCode.UNAVAILABLE, "the server restarts"]


@pytest.mark.promise("grpc.port")
@pytest.mark.clause("A client that vanished is noticed")
def test_the_kernel_probes_clients_that_are_silent(tmp_path: Path) -> None:
    """The column of timers in proc(5), net/tcp: 02 is one of keepalive."""
    with kept_port() as port:
        server = start_server(
            "--port", "0", "--library", str(tmp_path), cwd=tmp_path, env={"HEADWATER_GRPC_PORT": str(port)}
        )
        wait_for(lambda: listens(port), "gRPC")

        def timers_of(client: socket.socket) -> list[str]:
            ends = [f":{one:04X}" for one in (port, client.getsockname()[1])]
            lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            return [one[5] for one in lines if one[1].endswith(ends[0]) and one[2].endswith(ends[1])]

        with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
            wait_for(lambda: [one[:3] for one in timers_of(client)] == ["02:"], "a timer of keepalive")
        assert server.stop() == 0


def test_without_the_extra_grpc_is_refused_in_a_line(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['grpc'] = None\n"
        "sys.argv = ['headwater', 'serve', '--port', '0']\n"
        "from origin.cli.main import main\nmain()"
    )
    env = {"HEADWATER_GRPC_PORT": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "install headwater[grpc]" in done.stderr
